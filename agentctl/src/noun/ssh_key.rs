//! `agentctl ssh-key`: public keys. Private keys are refused before anything is sent.

use std::path::{Path, PathBuf};
use std::time::Duration;

use agentd_api::ssh_key::{self, public_key_error};
use agentd_api::{Kind, KindDef};
use agentd_client::AnyObject;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::app::App;
use crate::failure::{Exit, Failure};
use crate::noun::vm::read_bounded;
use crate::target::name_from;
use crate::verb::create::{self, Create, Until};
use crate::verb::list::List;
use crate::verb::remove::Remove;
use crate::verb::show::Show;
use crate::wait::WaitArgs;
use crate::wait::goal::Goal;

const DEF: &KindDef = ssh_key::SshKey::DEF;
const KEY_MAX: usize = 64 << 10;

#[derive(Debug, Subcommand)]
pub enum SshKey {
    /// Keep a public key under a name
    Create(CreateKey),
    /// List keys
    #[command(visible_alias = "ls")]
    List(List),
    /// Show all about keys
    Show(Show),
    /// Delete keys; VMs that were given them keep them
    Rm(Remove),
}

#[derive(Debug, Args)]
pub struct CreateKey {
    #[arg(value_name = "NAME")]
    name: String,
    /// The .pub file; - reads it from stdin
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Check everything, change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    wait: WaitArgs,
}

impl SshKey {
    pub async fn run(self, app: &App) -> Result<(), Failure> {
        match self {
            Self::Create(create) => create.run(app).await,
            Self::List(list) => list.run(app, DEF).await,
            Self::Show(show) => show.run(app, DEF).await,
            Self::Rm(remove) => remove.run(app, DEF).await,
        }
    }
}

impl CreateKey {
    async fn run(self, app: &App) -> Result<(), Failure> {
        let key = read(&self.file)?;
        let create =
            Create { def: DEF, name: &self.name, draft: draft(&self.name, &key), dry_run: self.dry_run };
        let Some(object) = create.send(app).await? else { return Ok(()) };
        let usual = Duration::from_secs(30);
        create::finish(app, DEF, object, Until { goal: Goal::Ready, wait: &self.wait, usual, beside: None })
            .await
    }
}

fn draft(name: &str, key: &str) -> Value {
    json!({"name": name, "spec": {"public_key": key}})
}

/// The line of a public key's file.
fn read(path: &Path) -> Result<String, Failure> {
    let beside = || format!("give the public key beside it, {}.pub", path.display());
    let refused = |message: &str| Failure::field("spec.public_key", format!("{} {message}", path.display()));
    let data = read_bounded(path, KEY_MAX)
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot read {}: {error}", path.display())))?
        .ok_or_else(|| refused("is too long for a public key"))?;
    let text = String::from_utf8(data).map_err(|_| refused("is not text"))?;
    if text.contains("PRIVATE KEY") {
        return Err(refused("is a private key, which agentd never needs").hint(beside()));
    }
    let line = text.trim();
    match public_key_error(line) {
        Some(message) => Err(refused(message)),
        None => Ok(line.to_owned()),
    }
}

/// The name of the ssh-key object for a file or a name. A file's key is kept under the file's name; where another key
/// has that name, under it and a piece of the key's digest. Nothing where a dry run would have made it.
pub async fn ensure(app: &App, key: &str, dry_run: bool) -> Result<Option<String>, Failure> {
    let path = Path::new(key);
    if !(key.contains('/') || path.extension().is_some() || path.is_file()) {
        return Ok(Some(key.to_owned()));
    }
    let line = read(path)?;
    let stem = name_from(key).map_or_else(|| "key".to_owned(), |name| name.to_string());
    let short: String = stem.chars().take(50).collect();
    let digest = Sha256::digest(body(&line).as_bytes());
    let marked = format!("{}-{}", short.trim_end_matches('-'), hex::encode(&digest[..4]));
    for name in [stem, marked] {
        match app.client.kind(DEF).get_as::<AnyObject>(Some(&app.project), &name).await {
            Ok(known) => {
                let same = known.spec["public_key"].as_str().is_some_and(|k| body(k) == body(&line));
                if same && !known.meta.deleting() {
                    return Ok(Some(name));
                }
            }
            Err(error) if error.is_not_found() => {
                let create = app.client.kind(DEF).create(&draft(&name, &line), &app.write(dry_run)).await;
                create.map_err(|e| Failure::from(e).about(format!("ssh-key/{name}")))?;
                if !dry_run {
                    app.say(format_args!("ssh-key/{name}: kept the key of {key}"));
                }
                return Ok((!dry_run).then_some(name));
            }
            Err(error) => return Err(error.into()),
        }
    }
    let text = format!("another key has the name that {key} would get");
    Err(Failure::new(Exit::Conflict, text)
        .hint("keep it under a name of your choice: `agentctl ssh-key create`"))
}

/// The key without its comment.
pub fn body(line: &str) -> String {
    line.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_keys_are_refused_by_name() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n").expect("written");
        let text = read(file.path()).expect_err("refused").text();
        assert!(
            text.contains("private key") && text.contains("hint: give the public key beside it"),
            "{text}"
        );
        assert!(!text.contains("AAAA"), "nothing of the key is shown");
    }

    #[test]
    fn a_comment_does_not_tell_keys_apart() {
        assert_eq!(body("ssh-ed25519 AAAA me@host"), body("ssh-ed25519  AAAA"));
    }
}
