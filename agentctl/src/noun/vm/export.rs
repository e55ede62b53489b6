//! `vm export`: a VM as one file. It is written beside its name and gets that once all of it is on disk.

use std::io;
use std::path::{Path, PathBuf};

use agentd_api::{KindDef, Progress};
use agentd_client::SubPath;
use clap::Args;
use tokio::fs::File;
use tokio::io::AsyncWriteExt;

use super::sub;
use crate::app::App;
use crate::failure::{Exit, Failure};
use crate::target::{self, label, not_found_hint};
use crate::wait::progress::Display;

const DEF: &KindDef = super::DEF;

#[derive(Debug, Args)]
pub struct Export {
    /// The VM's name or id; it may run, and goes on
    #[arg(value_name = "NAME")]
    name: String,
    /// The archive that is made, a tar file. One that is there is replaced once the new one is whole
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// A file that goes unless it is kept.
struct Part(Option<PathBuf>);

impl Drop for Part {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Export {
    pub async fn run(self, app: &App) -> Result<(), Failure> {
        let name = target::name_of(app, DEF, &self.name).await?;
        let about = |failure: Failure| failure.about(label(DEF, &name));
        let mut beside = self.file.as_os_str().to_owned();
        beside.push(".part");
        let beside = PathBuf::from(beside);
        let mut to = File::create(&beside).await.map_err(|error| unwritable(&beside, &error))?;
        let mut part = Part(Some(beside.clone()));
        // Cancel safety: what is dropped ends the connection, which the daemon takes as its end.
        let sent = tokio::select! {
            sent = receive(app, &name, &mut to) => sent,
            _ = tokio::signal::ctrl_c() => {
                return Err(about(Failure::new(Exit::Interrupted, "interrupted; nothing was written")));
            }
        };
        sent.map_err(about)?;
        to.sync_all().await.map_err(|error| unwritable(&beside, &error))?;
        std::fs::rename(&beside, &self.file).map_err(|error| unwritable(&self.file, &error))?;
        part.0 = None;
        app.say(format_args!("{}: exported to {}", label(DEF, &name), self.file.display()));
        if target::find(app, DEF, &name).await.is_ok_and(|vm| vm.spec["tpm"] == true) {
            app.say(format_args!("{}: what its TPM holds is not in it", label(DEF, &name)));
        }
        Ok(())
    }
}

async fn receive(app: &App, name: &str, to: &mut File) -> Result<(), Failure> {
    let mut display = Display::new();
    let shown = label(DEF, name);
    display.work(&shown, &Progress { step: "copying its disks".to_owned(), ..Progress::default() });
    let path = SubPath { def: DEF, project: Some(&app.project), name, sub: sub("export"), params: &[] };
    let opened = app.client.download_patiently(path).await;
    let mut pieces = opened.map_err(|error| not_found_hint(error, DEF))?;
    let mut done = 0;
    while let Some(piece) = pieces.next().await.map_err(Failure::from)? {
        to.write_all(&piece).await.map_err(|error| unwritable(Path::new("the archive"), &error))?;
        done += piece.len() as u64;
        let progress = Progress { step: "receiving".to_owned(), done, total: None, unit: "bytes".to_owned() };
        display.work(&shown, &progress);
    }
    to.flush().await.map_err(|error| unwritable(Path::new("the archive"), &error))
}

fn unwritable(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("cannot write {}: {error}", path.display()))
}
