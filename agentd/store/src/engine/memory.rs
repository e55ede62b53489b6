//! An engine that keeps its rows in memory: the least that an engine can be. For tests, and for measuring what the
//! store costs without a disk; nothing in it survives the process.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Batch, Counters, Engine, Op, Row};
use crate::error::{OpenError, StoreError};

/// Clones share their rows, so that a store can be closed and opened again.
#[derive(Clone, Default)]
pub struct MemoryEngine {
    kept: Arc<Mutex<Kept>>,
}

#[derive(Default)]
struct Kept {
    rows: BTreeMap<Id, Row>,
    counters: Counters,
    /// What the next commits answer, for tests of what follows.
    fail: Option<StoreError>,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Id {
    Object(u64),
    Change(u64),
    Claim(String, String),
    Event(u64),
    Answer(String),
}

impl MemoryEngine {
    pub fn new() -> Self {
        Self::default()
    }

    /// Every commit fails with this until it is taken back.
    pub fn fail(&self, with: Option<StoreError>) {
        self.kept.lock().fail = with;
    }
}

impl Row {
    fn id(&self) -> Id {
        match self {
            Self::Object { born, .. } => Id::Object(*born),
            Self::Change { revision, .. } => Id::Change(*revision),
            Self::Claim { space, value, .. } => Id::Claim(space.clone(), value.clone()),
            Self::Event { seq, .. } => Id::Event(*seq),
            Self::Answer { key, .. } => Id::Answer(key.clone()),
        }
    }
}

impl Engine for MemoryEngine {
    fn load(&mut self, each: &mut dyn FnMut(Row) -> Result<(), String>) -> Result<Counters, OpenError> {
        let kept = self.kept.lock();
        for row in kept.rows.values() {
            each(row.clone()).map_err(|what| self.inconsistent("rows", String::new(), what))?;
        }
        Ok(kept.counters)
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), StoreError> {
        let mut kept = self.kept.lock();
        if let Some(error) = &kept.fail {
            return Err(error.clone());
        }
        for op in &batch.ops {
            match op {
                Op::Put(row) => drop(kept.rows.insert(row.id(), row.clone())),
                Op::DropObject { born } => drop(kept.rows.remove(&Id::Object(*born))),
                Op::DropChanges { through } => {
                    kept.rows.retain(|id, _| !matches!(id, Id::Change(at) if at <= through));
                }
                Op::DropClaim { space, value } => {
                    kept.rows.remove(&Id::Claim(space.clone(), value.clone()));
                }
                Op::DropEvents { through } => {
                    kept.rows.retain(|id, _| !matches!(id, Id::Event(at) if at <= through));
                }
                Op::DropAnswer { key } => drop(kept.rows.remove(&Id::Answer(key.clone()))),
            }
        }
        kept.counters = batch.counters;
        Ok(())
    }

    fn compact(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<(), StoreError> {
        Ok(())
    }

    fn inconsistent(&self, table: &str, row: String, what: String) -> OpenError {
        OpenError::Damaged {
            file: PathBuf::from("(memory)"),
            place: format!("table {table}, row {row}"),
            what,
        }
    }
}
