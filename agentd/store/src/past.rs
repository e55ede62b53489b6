//! What happened before the start, as its rows say it: read when somebody asks for it, or after the start in the
//! background, since nobody who lists has to wait for it. Each row had its checksum when the store was opened, and none
//! is missing.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use agentd_api::event::Event;
use agentd_api::list::WatchKind;
use bytes::Bytes;
use uuid::Uuid;

use crate::engine::Counters;
use crate::history::Change;
use crate::json::ObjectJson;
use crate::memory::Memory;
use crate::stored::{Interner, Stored};

pub(crate) struct ChangeRow {
    pub revision: u64,
    pub what: WatchKind,
    pub born: u64,
    pub before: Option<Bytes>,
}

/// Changes in the order of their revisions, and the objects that they led to.
pub(crate) struct PastChanges {
    rows: Vec<ChangeRow>,
    /// The objects that the changes are of and that are there, by `born`.
    objects: HashMap<u64, Arc<Stored>>,
}

impl PastChanges {
    /// An error names the change that is missing or is of an object that is not as the change left it.
    pub(crate) fn of(
        mut rows: Vec<ChangeRow>,
        memory: &Memory,
        counters: Counters,
    ) -> Result<Self, (u64, String)> {
        rows.sort_unstable_by_key(|row| row.revision);
        let mut expected = counters.compacted;
        for row in &rows {
            expected += 1;
            if row.revision != expected {
                return Err((expected, "it is missing".to_owned()));
            }
        }
        if expected != counters.revision {
            return Err((expected + 1, "it is missing".to_owned()));
        }
        let touched: HashSet<u64> = rows.iter().map(|row| row.born).collect();
        let recent = memory.objects().filter(|object| touched.contains(&object.born()));
        let objects: HashMap<_, _> = recent.map(|object| (object.born(), object.clone())).collect();
        let mut later = HashSet::with_capacity(touched.len());
        for row in rows.iter().rev() {
            if later.insert(row.born) {
                let now = objects.get(&row.born).map(|object| object.revision());
                let fits = match row.what {
                    WatchKind::Deleted => now.is_none() && row.before.is_some(),
                    _ => now == Some(row.revision),
                };
                if !fits {
                    return Err((row.revision, "the object that it changed is missing".to_owned()));
                }
            }
        }
        Ok(Self { rows, objects })
    }

    /// From the newest to the oldest: what an object was after a change is what it was before its next one, or what it
    /// was at the start. Where a row cannot be read the changes behind it are all there are; that and why is logged.
    pub(crate) fn read(self) -> Vec<Arc<Change>> {
        let Self { rows, objects: mut after } = self;
        let mut interner = Interner::default();
        let mut changes = Vec::with_capacity(rows.len());
        for row in rows.into_iter().rev() {
            let revision = row.revision;
            match change(row, &mut after, &mut interner) {
                Ok(change) => changes.push(Arc::new(change)),
                Err(what) => {
                    tracing::error!(revision, "changes up to this one cannot be watched any more: {what}");
                    break;
                }
            }
        }
        changes.reverse();
        changes
    }
}

fn change(
    row: ChangeRow,
    after: &mut HashMap<u64, Arc<Stored>>,
    interner: &mut Interner,
) -> Result<Change, String> {
    let ChangeRow { revision, what, born, before } = row;
    let key = after.get(&born).map(|object| object.shared_key().clone());
    let before = before
        .map(|json| Stored::parse(born, key, ObjectJson::copy(&json), interner).map(Arc::new))
        .transpose()?;
    let object = match (what, &before) {
        (WatchKind::Deleted, before) => before.clone(),
        _ => after.get(&born).filter(|object| object.revision() == revision).cloned(),
    };
    let object = object.ok_or_else(|| "the object that it changed is missing".to_owned())?;
    if let Some(before) = &before {
        after.insert(born, before.clone());
    }
    Ok(Change { revision, what, object, before })
}

/// Events in their order, each with its number and its object. One that cannot be read is logged and left out.
pub(crate) fn events(rows: Vec<(u64, Bytes)>) -> impl Iterator<Item = (u64, Uuid, Bytes)> {
    rows.into_iter().filter_map(|(seq, json)| match serde_json::from_slice::<Event>(&json) {
        Ok(event) if event.seq == seq => Some((seq, event.id, json)),
        Ok(event) => {
            tracing::error!(seq, "an event is left out: its row holds event {}", event.seq);
            None
        }
        Err(error) => {
            tracing::error!(seq, %error, "an event is left out: it cannot be read");
            None
        }
    })
}
