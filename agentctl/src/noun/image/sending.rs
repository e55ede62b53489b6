//! An image whose content is a file here: announced, sent and waited for. One that fails leaves no image behind.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use agentd_api::{ObjectName, Progress};
use agentd_client::{AnyObject, Upload};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use super::{DEF, Making, USUAL, draft};
use crate::app::App;
use crate::failure::{Exit, Failure};
use crate::target::label;
use crate::verb::create::{self, Create};
use crate::wait::Wait;
use crate::wait::goal::Goal;
use crate::wait::progress::Display;

pub struct Sending<'a> {
    pub name: &'a str,
    pub file: File,
    /// How the file is called in an error.
    pub path: &'a Path,
    pub making: &'a Making,
}

impl Sending<'_> {
    /// `spec` makes the image's of the file's size and SHA-256.
    pub async fn run(mut self, app: &App, spec: impl FnOnce(u64, String) -> Value) -> Result<(), Failure> {
        let unreadable = |e: std::io::Error| unreadable(self.path, &e);
        let size = self.file.metadata().await.map_err(unreadable)?.len();
        let mut display = Display::new();
        let sha256 = digest(&mut self.file, size, self.name, &mut display).await.map_err(unreadable)?;
        self.file.rewind().await.map_err(unreadable)?;
        let draft = draft(self.name, spec(size, sha256));
        let create = Create { def: DEF, name: self.name, draft, dry_run: self.making.dry_run };
        let Some(object) = create.send(app).await? else { return Ok(()) };
        let done = self.send(app, &object, size, display).await;
        if done.as_ref().is_err_and(|failure| undone(failure.exit)) {
            give_up(app, &object).await;
        }
        create::print(app, DEF, &done?).await
    }

    async fn send(
        self,
        app: &App,
        object: &AnyObject,
        length: u64,
        display: Display,
    ) -> Result<AnyObject, Failure> {
        let about = label(DEF, &object.meta.name);
        let display = Arc::new(Mutex::new(display));
        let shown = Arc::clone(&display);
        let shown_as = about.clone();
        let progress = move |done| {
            let progress = bytes("sending", done, length);
            shown.lock().unwrap_or_else(PoisonError::into_inner).work(&shown_as, &progress);
        };
        let (project, name): (ObjectName, ObjectName) = (app.project.clone(), object.meta.name.clone());
        let upload = app.client.upload(Upload { project, name, content: self.file, length, progress });
        // Dropping the upload on Ctrl-C closes the connection, which the daemon takes as its end.
        let sent = tokio::select! {
            sent = upload => sent,
            _ = tokio::signal::ctrl_c() => {
                return Err(Failure::new(Exit::Interrupted, "interrupted; the image is taken back").about(about));
            }
        };
        drop(display);
        sent.map_err(|e| Failure::from(e).about(about))?;
        if self.making.wait.no_wait {
            return Ok(object.clone());
        }
        let limit = self.making.wait.limit(USUAL);
        Wait { app, def: DEF, goal: Goal::Ready, limit, beside: None }.one(object.clone()).await
    }
}

/// A wait that ran out or was broken off undoes nothing: the daemon has the file and goes on.
fn undone(exit: Exit) -> bool {
    exit != Exit::TimedOut
}

async fn give_up(app: &App, object: &AnyObject) {
    let name = object.meta.name.as_str();
    if let Err(error) = app.client.kind(DEF).delete(name, &app.write(false)).await {
        app.say(format_args!("{}: cannot be taken back: {error}", label(DEF, name)));
    }
}

pub async fn open(path: &Path) -> Result<File, Failure> {
    let file = File::open(path).await.map_err(|error| unreadable(path, &error))?;
    let plain = file.metadata().await.map_err(|error| unreadable(path, &error))?.is_file();
    if plain { Ok(file) } else { Err(Failure::new(Exit::Failed, format!("{} is no file", path.display()))) }
}

pub fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("cannot read {}: {error}", path.display()))
}

async fn digest(file: &mut File, size: u64, name: &str, display: &mut Display) -> std::io::Result<String> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut done = 0;
    loop {
        let count = file.read(&mut buffer).await?;
        if count == 0 {
            return Ok(hex::encode(hash.finalize()));
        }
        hash.update(&buffer[..count]);
        done += count as u64;
        display.work(&label(DEF, name), &bytes("hashing", done, size));
    }
}

fn bytes(step: &str, done: u64, total: u64) -> Progress {
    Progress::of_bytes(step, done, Some(total))
}
