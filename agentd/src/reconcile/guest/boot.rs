//! After a boot of the host: which VM or container is started when.
//!
//! ```text
//! rank 1: a, b --all started (or given up), their delays over--> rank 2: c --...--> without an order: d, e, ...
//! ```
//! The queue is worked out when it is first asked for, which is before any guest is started, from what the store says: a VM
//! that is wanted to run and was last seen up in an earlier boot. A daemon that is ended in between finds the rest of it
//! again. A VM that was at its turn and did not come up is tried on by itself and holds up nobody; one that waits for
//! something else does so for a while only.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use agentd_api::container::{Container, ContainerDesired, ContainerEnd};
use agentd_api::vm::{StopKind, Vm, VmDesired, VmStatus};
use agentd_api::{Kind, Object, ObjectKey};
use agentd_store::{Query, Store, Stored};
use parking_lot::Mutex;
use serde::Deserialize;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::reconcile::runtime::Trigger;

/// How long those of one rank may keep the next from starting.
const PATIENCE: Duration = Duration::from_secs(120);
/// So many guests are started side by side, at least.
const AT_ONCE_MIN: usize = 2;

pub struct BootQueue {
    line: LazyLock<Mutex<Line>, Box<dyn FnOnce() -> Mutex<Line> + Send>>,
    starts: Semaphore,
}

#[derive(Debug, Default)]
struct Line {
    ranks: BTreeMap<u32, BTreeSet<ObjectKey>>,
    /// Before this the first rank is not begun with: the delays of the one before it.
    open_at: Option<Instant>,
    /// The same for the one behind the first.
    next_at: Option<Instant>,
    /// Since when it is the turn of the first rank.
    since: Option<Instant>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turn {
    Now,
    /// Not yet; to be asked again after that time at the latest.
    Later(Duration),
}

/// Whether a boot of the host finds it wanted to run, and not run since.
pub fn awaits_start(spec_running: bool, enabled: bool, status: &VmStatus, boot: &str) -> bool {
    let earlier = status.host_boot.as_deref().is_some_and(|b| b != boot);
    spec_running && enabled && earlier && was_to_run(status)
}

/// As [`awaits_start`], of a container.
pub fn container_awaits_start(container: &Object<Container>, boot: &str) -> bool {
    let (spec, status) = (&container.spec, &container.status);
    let earlier = status.host_boot.as_deref().is_some_and(|b| b != boot);
    let wanted = |how: ContainerEnd| {
        matches!(how, ContainerEnd::HostDown | ContainerEnd::Stopped | ContainerEnd::Killed)
    };
    let to_run = status.was_up() || status.last_stop.as_ref().is_none_or(|stop| wanted(stop.how));
    spec.desired != ContainerDesired::Stopped && spec.autostart.enabled && earlier && to_run
}

/// A guest that had ended by itself stays as its restart policy left it.
fn was_to_run(status: &VmStatus) -> bool {
    status.was_up()
        || status
            .last_stop
            .as_ref()
            .is_none_or(|stop| matches!(stop.how, StopKind::HostDown | StopKind::Acpi | StopKind::Forced))
}

/// What tells of a guest in which boot of the host it was last up.
#[derive(Deserialize)]
struct LastUp {
    #[serde(default)]
    status: HostBoot,
}

#[derive(Default, Deserialize)]
struct HostBoot {
    host_boot: Option<String>,
}

/// The guests of a kind that were up in an earlier boot. After a mere restart of the daemon there are next to none, and
/// the start need not read all objects whole to find that out.
fn earlier<'a>(store: &Store, kind: &str, boot: &'a str) -> impl Iterator<Item = Arc<Stored>> + use<'a> {
    let is_earlier = move |stored: &Arc<Stored>| {
        let last = stored.part::<LastUp>().ok().and_then(|part| part.status.host_boot);
        last.is_some_and(|last| last != boot)
    };
    store.list(&Query::kind(kind)).items.into_iter().filter(is_earlier)
}

impl BootQueue {
    pub fn new(store: &Store, boot: &str, cpus: usize) -> Self {
        let (store, boot) = (store.clone(), boot.to_owned());
        let line = LazyLock::new(Box::new(move || Mutex::new(Line::of(&store, &boot))) as Box<_>);
        Self { line, starts: Semaphore::new(cpus.max(AT_ONCE_MIN)) }
    }

    /// Whether it may be started. One that is not in the queue may.
    pub fn turn(&self, vm: &ObjectKey) -> Turn {
        let now = Instant::now();
        let mut line = self.line.lock();
        let Some(rank) = line.rank_of(vm) else { return Turn::Now };
        let since = *line.since.get_or_insert(now);
        if line.ranks.keys().next() == Some(&rank) {
            return match line.open_at.filter(|at| *at > now) {
                Some(at) => Turn::Later(at - now),
                None => Turn::Now,
            };
        }
        let over =
            since + PATIENCE + line.open_at.map_or(Duration::ZERO, |at| at.saturating_duration_since(since));
        if over > now {
            return Turn::Later(over - now);
        }
        tracing::warn!(vm = %vm, "those before it have not been started for long; they are not waited for any more");
        line.ranks.retain(|&other, _| other >= rank);
        (line.since, line.open_at, line.next_at) = (Some(now), None, None);
        Turn::Now
    }

