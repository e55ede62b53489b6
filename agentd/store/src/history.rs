//! The last changes, in one ring that all watchers read from: a watcher is a position in it, so that a thousand of
//! them cost no more than one, and a slow one holds up nobody. What falls out of the ring is compacted; a watcher that
//! was still before it is told so and has to list again.
//!
//! Every change has a revision of its own, and revisions have no gaps. Watchers see the changes of one transaction one
//! after the other, and none of them before all are durable.

use std::collections::VecDeque;
use std::sync::Arc;

use agentd_api::list::WatchKind;
use tokio::sync::watch;

use crate::shared::Shared;
use crate::stored::Stored;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub revision: u64,
    /// Added, modified or deleted.
    pub what: WatchKind,
    /// After the change; of a deleted one its last state.
    pub object: Arc<Stored>,
    /// Absent for an added one.
    pub before: Option<Arc<Stored>>,
}

/// The changes asked for are not kept any more. `oldest` is the earliest revision that a watch can begin at; what to
/// do is to list, and to watch from the list's revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("changes before revision {oldest} are no longer kept: list again and watch from there")]
pub struct Compacted {
    pub oldest: u64,
}

/// What an entry of the ring costs beside the JSON that only it holds.
const OVERHEAD: usize = 512;
/// How many changes a watcher takes out of the ring at once.
const AHEAD: usize = 128;

pub(crate) struct History {
    ring: VecDeque<Arc<Change>>,
    /// All up to this revision is gone.
    compacted: u64,
    bytes: usize,
    count_max: usize,
    bytes_max: usize,
}

impl History {
    pub(crate) fn new(compacted: u64, count_max: usize, bytes_max: usize) -> Self {
        Self { ring: VecDeque::new(), compacted, bytes: 0, count_max, bytes_max }
    }

    /// Changes come in the order of their revisions. What the ring has no room for is pushed to `gone`.
    pub(crate) fn push(&mut self, change: Arc<Change>, gone: &mut Vec<Arc<Change>>) {
        debug_assert_eq!(change.revision, self.newest() + 1);
        self.bytes += cost(&change);
        self.ring.push_back(change);
        while self.ring.len() > self.count_max || self.bytes > self.bytes_max {
            let Some(old) = self.ring.pop_front() else { break };
            self.drop_front(old, gone);
        }
    }

    pub(crate) fn compact(&mut self, through: u64, gone: &mut Vec<Arc<Change>>) {
        while let Some(old) = self.ring.pop_front_if(|change| change.revision <= through) {
            self.drop_front(old, gone);
        }
    }

    fn drop_front(&mut self, old: Arc<Change>, gone: &mut Vec<Arc<Change>>) {
        self.bytes -= cost(&old);
        self.compacted = old.revision;
        gone.push(old);
    }

    /// The last change that does not belong to the newest ones of so many bytes.
    pub(crate) fn beyond(&self, bytes: usize) -> u64 {
        let mut taken = 0;
        let newest = self.ring.iter().rev().take_while(|change| {
            taken += cost(change);
            taken <= bytes
        });
        self.newest() - newest.count() as u64
    }

    pub(crate) fn compacted(&self) -> u64 {
        self.compacted
    }

    pub(crate) fn newest(&self) -> u64 {
        self.compacted + self.ring.len() as u64
    }

    pub(crate) fn size(&self) -> (usize, usize) {
        (self.ring.len(), self.bytes)
    }

    /// Whether a watch can begin behind this revision. One that has not happened yet is of another history.
    fn reaches(&self, since: u64) -> Result<(), Compacted> {
        let known = self.compacted <= since && since <= self.newest();
        if known { Ok(()) } else { Err(Compacted { oldest: self.compacted }) }
    }

    fn read(&self, since: u64, into: &mut VecDeque<Arc<Change>>) -> Result<(), Compacted> {
        self.reaches(since)?;
        let skip = usize::try_from(since - self.compacted).unwrap_or(usize::MAX);
        into.extend(self.ring.iter().skip(skip).take(AHEAD).cloned());
        Ok(())
    }
}

fn cost(change: &Change) -> usize {
    OVERHEAD + change.before.as_ref().map_or(0, |before| before.json().len())
}

/// All changes behind a revision, in order, each once.
pub struct Watch {
    shared: Arc<Shared>,
    /// All up to this revision was delivered.
    position: u64,
    ahead: VecDeque<Arc<Change>>,
    wake: watch::Receiver<u64>,
}

impl Watch {
    pub(crate) fn new(shared: Arc<Shared>, since: Option<u64>) -> Result<Self, Compacted> {
        let wake = shared.wake.subscribe();
        let position = match since {
            None => shared.memory.read().revision,
            Some(since) => {
                shared.history.read().reaches(since)?;
                since
            }
        };
        Ok(Self { shared, position, ahead: VecDeque::new(), wake })
    }

    /// The next change, when there is one. Dropping the future loses nothing. Once it said `Compacted` it always will.
    /// It waits for ever when the store is closed.
    pub async fn next(&mut self) -> Result<Arc<Change>, Compacted> {
        loop {
            if let Some(next) = self.try_next() {
                return next;
            }
            // A change that came since we looked has moved the channel on, so it cannot be slept through.
            if self.wake.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// The next change if it is there already.
    pub fn try_next(&mut self) -> Option<Result<Arc<Change>, Compacted>> {
        // Who is up to date need not look into the history, which is not even read before somebody does.
        if self.ahead.is_empty() && *self.wake.borrow() == self.position {
            return None;
        }
        if self.ahead.is_empty()
            && let Err(compacted) = self.shared.history.read().read(self.position, &mut self.ahead)
        {
            return Some(Err(compacted));
        }
        let next = self.ahead.pop_front()?;
        self.position = next.revision;
        Some(Ok(next))
    }

    /// All changes up to this revision were delivered: what a bookmark says.
    pub fn position(&self) -> u64 {
        self.position
    }
}
