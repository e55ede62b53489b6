//! What waits for a pass, of one kind.
//!
//! ```text
//!              wake                    pop                finish
//!   settled ----------->  ready  -------------> running ---------> settled
//!      ^                    ^                     |  woken meanwhile
//!      |  timer due         +---------------------+
//!      +--------- delayed <-- asked for by the pass or by wake_after
//! ```
//!
//! A key is in `ready` once however often it is woken, and never runs twice at a time; a wake that comes while it runs
//! makes it run once more. A settled key takes no memory here.
//!
//! A change of the object itself wakes it, unless the pass wrote that change: `finish` is told the revisions that the
//! pass wrote, and the watch, which may be ahead of that or behind, tells the revisions that it saw.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::Duration;

use agentd_api::ObjectKey;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

/// A wake by a backend's event that came while the key ran is served this much later: what a pass does causes events
/// too, and a thing that fails at once must not be tried as fast as it can fail.
const BREATH: Duration = Duration::from_millis(100);

/// How pressing a wake is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// Something was seen on the host. While failed tries are held back this does not hasten the next one.
    Event,
    /// Somebody wants something: a change of the object, of what it depends on, a person.
    Now,
}

/// How a pass ended, as the queue needs to know it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Finish {
    /// The revision at which the pass read its object.
    pub read: u64,
    /// The revisions that the pass itself wrote of its object.
    pub wrote: Vec<u64>,
    /// When to come again without being woken.
    pub again: Option<Duration>,
    /// Events do not hasten that.
    pub held: bool,
}

#[derive(Debug, Default)]
pub struct Queue {
    inner: Mutex<Inner>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    ready: VecDeque<ObjectKey>,
    queued: HashSet<ObjectKey>,
    running: HashMap<ObjectKey, Running>,
    timers: BTreeMap<(Instant, u64), (ObjectKey, Whose)>,
    due: HashMap<(ObjectKey, Whose), (Instant, u64)>,
    held: HashSet<ObjectKey>,
    /// Revisions that a pass wrote and that the watch has not told of yet.
    expected: HashMap<ObjectKey, Vec<u64>>,
    count: u64,
}

#[derive(Debug, Default)]
struct Running {
    woken: Option<Urgency>,
    seen: Vec<u64>,
}

/// Whose timer: the pass's own is replaced by every pass, one that was asked for from outside stays until it is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Whose {
    Pass,
    Asked,
}

impl Queue {
    pub fn wake(&self, key: &ObjectKey, urgency: Urgency) {
        if self.inner.lock().wake(key, urgency) {
            self.changed.notify_one();
        }
    }

    /// Wakes `key` after `delay`. Of several that are pending the earliest counts.
    pub fn wake_after(&self, key: &ObjectKey, delay: Duration) {
        self.inner.lock().set_timer(key, Whose::Asked, Instant::now() + delay);
        self.changed.notify_one();
    }

    /// The watch saw `revision` of that object.
    pub fn object_changed(&self, key: &ObjectKey, revision: u64) {
        if self.inner.lock().object_changed(key, revision) {
            self.changed.notify_one();
        }
    }

    /// The next key to run. It counts as running until [`finish`](Self::finish).
    pub fn pop(&self) -> Option<ObjectKey> {
        let mut inner = self.inner.lock();
        inner.fire_timers(Instant::now());
        let key = inner.ready.pop_front()?;
        inner.queued.remove(&key);
        inner.held.remove(&key);
        inner.clear_timer(&key, Whose::Pass);
        inner.running.insert(key.clone(), Running::default());
        Some(key)
    }

    pub fn finish(&self, key: &ObjectKey, end: &Finish) {
        self.inner.lock().finish(key, end);
        self.changed.notify_one();
    }

