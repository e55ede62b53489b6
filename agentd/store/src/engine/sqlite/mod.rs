//! The engine of a single host: one SQLite file with a write-ahead log, synced at every commit, held by this process
//! alone.
//!
//! Beside the database stand `<db>-wal` (SQLite's), `<db>.lock` (one process at a time), `<db>.mark` (the last commit
//! that was acknowledged) and, after a migration, `<db>.v<N>.bak`. At the start everything is verified before anything
//! is written: the pages' structure, each row's checksum, each table's sum, and that the mark is not ahead. What is
//! not as it was written is refused by name, and the files stay as they are, down to the log, which SQLite would
//! otherwise fold into the damaged file when it closes it.

mod failure;
mod lock;
mod mark;
mod open;
mod rows;
mod schema;
mod state;
mod sums;
mod write;

pub(crate) use self::lock::Lock;
pub use self::schema::SCHEMA;
pub(crate) use self::schema::sync_directory;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rusqlite::Connection;

use self::failure::write_failed;
use self::mark::{Mark, Marked};
use self::open::Pages;
use self::state::State;
use self::write::Writing;
use super::{Batch, Counters, Engine, Row};
use crate::error::{OpenError, StoreError};

/// Pages in the log after which they are moved into the file, between two commits. The log is then written from its
/// start again, over blocks that it has already, which is faster than letting it grow.
const CHECKPOINT_PAGES: u32 = 2000;
/// Bytes of log that are given back to the disk.
const LOG_MAX: u64 = 64 << 20;

pub struct SqliteEngine {
    path: PathBuf,
    connection: Connection,
    state: State,
    /// What the mark said when the file was opened.
    marked: Marked,
    pages: Pages,
    /// Written from when everything was verified.
    mark: Option<Mark>,
    log_pages: Arc<AtomicU32>,
    /// Given back last.
    _lock: Lock,
}

/// A name beside the database's.
pub(crate) fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

impl SqliteEngine {
    fn damaged(&self, place: impl Into<String>, what: impl Into<String>) -> OpenError {
        OpenError::Damaged { file: self.path.clone(), place: place.into(), what: what.into() }
    }

    fn check_mark(&self) -> Result<(), OpenError> {
        let found = self.state.commits;
        match self.marked {
            Marked::Commit(last) if last > found => Err(self.damaged(
                "its write-ahead log",
                format!("commit {last} was acknowledged, but the last one found is {found}"),
            )),
            _ => Ok(()),
        }
    }

    fn read_through(&mut self, each: &mut dyn FnMut(Row) -> Result<(), String>) -> Result<(), OpenError> {
        let failed = |error: rusqlite::Error| failure::open_failed(&self.path, "its header", &error);
        let usual = open::read_through(&self.connection).map_err(failed)?;
        rows::load(&self.connection, &self.path, &mut self.state, each)?;
        self.connection.pragma_update(None, "cache_size", usual).map_err(failed)
    }

    fn write(&mut self, batch: &Batch) -> rusqlite::Result<State> {
        self.connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let mut writing = Writing { connection: &self.connection, state: self.state };
        for op in &batch.ops {
            writing.apply(op)?;
        }
        writing.state.counters = batch.counters;
        writing.state.commits += 1;
        writing.state.update(&self.connection)?;
        self.connection.prepare_cached("COMMIT")?.execute([])?;
        Ok(writing.state)
    }

    fn log_size(&self) -> u64 {
        std::fs::metadata(suffixed(&self.path, "-wal")).map_or(0, |log| log.len())
    }
}

impl Engine for SqliteEngine {
    fn load(&mut self, each: &mut dyn FnMut(Row) -> Result<(), String>) -> Result<Counters, OpenError> {
        self.read_through(each)?;
        self.pages.sound(&self.path)?;
        self.check_mark()?;
        let path = suffixed(&self.path, ".mark");
        let mark = Mark::open(&path, self.state.commits).map_err(|error| failure::open_io(&path, &error))?;
        self.mark = Some(mark);
        // What was read once is not read again: the pages that SQLite keeps of it are given back.
        if let Err(error) = self.connection.execute_batch("PRAGMA shrink_memory") {
            tracing::warn!(%error, "SQLite keeps the pages that it read at the start");
        }
        Ok(self.state.counters)
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), StoreError> {
        match self.write(batch) {
            Ok(state) => self.state = state,
            Err(error) => {
                let failed = write_failed(&self.path, &error);
                // SQLite has rolled back by itself after some errors and not after others.
                if !self.connection.is_autocommit()
                    && let Err(error) = self.connection.execute_batch("ROLLBACK")
                {
                    tracing::error!(%error, "a failed commit could not be rolled back");
                }
                return Err(failed);
            }
        }
        if let Some(mark) = &self.mark
            && let Err(error) = mark.write(self.state.commits)
        {
            // The commit is durable all the same; what is lost is that a damaged log would be noticed.
            tracing::warn!(%error, "the mark of the store could not be written");
        }
        Ok(())
    }

    fn tidy(&mut self) {
        if self.log_pages.load(Ordering::Relaxed) < CHECKPOINT_PAGES {
            return;
        }
        let outcome = if self.log_size() > LOG_MAX {
            schema::checkpoint(&self.connection)
        } else {
            self.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
        };
        match outcome {
            Ok(()) => self.log_pages.store(0, Ordering::Relaxed),
            // The log keeps what it holds and grows on; a commit will say so when there is no room for it.
            Err(error) => tracing::warn!(%error, "the store's log could not be moved into its file"),
        }
    }

    fn compact(&mut self) -> Result<(), StoreError> {
        let vacuum = self.connection.execute_batch("VACUUM");
        vacuum.and_then(|()| schema::checkpoint(&self.connection)).map_err(|e| write_failed(&self.path, &e))
    }

    fn size(&self) -> u64 {
        std::fs::metadata(&self.path).map_or(0, |file| file.len()) + self.log_size()
    }

    fn close(self: Box<Self>) -> Result<(), StoreError> {
        schema::checkpoint(&self.connection).map_err(|error| write_failed(&self.path, &error))?;
        let Self { path, connection, .. } = *self;
        connection.close().map_err(|(_, error)| write_failed(&path, &error))
    }

    fn inconsistent(&self, table: &str, row: String, what: String) -> OpenError {
        self.damaged(format!("table {table}, row {row}"), what)
    }
}
