//! `vm ssh`: the system's own ssh, to the VM's address, as the user that its image has, with the key that it was given.
//! The host key is remembered under the VM's id, in a file of our own: another VM at the same address is another host.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use agentd_api::ssh_key::SshKey;
use agentd_api::{Kind, State};
use agentd_client::AnyObject;
use clap::Args;

use super::DEF;
use crate::app::App;
use crate::failure::{Exit, Failure};
use crate::noun::ssh_key::body;
use crate::target::{self, label};

/// Users of images that are not called as their distribution.
const USERS: [(&str, &str); 5] = [
    ("debian", "debian"),
    ("ubuntu", "ubuntu"),
    ("fedora", "fedora"),
    ("centos", "cloud-user"),
    ("alpine", "alpine"),
];

#[derive(Debug, Args)]
pub struct Ssh {
    /// The VM's name or id
    #[arg(value_name = "NAME")]
    name: String,
    /// The user to log in as [default: as its image has it]
    #[arg(short = 'l', long, value_name = "USER")]
    user: Option<String>,
    /// The private key [default: the one whose public key it was given, where it is in ~/.ssh]
    #[arg(short, long, value_name = "FILE")]
    identity: Option<PathBuf>,
    /// What to run; a shell where nothing
    #[arg(value_name = "CMD", last = true)]
    command: Vec<String>,
}

impl Ssh {
    pub async fn run(self, app: &App) -> Result<(), Failure> {
        let object = target::find(app, DEF, &self.name).await?;
        let about = label(DEF, &object.meta.name);
        if object.status["state"] != State::Running.as_str() {
            let hint = format!("`agentctl vm start {}` starts it", object.meta.name);
            return Err(Failure::new(Exit::Conflict, "does not run").about(about).hint(hint));
        }
        let none =
            || Failure::new(Exit::Unsupported, "has no address: it is on no network").about(about.clone());
        let address = object.status["addresses"][0]["ip"].as_str().ok_or_else(none)?;
        let identity = match self.identity.clone() {
            Some(file) => Some(file),
            None => private_key(app, &object).await,
        };
        let hosts =
            known_hosts().map_err(|e| Failure::new(Exit::Failed, format!("no place for host keys: {e}")))?;
        let error = self.command(address, &object, (identity.as_deref(), &hosts)).exec();
        let failure = Failure::new(Exit::Failed, format!("ssh cannot be run: {error}"));
        Err(failure.hint("apt-get install -y openssh-client"))
    }

    #[expect(clippy::disallowed_methods, reason = "it becomes the system's ssh; the rule is for the daemon")]
    fn command(
        &self,
        address: &str,
        object: &AnyObject,
        (identity, hosts): (Option<&Path>, &Path),
    ) -> Command {
        let mut ssh = Command::new("ssh");
        let mut option = |text: String| {
            ssh.arg("-o").arg(text);
        };
        option(format!("UserKnownHostsFile=\"{}\"", hosts.display()));
        option("StrictHostKeyChecking=accept-new".to_owned());
        option("HashKnownHosts=no".to_owned());
        option(format!("HostKeyAlias=agentd-{}", object.meta.id));
        if let Some(identity) = identity {
            ssh.arg("-i").arg(identity);
        }
        let user = self.user.clone().unwrap_or_else(|| user_of(object));
        ssh.arg("-l").arg(user).arg("--").arg(address).args(&self.command);
        ssh
    }
}

/// By what its guest says it is, or what its image is called.
fn user_of(object: &AnyObject) -> String {
    let said = object.status["guest"]["os"]["id"].as_str().unwrap_or_default();
    let image = object.spec["image"].as_str().unwrap_or_default();
    let known = USERS.iter().find(|(os, _)| *os == said || (said.is_empty() && image.starts_with(os)));
    known.map_or("root", |(_, user)| user).to_owned()
}

/// The private key in ~/.ssh that belongs to a public key of the VM's.
async fn private_key(app: &App, object: &AnyObject) -> Option<PathBuf> {
    let mut wanted = Vec::new();
    for name in object.spec["ssh_keys"].as_array()?.iter().filter_map(|name| name.as_str()) {
        let key = app.client.kind(SshKey::DEF).get_as::<AnyObject>(Some(&app.project), name).await.ok()?;
        wanted.push(body(key.spec["public_key"].as_str()?));
    }
    let folder = PathBuf::from(std::env::var_os("HOME")?).join(".ssh");
    let files = fs::read_dir(folder).ok()?.filter_map(Result::ok).map(|entry| entry.path());
    let publics = files.filter(|path| path.extension().is_some_and(|e| e == "pub"));
    let ours = |path: &PathBuf| fs::read_to_string(path).is_ok_and(|text| wanted.contains(&body(&text)));
    publics.filter(ours).map(|path| path.with_extension("")).find(|path| path.is_file())
}

fn known_hosts() -> std::io::Result<PathBuf> {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state"));
    let state =
        std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|p| p.is_absolute()).or_else(home);
    let folder = state.unwrap_or_else(|| "/var/tmp".into()).join("agentctl");
    fs::create_dir_all(&folder)?;
    Ok(folder.join("known_hosts"))
}
