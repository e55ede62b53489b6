//! Turns a finished stage into what the engine has to write and what memory has to show.

use bytes::Bytes;

use crate::engine::{Batch, Op, Row};
use crate::shared::{Publication, Shared};
use crate::stage::Stage;

/// Rows that fell out of what is kept are dropped by the hundred: dropping each with the commit that pushed it out
/// would touch a page more every time.
const LAZY: u64 = 256;

/// What the engine still keeps but memory does not.
#[derive(Default)]
pub(crate) struct Backlog {
    /// The last change and the last event that the engine was told to drop.
    pub changes_dropped: u64,
    pub events_dropped: u64,
    pub answers: Vec<String>,
}

impl Stage<'_> {
    /// Nothing where nothing was changed.
    pub(crate) fn finish(self, shared: &Shared) -> Option<(Batch, Publication)> {
        let Self { counters, objects, claims, answers, changes, events, .. } = self;
        let mut ops = Vec::with_capacity(objects.len() + changes.len() + claims.len() + events.len());
        let memory = shared.memory.read();
        let mut puts = Vec::new();
        for (key, now) in objects {
            let was = memory.get(&key);
            // Those that go are dropped first, so that their names are free.
            if let Some(was) = was
                && now.as_ref().is_none_or(|now| now.born() != was.born())
            {
                ops.push(Op::DropObject { born: was.born() });
            }
            if let Some(now) = now
                && was.is_none_or(|was| was.revision() != now.revision())
            {
                let json = now.kept_json().clone();
                puts.push(Op::Put(Row::Object { born: now.born(), key, json }));
            }
        }
        ops.append(&mut puts);
        for change in &changes {
            let before = change.before.as_ref().map(|before| before.json());
            let (revision, what, born) = (change.revision, change.what, change.object.born());
            ops.push(Op::Put(Row::Change { revision, what, born, before }));
        }
        let mut moved = Vec::new();
        for ((space, value), now) in claims {
            let was = memory.claims.owner(&space, &value);
            if was == now.as_ref() {
                continue;
            }
            ops.push(match &now {
                Some(owner) => {
                    Op::Put(Row::Claim { space: space.clone(), value: value.clone(), owner: owner.clone() })
                }
                None => Op::DropClaim { space: space.clone(), value: value.clone() },
            });
            moved.push((space, value, now));
        }
        drop(memory);
        let mut told = Vec::with_capacity(events.len());
        for event in events {
            let json = Bytes::from(serde_json::to_vec(&event).expect("an event is JSON"));
            ops.push(Op::Put(Row::Event { seq: event.seq, json: json.clone() }));
            told.push((event, json));
        }
        let answers: Vec<_> = answers.into_iter().map(|(key, (at, answer))| (key, at, answer)).collect();
        for (key, at, answer) in &answers {
            ops.push(Op::Put(Row::Answer { key: key.clone(), at: *at, answer: answer.clone() }));
        }
        if ops.is_empty() {
            return None;
        }
        Some((Batch { ops, counters }, Publication { changes, claims: moved, events: told, answers }))
    }
}

impl Backlog {
    /// Adds to a batch what has to go with it; afterwards the batch's counters say what the engine keeps.
    pub(crate) fn add_to(&self, batch: &mut Batch, shared: &Shared) {
        let changes = shared.history.read().compacted();
        if changes >= self.changes_dropped + LAZY {
            batch.ops.push(Op::DropChanges { through: changes });
            batch.counters.compacted = changes;
        }
        let events = shared.events.read().forgotten();
        if events >= self.events_dropped + LAZY {
            batch.ops.push(Op::DropEvents { through: events });
        }
        // Before the batch's own answers: one of them may have a key that is to be dropped.
        let old = self.answers.iter().map(|key| Op::DropAnswer { key: key.clone() });
        batch.ops.splice(0..0, old);
    }

    /// The batch is durable.
    pub(crate) fn done(&mut self, batch: &Batch) {
        self.answers.clear();
        for op in &batch.ops {
            match op {
                Op::DropChanges { through } => self.changes_dropped = *through,
                Op::DropEvents { through } => self.events_dropped = *through,
                _ => {}
            }
        }
    }
}
