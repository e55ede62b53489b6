//! The store as others hold it: a handle that is cheap to clone. Reads come from memory and never wait for a disk;
//! writes go to the writer thread and return when they are durable.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use agentd_api::ObjectKey;
use agentd_api::event::EventList;
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{oneshot, watch};
use uuid::Uuid;

use crate::backup::Snapshot;
use crate::batch::Backlog;
use crate::engine::sqlite::SqliteEngine;
use crate::engine::{Counters, Engine};
use crate::error::{OpenError, StoreError, Transact};
use crate::events::{EventLog, EventQuery};
use crate::history::{Compacted, History, Watch};
use crate::load::{Loaded, load};
use crate::memory::answers::{Answers, Limits};
use crate::past::{self, PastChanges};
use crate::query::{Listing, Query};
use crate::shared::{Counts, Shared};
use crate::stored::Stored;
use crate::tx::Tx;
use crate::writer::{Queue, Transaction, Work, Writer};

/// What is kept beside the objects, and how much of it.
#[derive(Debug, Clone)]
pub struct Options {
    /// Changes that a watch can still go back to: so many, and so many bytes of what they replaced.
    pub history: usize,
    pub history_bytes: usize,
    /// So many bytes of it are kept over a close: what the next start reads, and nobody is likely to ask for.
    pub history_at_rest: usize,
    pub events: usize,
    /// Answers to requests with an idempotency key.
    pub answers: usize,
    pub answer_bytes: usize,
    pub answer_age: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            history: 20_000,
            history_bytes: 16 << 20,
            history_at_rest: 1 << 20,
            events: 10_000,
            answers: 10_000,
            answer_bytes: 16 << 20,
            answer_age: Duration::from_secs(24 * 3600),
        }
    }
}

/// The past is read in the background so long after the start: who waits for a first answer has the processor to
/// itself.
const PAST_AFTER: Duration = Duration::from_millis(500);

fn past_changes(past: PastChanges, counters: Counters, (count, bytes): (usize, usize)) -> History {
    let changes = past.read();
    let compacted = changes.first().map_or(counters.revision, |first| first.revision - 1);
    let mut history = History::new(compacted, count, bytes);
    changes.into_iter().for_each(|change| history.push(change, &mut Vec::new()));
    history
}

fn past_events(rows: Vec<(u64, Bytes)>, counters: Counters, count: usize) -> EventLog {
    let mut log = EventLog::new(count, counters.event_seq);
    past::events(rows).for_each(|(seq, id, json)| log.push(seq, id, json));
    log
}

/// Numbers for the metrics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    pub revision: u64,
    /// A watch cannot begin before this revision.
    pub oldest: u64,
    pub objects: usize,
    /// Objects of each kind.
    pub kinds: Vec<(String, usize)>,
    pub allocations: usize,
    pub events: usize,
    pub answers: usize,
    pub changes: usize,
    pub change_bytes: usize,
    pub watchers: usize,
    /// Transactions that wait for the writer.
    pub waiting: usize,
    pub transactions: u64,
    pub commits: u64,
    pub failed_commits: u64,
    /// The time that all commits took together.
    pub commit_time: Duration,
    pub engine_bytes: u64,
}

#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
    handle: Arc<Handle>,
}

/// Ends the writer when the last handle goes.
struct Handle {
    queue: Arc<Queue>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        // Nobody waits for it: what was acknowledged is durable already.
        drop(self.queue.close());
    }
}

impl Store {
    /// Opens the SQLite store in this file, or makes it. Everything in it is verified; what is damaged is refused and
    /// left untouched.
    pub fn open(path: &Path, options: Options) -> Result<Self, OpenError> {
        Self::with_engine(Box::new(SqliteEngine::open(path)?), options)
    }

    pub fn with_engine(mut engine: Box<dyn Engine>, options: Options) -> Result<Self, OpenError> {
        let Loaded { counters, interner, memory, changes, events, answers } = load(engine.as_mut())?;
        let events_dropped = events.first().map_or(counters.event_seq, |(first, _)| first - 1);
        let Options { answer_age: age, answers: count, answer_bytes: bytes, events: kept_events, .. } =
            options;
        let history = (options.history, options.history_bytes);
        let at_rest = options.history_at_rest;
        let mut known = Answers::new(Limits { age, count, bytes });
        answers.into_iter().for_each(|(key, at, answer)| known.put(key, at, answer));
        let shared = Arc::new(Shared {
            memory: RwLock::new(memory),
            history: LazyLock::new(Box::new(move || RwLock::new(past_changes(changes, counters, history)))),
            events: LazyLock::new(Box::new(move || RwLock::new(past_events(events, counters, kept_events)))),
            answers: Mutex::new(known),
            trouble: Mutex::new(None),
            wake: watch::Sender::new(counters.revision),
            event_wake: watch::Sender::new(counters.event_seq),
            counts: Counts::default(),
        });
        shared.counts.engine_bytes.store(engine.size(), Ordering::Relaxed);
        let backlog = Backlog { changes_dropped: counters.compacted, events_dropped, answers: Vec::new() };
        let queue = Arc::new(Queue::default());
        let writer = Writer {
            shared: shared.clone(),
            queue: queue.clone(),
            engine,
            interner,
            counters,
            backlog,
            at_rest,
        };
        std::thread::Builder::new()
            .name("agentd-store".to_owned())
            .spawn(move || writer.run())
            .map_err(|e| OpenError::Io { file: "thread agentd-store".into(), detail: e.to_string() })?;
        let past = shared.clone();
        let read = move || {
            std::thread::sleep(PAST_AFTER);
            LazyLock::force(&past.history);
            LazyLock::force(&past.events);
        };
        // Where there is no thread for it, whoever asks first reads it.
        drop(std::thread::Builder::new().name("agentd-past".to_owned()).spawn(read));
        Ok(Self { shared, handle: Arc::new(Handle { queue }) })
    }

