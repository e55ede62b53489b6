//! Builds memory from the engine's rows, once, at the start. Rows that do not fit together are refused: a store that
//! lost something must not be served as if it had not.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use agentd_api::event::Event;
use agentd_api::list::WatchKind;
use bytes::Bytes;

use crate::engine::{Counters, Engine, Row};
use crate::error::OpenError;
use crate::history::Change;
use crate::memory::Memory;
use crate::stored::{Interner, Stored};
use crate::tx::Remembered;

pub(crate) struct Loaded {
    pub counters: Counters,
    pub interner: Interner,
    pub memory: Memory,
    /// In the order of their revisions, without gaps from `counters.compacted` to `counters.revision`.
    pub changes: Vec<Arc<Change>>,
    /// In the order of their numbers.
    pub events: Vec<Event>,
    /// In the order of their times.
    pub answers: Vec<(String, u64, Remembered)>,
}

/// Rows as they come. An allocation goes to its owner at once: a list of them all would be most of the memory that
/// loading takes.
#[derive(Default)]
struct Rows {
    interner: Interner,
    objects: Vec<Arc<Stored>>,
    /// Of all objects, from the first row on that is not one.
    memory: Option<Memory>,
    changes: Vec<(u64, WatchKind, u64, Option<Bytes>)>,
    events: Vec<Event>,
    answers: Vec<(String, u64, Remembered)>,
}

impl Rows {
    fn memory(&mut self) -> Result<&mut Memory, String> {
        if self.memory.is_none() {
            self.memory = Some(Memory::build(std::mem::take(&mut self.objects))?);
        }
        Ok(self.memory.as_mut().expect("it was just built"))
    }

    fn take(&mut self, row: Row) -> Result<(), String> {
        match row {
            Row::Object { .. } if self.memory.is_some() => return Err("it comes too late".to_owned()),
            Row::Object { born, key, json } => {
                let object = Stored::parse(born, Some(Arc::new(key)), json, &mut self.interner)?;
                self.objects.push(Arc::new(object));
            }
            Row::Change { revision, what, born, before } => {
                self.changes.push((revision, what, born, before));
            }
            Row::Claim { space, value, owner } => {
                if !self.memory()?.claim(&space, &value, &owner) {
                    return Err(format!("its owner {owner} does not exist"));
                }
            }
            Row::Event { seq, json } => {
                let event: Event = serde_json::from_slice(&json).map_err(|e| e.to_string())?;
                if event.seq != seq {
                    return Err(format!("it holds event {}", event.seq));
                }
                self.events.push(event);
            }
            Row::Answer { key, at, answer } => self.answers.push((key, at, answer)),
        }
        Ok(())
    }
}

pub(crate) fn load(engine: &mut dyn Engine) -> Result<Loaded, OpenError> {
    let mut rows = Rows::default();
    let counters = engine.load(&mut |row| rows.take(row))?;
    rows.memory().map_err(|what| engine.inconsistent("objects", "any".to_owned(), what))?;
    let Rows { mut interner, memory, changes, mut events, mut answers, .. } = rows;
    let mut memory = memory.expect("it was just built");
    memory.revision = counters.revision;
    if let Some(late) = memory.objects().find(|object| object.revision() > counters.revision) {
        let what = format!("it is newer than the store's revision {}", counters.revision);
        return Err(engine.inconsistent("objects", late.key().to_string(), what));
    }
    let changes = history(changes, &memory, &mut interner, counters)
        .map_err(|(revision, what)| engine.inconsistent("changes", revision.to_string(), what))?;
    events.sort_unstable_by_key(|event| event.seq);
    answers.sort_unstable_by_key(|(_, at, _)| *at);
    Ok(Loaded { counters, interner, memory, changes, events, answers })
}

/// The history, from the newest change to the oldest: what an object was after a change is what it was before its next
/// one, or what it is now.
fn history(
    mut rows: Vec<(u64, WatchKind, u64, Option<Bytes>)>,
    memory: &Memory,
    interner: &mut Interner,
    counters: Counters,
) -> Result<Vec<Arc<Change>>, (u64, String)> {
    rows.sort_unstable_by_key(|(revision, ..)| *revision);
    let mut expected = counters.compacted;
    for (revision, ..) in &rows {
        expected += 1;
        if *revision != expected {
            return Err((expected, "it is missing".to_owned()));
        }
    }
    if expected != counters.revision {
        return Err((expected + 1, "it is missing".to_owned()));
    }
    let touched: HashSet<u64> = rows.iter().map(|(_, _, born, _)| *born).collect();
    let recent = memory.objects().filter(|object| touched.contains(&object.born()));
    let mut after: HashMap<u64, Arc<Stored>> = recent.map(|object| (object.born(), object.clone())).collect();
    let mut changes = Vec::with_capacity(rows.len());
    for (revision, what, born, before) in rows.into_iter().rev() {
        let key = after.get(&born).map(|object| object.shared_key().clone());
        let before = before
            .map(|json| Stored::parse(born, key, json, interner).map(Arc::new))
            .transpose()
            .map_err(|what| (revision, what))?;
        let object = match (what, &before) {
            (WatchKind::Deleted, Some(before)) => Some(before.clone()),
            (WatchKind::Deleted, None) => None,
            _ => after.get(&born).filter(|object| object.revision() == revision).cloned(),
        };
        let object = object.ok_or_else(|| (revision, "the object that it changed is missing".to_owned()))?;
        if let Some(before) = &before {
            after.insert(born, before.clone());
        }
        changes.push(Arc::new(Change { revision, what, object, before }));
    }
    changes.reverse();
    Ok(changes)
}
