//! Makes backups: a copy of the store, of one revision, in a folder of its own, read from there and gone.
//!
//! ```text
//!   store --snapshot--> file --checksum--> its name is taken away --> header, content --> the caller
//! ```
//! The file has no name while it is sent, so that its space is free with the last who reads it, however this process ends.
//! What one leaves that is killed before goes at the next start.

use std::fs::{DirBuilder, File};
use std::io::{self, Read, Seek};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use agentd_api::backup::{FORMAT, Header, VERSION};
use agentd_api::{ErrorCode, Problem, Timestamp};
use agentd_drivers::fault;
use agentd_store::{BackupError, OpenError, SCHEMA, Snapshot, Store, StoreError};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;
use tokio_util::io::ReaderStream;
use uuid::Uuid;

use crate::http::{Backup, Pieces};

/// Below the state directory.
const FOLDER: &str = "backups-being-made";
const PIECE: usize = 256 << 10;

pub struct Backups {
    store: Store,
    folder: PathBuf,
    /// One is made at a time: each takes as much of the disk as the store.
    turn: Mutex<()>,
}

impl Backups {
    pub fn new(store: Store, state_dir: &Path) -> Self {
        Self { store, folder: state_dir.join(FOLDER), turn: Mutex::new(()) }
    }
}

/// Removes what a process left that was killed while it made one. Only for who has the store.
pub fn tidy(state_dir: &Path) {
    match std::fs::remove_dir_all(state_dir.join(FOLDER)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!("what was left of a backup cannot be removed: {error}");
        }
        _ => {}
    }
}

#[async_trait]
impl Backup for Backups {
    async fn back_up(&self) -> Result<Pieces, Problem> {
        let _turn = self.turn.lock().await;
        let snapshot = self.store.snapshot().await.map_err(|error| failed(&error))?;
        let folder = self.folder.clone();
        // Goes on to its end where the caller goes away, and leaves nothing then either.
        let made = tokio::task::spawn_blocking(move || make(snapshot, &folder)).await;
        let (header, file) =
            made.unwrap_or_else(|error| Err(Problem::new(ErrorCode::Internal, error.to_string())))?;
        tracing::info!(revision = header.revision, bytes = header.bytes, "a backup is made");
        let content = ReaderStream::with_capacity(tokio::fs::File::from_std(file), PIECE);
        let line = Bytes::from(header.line());
        Ok(stream::once(async move { Ok(line) }).chain(content).boxed())
    }
}

/// A folder that goes with all that is in it.
pub(super) struct Scratch(pub PathBuf);

impl Scratch {
    pub(super) fn new(folder: PathBuf) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        Ok(Self(folder))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!("what was left of a backup stays until the next start: {error}");
        }
    }
}

/// The file is open, read from its beginning, and has no name any more.
fn make(snapshot: Snapshot, below: &Path) -> Result<(Header, File), Problem> {
    let scratch = Scratch::new(below.join(Uuid::now_v7().to_string())).map_err(|error| unwritten(&error))?;
    let (revision, objects) = (snapshot.revision(), snapshot.objects() as u64);
    let path = scratch.0.join("agentd.db");
    snapshot.write(&path).map_err(|error| not_made(&error))?;
    let mut file = File::open(&path).map_err(|error| unwritten(&error))?;
    let mut header = Header {
        format: FORMAT.to_owned(),
        version: VERSION,
        schema: SCHEMA,
        revision,
        objects,
        bytes: file.metadata().map_err(|error| unwritten(&error))?.len(),
        agentd: env!("CARGO_PKG_VERSION").to_owned(),
        created_at: Timestamp::now(),
        sha256: String::new(),
    };
    header.sha256 = checksum(&header, &mut file).map_err(|error| unwritten(&error))?;
    file.rewind().map_err(|error| unwritten(&error))?;
    Ok((header, file))
}

/// Of a backup whose content is what can be read there, as its header has it where it is whole.
pub(super) fn checksum(header: &Header, content: &mut dyn Read) -> io::Result<String> {
    let mut sum = Sha256::new();
    sum.update(header.covered());
    let mut piece = vec![0; PIECE];
    loop {
        match content.read(&mut piece)? {
            0 => break,
            read => sum.update(&piece[..read]),
        }
    }
    Ok(hex::encode(sum.finalize()))
}

fn failed(error: &StoreError) -> Problem {
    Problem::new(ErrorCode::StoreUnavailable, fault::chain(error))
}

fn not_made(error: &BackupError) -> Problem {
    let full = matches!(
        error,
        BackupError::Begin(OpenError::Full { .. }) | BackupError::Write(StoreError::Full { .. })
    );
    let code = if full { ErrorCode::InsufficientCapacity } else { ErrorCode::StoreUnavailable };
    Problem::new(code, format!("no backup was made: {}", fault::chain(error)))
}

fn unwritten(error: &io::Error) -> Problem {
    let code = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorCode::InsufficientCapacity,
        _ => ErrorCode::StoreUnavailable,
    };
    Problem::new(code, format!("no backup was made: its file cannot be written or read: {error}"))
}
