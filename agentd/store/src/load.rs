//! Builds memory from the engine's rows, once, at the start. Rows that do not fit together are refused: a store that
//! lost something must not be served as if it had not.

use std::collections::HashMap;
use std::sync::Arc;

use agentd_api::ObjectKey;
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

/// Rows as they come.
#[derive(Default)]
struct Rows {
    interner: Interner,
    objects: Vec<Arc<Stored>>,
    changes: Vec<(u64, WatchKind, u64, Option<Bytes>)>,
    claims: Vec<(String, String, ObjectKey)>,
    events: Vec<Event>,
    answers: Vec<(String, u64, Remembered)>,
}

impl Rows {
    fn take(&mut self, row: Row) -> Result<(), String> {
        match row {
            Row::Object { born, key, json } => {
                let object = Stored::parse(born, Some(key), json, &mut self.interner)?;
                self.objects.push(Arc::new(object));
            }
            Row::Change { revision, what, born, before } => {
                self.changes.push((revision, what, born, before));
            }
            Row::Claim { space, value, owner } => self.claims.push((space, value, owner)),
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
    let newest = |table: &str, row: String| {
        engine.inconsistent(
            table,
            row,
            format!("it is newer than the store's revision {}", counters.revision),
        )
    };
    if let Some(late) = rows.objects.iter().find(|object| object.revision() > counters.revision) {
        return Err(newest("objects", late.key().to_string()));
    }
    let changes = changes(&mut rows, counters)
        .map_err(|(revision, what)| engine.inconsistent("changes", revision.to_string(), what))?;
    let mut memory = Memory::build(rows.objects, counters.revision)
        .map_err(|(key, what)| engine.inconsistent("objects", key.to_string(), what))?;
    for (space, value, owner) in rows.claims {
        if memory.get(&owner).is_none() {
            let what = format!("its owner {owner} does not exist");
            return Err(engine.inconsistent("allocations", format!("{space} {value}"), what));
        }
        memory.claims.put(&space, &value, &owner);
    }
    rows.events.sort_unstable_by_key(|event| event.seq);
    rows.answers.sort_unstable_by_key(|(_, at, _)| *at);
    let Rows { interner, events, answers, .. } = rows;
    Ok(Loaded { counters, interner, memory, changes, events, answers })
}

/// The history, from the newest change to the oldest: what an object was after a change is what it was before its next
/// one, or what it is now.
fn changes(rows: &mut Rows, counters: Counters) -> Result<Vec<Arc<Change>>, (u64, String)> {
    rows.changes.sort_unstable_by_key(|(revision, ..)| *revision);
    let mut expected = counters.compacted;
    for (revision, ..) in &rows.changes {
        expected += 1;
        if *revision != expected {
            return Err((expected, "it is missing".to_owned()));
        }
    }
    if expected != counters.revision {
        return Err((expected + 1, "it is missing".to_owned()));
    }
    let touched: std::collections::HashSet<u64> = rows.changes.iter().map(|(_, _, born, _)| *born).collect();
    let recent = rows.objects.iter().filter(|object| touched.contains(&object.born()));
    let mut after: HashMap<u64, Arc<Stored>> = recent.map(|object| (object.born(), object.clone())).collect();
    let mut changes = Vec::with_capacity(rows.changes.len());
    for (revision, what, born, before) in rows.changes.drain(..).rev() {
        let before = before
            .map(|json| Stored::parse(born, None, json, &mut rows.interner).map(Arc::new))
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