    /// Its turn is over; `delay` where it was started. Whose turn it is now.
    fn done(&self, vm: &ObjectKey, delay: Option<Duration>) -> Vec<ObjectKey> {
        let now = Instant::now();
        let mut line = self.line.lock();
        let Some(rank) = line.rank_of(vm) else { return Vec::new() };
        let first = line.ranks.keys().next() == Some(&rank);
        if let Some(delay) = delay {
            line.next_at = line.next_at.max(Some(now + delay));
        }
        let Some(same) = line.ranks.get_mut(&rank) else { return Vec::new() };
        same.remove(vm);
        if !same.is_empty() {
            return Vec::new();
        }
        line.ranks.remove(&rank);
        if !first {
            return Vec::new();
        }
        line.since = Some(now);
        line.open_at = line.next_at.take();
        line.ranks.values().next().into_iter().flatten().cloned().collect()
    }

    /// It was started, with that delay for those behind it; or it did not come up, and nobody waits for it any more. Whose
    /// turn it is now is woken.
    pub fn over(&self, guest: &ObjectKey, delay: Option<Duration>, trigger: &Trigger) {
        for next in self.done(guest, delay) {
            trigger.wake(next);
        }
    }

    /// Whether it is in the queue.
    pub fn holds(&self, vm: &ObjectKey) -> bool {
        self.line.lock().rank_of(vm).is_some()
    }

    /// Held while a guest of the queue is started.
    pub async fn place(&self) -> Option<SemaphorePermit<'_>> {
        self.starts.acquire().await.ok()
    }
}

impl Line {
    fn of(store: &Store, boot: &str) -> Self {
        let mut line = Line::default();
        for stored in earlier(store, Vm::DEF.kind, boot) {
            let Ok(vm) = stored.object::<Vm>() else { continue };
            let (running, start) = (vm.spec.desired != VmDesired::Stopped, vm.spec.autostart);
            if !vm.meta.deleting() && awaits_start(running, start.enabled, &vm.status, boot) {
                line.ranks.entry(start.rank()).or_default().insert(stored.key().clone());
            }
        }
        for stored in earlier(store, Container::DEF.kind, boot) {
            let Ok(container) = stored.object::<Container>() else { continue };
            if !container.meta.deleting() && container_awaits_start(&container, boot) {
                let rank = container.spec.autostart.rank();
                line.ranks.entry(rank).or_default().insert(stored.key().clone());
            }
        }
        line
    }

    fn rank_of(&self, vm: &ObjectKey) -> Option<u32> {
        self.ranks.iter().find(|(_, vms)| vms.contains(vm)).map(|(rank, _)| *rank)
    }
}

/// Whether it is kept off until the host's next boot.
pub fn held(object: &Object<Vm>, boot: &str) -> bool {
    object.status.held_boot.as_deref() == Some(boot)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> ObjectKey {
        ObjectKey::of::<Vm>("default".parse().expect("a name"), name.parse().expect("a name"))
    }

    fn queue(all: &[(u32, &[&str])]) -> BootQueue {
        let ranks: BTreeMap<u32, BTreeSet<ObjectKey>> =
            all.iter().map(|(rank, names)| (*rank, names.iter().map(|n| key(n)).collect())).collect();
        let line = LazyLock::new(Box::new(move || Mutex::new(Line { ranks, ..Line::default() })) as Box<_>);
        BootQueue { line, starts: Semaphore::new(1) }
    }

    fn waits(queue: &BootQueue, name: &str) -> bool {
        queue.turn(&key(name)) != Turn::Now
    }

    #[test]
    fn a_rank_is_begun_with_when_the_one_before_it_is_done() {
        let queue = queue(&[(1, &["a", "b"]), (7, &["c"])]);
        assert!(!waits(&queue, "stranger") && !waits(&queue, "a") && !waits(&queue, "b"));
        assert!(waits(&queue, "c"));
        assert_eq!(queue.done(&key("a"), Some(Duration::ZERO)), []);
        assert!(waits(&queue, "c") && !waits(&queue, "b"));
        assert_eq!(queue.done(&key("b"), None), [key("c")], "one that did not come up holds up nobody");
        assert!(!waits(&queue, "c"));
        assert_eq!(queue.done(&key("c"), None), []);
        assert!(!queue.holds(&key("c")));
    }

    #[test]
    fn a_delay_is_waited_for_by_those_behind_and_not_by_those_beside() {
        let queue = queue(&[(1, &["a", "b"]), (2, &["c"])]);
        queue.done(&key("a"), Some(Duration::from_secs(60)));
        assert!(!waits(&queue, "b"));
        assert_eq!(queue.done(&key("b"), Some(Duration::from_secs(1))), [key("c")]);
        match queue.turn(&key("c")) {
            Turn::Later(left) => assert!(left > Duration::from_secs(50), "{left:?}"),
            Turn::Now => panic!("the longest delay of the rank counts"),
        }
    }

    #[test]
    fn one_that_goes_out_of_its_turn_changes_nothing_for_the_others() {
        let queue = queue(&[(1, &["a"]), (2, &["b"]), (3, &["c"])]);
        assert_eq!(queue.done(&key("b"), None), []);
        assert_eq!(queue.done(&key("a"), None), [key("c")]);
    }
}
