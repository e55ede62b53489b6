//! Content that becomes a file here. It is written beside its name and gets that once all of it is on disk.

use std::io;
use std::path::{Path, PathBuf};

use agentd_api::Progress;
use agentd_client::SubPath;
use tokio::fs::File;
use tokio::io::AsyncWriteExt;

use crate::app::App;
use crate::failure::{Exit, Failure};
use crate::target::{label, not_found_hint};
use crate::wait::progress::Display;

pub struct Receive<'a> {
    pub path: SubPath<'a>,
    pub file: &'a Path,
    /// What the daemon does before the first of it comes.
    pub first: &'a str,
}

/// A file that goes unless it is kept.
pub struct Part(pub Option<PathBuf>);

impl Drop for Part {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            let _ = std::fs::remove_file(path);
        }
    }
}

pub async fn receive(app: &App, wanted: Receive<'_>) -> Result<(), Failure> {
    let about = |failure: Failure| failure.about(label(wanted.path.def, wanted.path.name));
    let mut beside = wanted.file.as_os_str().to_owned();
    beside.push(".part");
    let beside = PathBuf::from(beside);
    let mut to = File::create(&beside).await.map_err(|error| unwritable(&beside, &error))?;
    let mut part = Part(Some(beside.clone()));
    // Cancel safety: what is dropped ends the connection, which the daemon takes as its end.
    let sent = tokio::select! {
        sent = pieces(app, &wanted, &mut to) => sent,
        _ = tokio::signal::ctrl_c() => {
            return Err(about(Failure::new(Exit::Interrupted, "interrupted; nothing was written")));
        }
    };
    sent.map_err(about)?;
    to.sync_all().await.map_err(|error| unwritable(&beside, &error))?;
    std::fs::rename(&beside, wanted.file).map_err(|error| unwritable(wanted.file, &error))?;
    part.0 = None;
    Ok(())
}

async fn pieces(app: &App, wanted: &Receive<'_>, to: &mut File) -> Result<(), Failure> {
    let mut display = Display::new();
    let shown = label(wanted.path.def, wanted.path.name);
    display.work(&shown, &Progress { step: wanted.first.to_owned(), ..Progress::default() });
    let opened = app.client.download_patiently(wanted.path).await;
    let mut pieces = opened.map_err(|error| not_found_hint(error, wanted.path.def))?;
    let mut done = 0;
    while let Some(piece) = pieces.next().await.map_err(Failure::from)? {
        to.write_all(&piece).await.map_err(|error| unwritable(Path::new("the archive"), &error))?;
        done += piece.len() as u64;
        let progress = Progress::of_bytes("receiving", done, None);
        display.work(&shown, &progress);
    }
    to.flush().await.map_err(|error| unwritable(Path::new("the archive"), &error))
}

pub fn unwritable(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("cannot write {}: {error}", path.display()))
}
