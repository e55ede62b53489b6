//! A copy of all that there is, taken while others write: of one revision, and whole.
//!
//! ```text
//!   writer --between two commits--> Snapshot (shares the objects with memory) --> a store's file of its own
//! ```
//! The file is written by the same engine, so that it has the same checksums and is opened like any other store. What is
//! not in it is the history: whoever watches lists again.

use std::path::Path;
use std::sync::Arc;

use agentd_api::ObjectKey;
use bytes::Bytes;

use crate::engine::sqlite::SqliteEngine;
use crate::engine::{Batch, Counters, Engine, Op, Row};
use crate::error::{OpenError, StoreError};
use crate::memory::claims::Text;
use crate::shared::Shared;
use crate::stored::Stored;
use crate::tx::Remembered;

/// Rows that are written together: what bounds the memory that it takes beside what the store has.
const BATCH: usize = 512;

#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("the copy cannot be begun")]
    Begin(#[source] OpenError),
    #[error("the copy cannot be written")]
    Write(#[source] StoreError),
}

/// All that a store had at one revision.
pub struct Snapshot {
    counters: Counters,
    objects: Vec<Arc<Stored>>,
    claims: Vec<(Text, Text, Arc<ObjectKey>)>,
    events: Vec<(u64, Bytes)>,
    answers: Vec<(String, u64, Remembered)>,
}

impl Snapshot {
    /// On the writer's thread: nothing is published meanwhile.
    pub(crate) fn take(shared: &Shared, counters: Counters) -> Self {
        let (objects, claims) = {
            let memory = shared.memory.read();
            (memory.objects().cloned().collect(), memory.claims.shared().collect())
        };
        let events = shared.events.read().rows().collect();
        let answers = shared.answers.lock().rows().collect();
        Self { counters, objects, claims, events, answers }
    }

    pub fn revision(&self) -> u64 {
        self.counters.revision
    }

    pub fn objects(&self) -> usize {
        self.objects.len()
    }

    /// Writes a store into this file, where there is none, and closes it. Blocks. What it leaves when it fails is of no
    /// use.
    pub fn write(self, file: &Path) -> Result<(), BackupError> {
        let mut engine = Box::new(SqliteEngine::open(file).map_err(BackupError::Begin)?);
        engine.load(&mut |row| Err(format!("{row:?} is there already"))).map_err(BackupError::Begin)?;
        let counters = Counters { compacted: self.counters.revision, ..self.counters };
        let mut rows = self.rows().peekable();
        // At least one, for the counters.
        loop {
            let ops = rows.by_ref().take(BATCH).map(Op::Put).collect();
            engine.commit(&Batch { ops, counters }).map_err(BackupError::Write)?;
            engine.tidy();
            if rows.peek().is_none() {
                break;
            }
        }
        engine.close().map_err(BackupError::Write)
    }

    /// In the order in which their tables are.
    fn rows(self) -> impl Iterator<Item = Row> {
        let Self { mut objects, mut claims, events, answers, .. } = self;
        objects.sort_unstable_by_key(|object| object.born());
        claims.sort_unstable_by(|(a, b, _), (c, d, _)| (a, b).cmp(&(c, d)));
        let objects = objects.into_iter().map(|object| Row::Object {
            born: object.born(),
            key: object.key().clone(),
            json: object.kept_json().clone(),
        });
        let claims = claims.into_iter().map(|(space, value, owner)| Row::Claim {
            space: space.to_string(),
            value: value.to_string(),
            owner: ObjectKey::clone(&owner),
        });
        let events = events.into_iter().map(|(seq, json)| Row::Event { seq, json });
        let answers = answers.into_iter().map(|(key, at, answer)| Row::Answer { key, at, answer });
        objects.chain(claims).chain(events).chain(answers)
    }
}