    /// Runs a transaction and returns once it is durable. An error of the closure takes back all it did. It is carried
    /// out even if the future is dropped: no change is tied to the life of the request that asked for it.
    pub async fn transact<T, E>(
        &self,
        closure: impl FnMut(&mut dyn Tx) -> Result<T, E> + Send + 'static,
    ) -> Result<T, Transact<E>>
    where
        T: Send + 'static,
        E: Send + 'static,
    {
        let (caller, answer) = oneshot::channel();
        let job = Transaction { closure, result: None, caller };
        if self.handle.queue.push(Work::Transaction(Box::new(job))).is_err() {
            return Err(Transact::Failed(StoreError::Closed));
        }
        answer.await.unwrap_or(Err(Transact::Failed(StoreError::Closed)))
    }

    pub fn get(&self, key: &ObjectKey) -> Option<Arc<Stored>> {
        self.shared.memory.read().get(key).cloned()
    }

    pub fn by_id(&self, id: Uuid) -> Option<Arc<Stored>> {
        self.shared.memory.read().by_id(id).cloned()
    }

    pub fn list(&self, query: &Query) -> Listing {
        self.shared.memory.read().list(query)
    }

    /// Who has taken a value.
    pub fn owner_of(&self, space: &str, value: &str) -> Option<ObjectKey> {
        self.shared.memory.read().claims.owner(space, value).cloned()
    }

    /// What one object has taken in a space.
    pub fn allocated(&self, owner: &ObjectKey, space: &str) -> Vec<String> {
        let memory = self.shared.memory.read();
        let own = memory.claims.of(owner).iter().filter(|(taken, _)| &**taken == space);
        own.map(|(_, value)| value.to_string()).collect()
    }

    /// All allocations, in the order of space and value.
    pub fn allocations(&self) -> Vec<(String, String, ObjectKey)> {
        let memory = self.shared.memory.read();
        let claims = memory.claims.iter().map(|(s, v, owner)| (s.to_owned(), v.to_owned(), owner.clone()));
        let mut all: Vec<_> = claims.collect();
        all.sort_unstable();
        all
    }

    /// Of the last change.
    pub fn revision(&self) -> u64 {
        self.shared.memory.read().revision
    }

    /// All changes behind a revision, or behind the present one.
    pub fn watch(&self, since: Option<u64>) -> Result<Watch, Compacted> {
        Watch::new(self.shared.clone(), since)
    }

    pub fn events(&self, query: &EventQuery) -> EventList {
        self.shared.events.read().list(query)
    }

    /// The number of the last event, whenever there is a new one.
    pub fn watch_events(&self) -> watch::Receiver<u64> {
        self.shared.event_wake.subscribe()
    }

    /// Forgets changes up to and with this revision, and gives the space of what was dropped back to the disk. All
    /// writes wait meanwhile.
    pub async fn compact(&self, through: u64) -> Result<(), StoreError> {
        let (done, answer) = oneshot::channel();
        if self.handle.queue.push(Work::Compact { through, done }).is_err() {
            return Err(StoreError::Closed);
        }
        answer.await.unwrap_or(Err(StoreError::Closed))
    }

    /// All that there is at one revision, while others go on to write. It is taken between two commits, and shares what it
    /// holds with the store.
    pub async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        let (done, answer) = oneshot::channel();
        if self.handle.queue.push(Work::Snapshot(done)).is_err() {
            return Err(StoreError::Closed);
        }
        answer.await.map_err(|_| StoreError::Closed)
    }

    /// What the last commit failed with, until writing is possible again; that the store is closed, for ever after.
    pub fn health(&self) -> Result<(), StoreError> {
        if self.handle.queue.is_closed() {
            return Err(StoreError::Closed);
        }
        self.shared.trouble.lock().clone().map_or(Ok(()), Err)
    }

    pub fn stats(&self) -> Stats {
        let counts = &self.shared.counts;
        let mut stats = Stats {
            waiting: self.handle.queue.len(),
            answers: self.shared.answers.lock().len(),
            events: self.shared.events.read().len(),
            watchers: self.shared.wake.receiver_count(),
            transactions: counts.transactions.load(Ordering::Relaxed),
            commits: counts.commits.load(Ordering::Relaxed),
            failed_commits: counts.failed_commits.load(Ordering::Relaxed),
            commit_time: Duration::from_nanos(counts.commit_nanos.load(Ordering::Relaxed)),
            engine_bytes: counts.engine_bytes.load(Ordering::Relaxed),
            ..Stats::default()
        };
        {
            let memory = self.shared.memory.read();
            stats.revision = memory.revision;
            stats.objects = memory.count();
            stats.kinds = memory.counts().map(|(kind, count)| (kind.to_owned(), count)).collect();
            stats.allocations = memory.claims.len();
        }
        let history = self.shared.history.read();
        stats.oldest = history.compacted();
        (stats.changes, stats.change_bytes) = history.size();
        stats
    }

    /// Takes no more transactions, lets those that wait finish, and closes the file. Other handles go on reading; their
    /// writes are refused. An error here loses nothing that was acknowledged.
    pub async fn close(self) -> Result<(), StoreError> {
        self.handle.queue.close().await.unwrap_or(Ok(()))
    }
}