    /// Returns when there may be something to [`pop`](Self::pop). Cancel safe.
    pub async fn wait(&self) {
        let due = self.inner.lock().timers.keys().next().map(|(at, _)| *at);
        match due {
            None => self.changed.notified().await,
            // Cancel safety: neither arm holds anything.
            Some(at) => tokio::select! {
                () = self.changed.notified() => {}
                () = tokio::time::sleep_until(at) => {}
            },
        }
    }

    /// How many wait now and how many run.
    pub fn depth(&self) -> (usize, usize) {
        let inner = self.inner.lock();
        (inner.ready.len(), inner.running.len())
    }
}

impl Inner {
    /// Whether something became ready.
    fn wake(&mut self, key: &ObjectKey, urgency: Urgency) -> bool {
        if let Some(running) = self.running.get_mut(key) {
            running.woken = running.woken.max(Some(urgency));
            return false;
        }
        if urgency == Urgency::Event && self.held.contains(key) {
            return false;
        }
        self.push(key)
    }

    fn push(&mut self, key: &ObjectKey) -> bool {
        let new = self.queued.insert(key.clone());
        if new {
            self.ready.push_back(key.clone());
        }
        new
    }

    fn object_changed(&mut self, key: &ObjectKey, revision: u64) -> bool {
        if let Some(running) = self.running.get_mut(key) {
            running.seen.push(revision);
            return false;
        }
        if let Some(expected) = self.expected.get_mut(key)
            && let Some(at) = expected.iter().position(|r| *r == revision)
        {
            // The watch tells revisions in order: what came before this one is not coming any more.
            expected.drain(..=at);
            if expected.is_empty() {
                self.expected.remove(key);
            }
            return false;
        }
        self.push(key)
    }

    fn finish(&mut self, key: &ObjectKey, end: &Finish) {
        let Some(running) = self.running.remove(key) else { return };
        let foreign = running.seen.iter().any(|r| *r > end.read && !end.wrote.contains(r));
        let last = running.seen.iter().max().copied().unwrap_or_default();
        let coming: Vec<u64> = end.wrote.iter().copied().filter(|r| *r > last).collect();
        if let Some(expected) = self.expected.get_mut(key) {
            expected.retain(|r| *r > last.max(end.read));
            if expected.is_empty() {
                self.expected.remove(key);
            }
        }
        if !coming.is_empty() {
            self.expected.entry(key.clone()).or_default().extend(coming);
        }
        if end.held && end.again.is_some() {
            self.held.insert(key.clone());
        }
        let now = Instant::now();
        if foreign || running.woken == Some(Urgency::Now) {
            self.push(key);
        } else if running.woken == Some(Urgency::Event) && !end.held {
            let wait = end.again.unwrap_or(BREATH).min(BREATH);
            self.set_timer(key, Whose::Pass, now + wait);
        } else if let Some(again) = end.again {
            self.set_timer(key, Whose::Pass, now + again);
        }
    }

    fn set_timer(&mut self, key: &ObjectKey, whose: Whose, at: Instant) {
        if whose == Whose::Asked && self.due.get(&(key.clone(), whose)).is_some_and(|(known, _)| *known <= at)
        {
            return;
        }
        self.clear_timer(key, whose);
        self.count += 1;
        let slot = (at, self.count);
        self.timers.insert(slot, (key.clone(), whose));
        self.due.insert((key.clone(), whose), slot);
    }

    fn clear_timer(&mut self, key: &ObjectKey, whose: Whose) {
        if let Some(slot) = self.due.remove(&(key.clone(), whose)) {
            self.timers.remove(&slot);
        }
    }

    fn fire_timers(&mut self, now: Instant) {
        while let Some(entry) = self.timers.first_entry()
            && entry.key().0 <= now
        {
            let (key, whose) = entry.remove();
            self.due.remove(&(key.clone(), whose));
            match self.running.get_mut(&key) {
                Some(running) => running.woken = Some(Urgency::Now),
                None => {
                    self.push(&key);
                }
            }
        }
    }
}
