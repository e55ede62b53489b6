//! Where rows are kept. The store above decides what is written and serves every read from memory; an engine loads all
//! rows once and then makes batches of changes durable, each batch whole or not at all.
//!
//! SQLite is the engine of a single host. A cluster's would keep the same rows in etcd; it has to pass the same
//! conformance suite (`tests/suite`).

#[cfg(feature = "memory")]
pub mod memory;
pub mod sqlite;

use agentd_api::ObjectKey;
use agentd_api::list::WatchKind;
use bytes::Bytes;

use crate::error::{OpenError, StoreError};
use crate::json::ObjectJson;
use crate::tx::Remembered;

/// What is never counted back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Of the last change.
    pub revision: u64,
    /// Changes up to this one are no longer kept.
    pub compacted: u64,
    /// Of the last event.
    pub event_seq: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Row {
    /// Identified by `born`; a kind, project and name exist once.
    Object { born: u64, key: ObjectKey, json: ObjectJson },
    /// Identified by `revision`. `before` is the object's JSON before the change; what it was after it follows from the
    /// object's next change, or is what the object is now.
    Change { revision: u64, what: WatchKind, born: u64, before: Option<Bytes> },
    /// A space and a value exist once.
    Claim { space: String, value: String, owner: ObjectKey },
    /// Identified by `seq`.
    Event { seq: u64, json: Bytes },
    /// Identified by `key`. `at` is in milliseconds since the epoch.
    Answer { key: String, at: u64, answer: Remembered },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Adds the row, or replaces the one of the same identity.
    Put(Row),
    DropObject {
        born: u64,
    },
    /// All of this revision and before.
    DropChanges {
        through: u64,
    },
    DropClaim {
        space: String,
        value: String,
    },
    /// All of this number and before.
    DropEvents {
        through: u64,
    },
    DropAnswer {
        key: String,
    },
}

/// What one commit changes, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    pub ops: Vec<Op>,
    pub counters: Counters,
}

pub trait Engine: Send {
    /// Called once, first: hands over every row, the objects before all others, and the counters. Anything that is not
    /// as it was written is an error; `each` says why it cannot take a row.
    fn load(&mut self, each: &mut dyn FnMut(Row) -> Result<(), String>) -> Result<Counters, OpenError>;

    /// Durable when it returns. After an error nothing of the batch is there, and the next commit may succeed.
    fn commit(&mut self, batch: &Batch) -> Result<(), StoreError>;

    /// Called after the callers of a commit were answered: housekeeping that must not make them wait.
    fn tidy(&mut self) {}

    /// Gives back the space of what was dropped.
    fn compact(&mut self) -> Result<(), StoreError>;

    /// Bytes on disk, for the metrics.
    fn size(&self) -> u64 {
        0
    }

    fn close(self: Box<Self>) -> Result<(), StoreError>;

    /// An error of rows that are each as they were written but do not fit together.
    fn inconsistent(&self, table: &str, row: String, what: String) -> OpenError;
}
