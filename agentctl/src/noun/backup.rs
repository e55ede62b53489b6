//! `agentctl backup FILE`: all that the daemon knows, as one file. It is written beside its name and gets that once it
//! is whole, has the checksum that it came with, and is on disk.

use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use agentd_api::backup::{Header, HeaderError, LINE_MAX};
use bytes::BytesMut;
use clap::Args;
use sha2::{Digest, Sha256};
use tokio::fs::{File, OpenOptions};
use tokio::io::AsyncWriteExt;

use super::file::{Part, unwritable};
use crate::app::App;
use crate::failure::{Exit, Failure};

#[derive(Debug, Args)]
pub struct Backup {
    /// The file that is made, or `-` for stdout
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Replace a file that is there, once the new one is whole
    #[arg(long)]
    force: bool,
}

impl Backup {
    pub async fn run(self, app: &App) -> Result<(), Failure> {
        // Cancel safety: what is dropped ends the connection, and takes what was written of the file with it.
        let header = tokio::select! {
            done = self.take(app) => done?,
            _ = tokio::signal::ctrl_c() => {
                return Err(Failure::new(Exit::Interrupted, "interrupted; no file was made"));
            }
        };
        let (objects, revision) = (header.objects, header.revision);
        app.say(format_args!("{}: {objects} objects at revision {revision}", self.file.display()));
        app.say("what disks, volumes and images hold is not in it");
        Ok(())
    }

    async fn take(&self, app: &App) -> Result<Header, Failure> {
        if self.file.as_os_str() == "-" {
            if io::stdout().is_terminal() {
                return Err(Failure::new(Exit::Usage, "a backup is nothing to look at")
                    .hint("name a file, or send stdout elsewhere"));
            }
            let stdout = io::stdout().as_fd().try_clone_to_owned()?;
            let mut stdout = File::from_std(std::fs::File::from(stdout));
            return receive(app, (&mut stdout, Path::new("stdout"))).await;
        }
        self.refuse_replacing()?;
        let mut beside = self.file.as_os_str().to_owned();
        beside.push(".partial");
        let beside = PathBuf::from(beside);
        // It holds what the store does: user-data, and the secrets in it.
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&beside).await.map_err(|error| unwritable(&beside, &error))?;
        let mut part = Part(Some(beside.clone()));
        let header = receive(app, (&mut file, &beside)).await?;
        file.sync_all().await.map_err(|error| unwritable(&beside, &error))?;
        self.refuse_replacing()?;
        std::fs::rename(&beside, &self.file).map_err(|error| unwritable(&self.file, &error))?;
        part.0 = None;
        Ok(header)
    }

    fn refuse_replacing(&self) -> Result<(), Failure> {
        if self.force || self.file.symlink_metadata().is_err() {
            return Ok(());
        }
        Err(Failure::new(Exit::Conflict, format!("{} is there already", self.file.display()))
            .hint("name another file, or replace it with --force"))
    }
}

/// Writes what comes, and makes sure that it is what was sent.
async fn receive(app: &App, (to, name): (&mut File, &Path)) -> Result<Header, Failure> {
    let mut coming = app.client.backup().await?;
    let (mut begun, mut header) = (BytesMut::new(), None);
    let (mut sum, mut got) = (Sha256::new(), 0_u64);
    while let Some(piece) = coming.next().await? {
        to.write_all(&piece).await.map_err(|error| unwritable(name, &error))?;
        let mut content = &piece[..];
        if header.is_none() {
            begun.extend_from_slice(content);
            let Some(end) = begun.iter().take(LINE_MAX).position(|byte| *byte == b'\n') else {
                if begun.len() >= LINE_MAX {
                    return Err(not_one(&HeaderError::Foreign));
                }
                continue;
            };
            let known = Header::parse(&begun[..=end]).map_err(|error| not_one(&error))?;
            sum.update(known.covered());
            header = Some(known);
            content = &begun[end + 1..];
        }
        sum.update(content);
        got += content.len() as u64;
    }
    to.flush().await.map_err(|error| unwritable(name, &error))?;
    let header = header.ok_or_else(|| not_one(&HeaderError::Foreign))?;
    let sum = hex::encode(sum.finalize());
    if got != header.bytes || sum != header.sha256 {
        return Err(Failure::new(
            Exit::Failed,
            "what came is not what the daemon sent: its checksum is another",
        )
        .hint("try again"));
    }
    Ok(header)
}

fn not_one(error: &HeaderError) -> Failure {
    Failure::new(Exit::Failed, format!("what the daemon sent is no backup: {error}"))
        .hint("`agentctl version` shows whether agentctl and the daemon are of one version")
}
