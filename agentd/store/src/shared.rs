//! What the writer and all readers hold together. Locks are taken in the order of the fields, and only to look
//! something up or to publish a batch that is durable already.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use agentd_api::event::Event;
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use crate::error::StoreError;
use crate::events::EventLog;
use crate::history::{Change, History};
use crate::memory::Memory;
use crate::memory::answers::Answers;

/// What is made of the rows that the start found when it is first asked for, or in the background if that comes first.
pub(crate) type Late<T> = LazyLock<RwLock<T>, Box<dyn FnOnce() -> RwLock<T> + Send>>;

pub(crate) struct Shared {
    pub memory: RwLock<Memory>,
    pub history: Late<History>,
    pub events: Late<EventLog>,
    pub answers: Mutex<Answers>,
    /// What the last commit failed with, until one succeeds.
    pub trouble: Mutex<Option<StoreError>>,
    /// The last revision: wakes watchers.
    pub wake: watch::Sender<u64>,
    /// The number of the last event: wakes those who follow events.
    pub event_wake: watch::Sender<u64>,
    pub counts: Counts,
}

#[derive(Default)]
pub(crate) struct Counts {
    pub commits: AtomicU64,
    pub transactions: AtomicU64,
    pub failed_commits: AtomicU64,
    pub commit_nanos: AtomicU64,
    pub engine_bytes: AtomicU64,
}

impl Counts {
    pub(crate) fn add(counter: &AtomicU64, by: u64) {
        counter.fetch_add(by, Ordering::Relaxed);
    }
}

/// What a durable batch changes in memory.
#[derive(Default)]
pub(crate) struct Publication {
    pub changes: Vec<Arc<Change>>,
    /// Space, value and the new owner, or none.
    pub claims: Vec<(String, String, Option<agentd_api::ObjectKey>)>,
    /// With their JSON.
    pub events: Vec<(Event, Bytes)>,
    pub answers: Vec<(String, u64, crate::tx::Remembered)>,
}

impl Shared {
    /// Shows a batch to everyone. The history is moved on while the memory is still locked: a revision that was seen in
    /// a list can be watched from.
    pub(crate) fn publish(&self, publication: Publication) {
        let Publication { changes, claims, events, answers } = publication;
        let revision = changes.last().map(|change| change.revision);
        let seq = events.last().map(|(event, _)| event.seq);
        // Made before the memory is locked, where that has not been done yet: readers need not wait for it.
        let (history, log) = (&*self.history, &*self.events);
        // What is dropped is dropped behind the locks.
        let mut gone = Vec::new();
        if !changes.is_empty() || !claims.is_empty() {
            let mut memory = self.memory.write();
            for change in &changes {
                memory.apply(change);
            }
            for (space, value, owner) in &claims {
                memory.claims.take(space, value);
                if let Some(owner) = owner {
                    let owned = memory.claim(space, value, owner);
                    debug_assert!(owned, "a stage keeps no allocation without an owner");
                }
            }
            let mut history = history.write();
            for change in changes {
                history.push(change, &mut gone);
            }
        }
        if !events.is_empty() {
            let mut log = log.write();
            events.into_iter().for_each(|(event, json)| log.push(event.seq, event.id, json));
        }
        if !answers.is_empty() {
            let mut known = self.answers.lock();
            answers.into_iter().for_each(|(key, at, answer)| known.put(key, at, answer));
        }
        if let Some(revision) = revision {
            self.wake.send_replace(revision);
        }
        if let Some(seq) = seq {
            self.event_wake.send_replace(seq);
        }
    }
}
