//! Reads what is there of a VM, and puts it beside what is wanted.

use std::time::Duration;

use agentd_api::vm::{AlarmKind, Vm, VmStatus, WatchdogAction};
use agentd_api::{Object, Timestamp};
use agentd_drivers::vm::{DomainSeen, OffReason, Power};

use super::plan::{Kept, Patience, Seen, Situation};
use crate::reconcile::runtime::backoff;

/// The condition that says since when a guest is powering off because agentd asked it to.
pub const STOPPING: &str = "stopping";
/// A guest that ran this long has not failed at its start: its policy starts it again at once.
const HEALTHY: Duration = Duration::from_secs(60);

pub fn seen(domain: Option<&DomainSeen>) -> Seen {
    match domain {
        None => Seen::Absent,
        Some(domain) => match domain.power {
            Power::Off => Seen::Off(domain.off.unwrap_or(OffReason::Unknown)),
            Power::Running => Seen::Running,
            Power::Paused => Seen::Paused,
        },
    }
}

/// When a guest that was asked to power off is forced off.
pub fn deadline(object: &Object<Vm>, status: &VmStatus) -> Option<Timestamp> {
    let asked = status.common.condition(STOPPING).filter(|c| c.status)?;
    Some(asked.since.plus(object.spec.grace.duration()))
}

/// How often in a row its policy has started it again without it having stayed up, the start to come not counted.
pub fn restarts(status: &VmStatus) -> u32 {
    let stayed = match (status.started_at, &status.last_stop) {
        (Some(started), Some(stop)) => stop.at.millis().saturating_sub(started.millis()),
        (_, None) | (None, Some(_)) => 0,
    };
    if Duration::from_millis(stayed) >= HEALTHY { 0 } else { status.restarts }
}

/// When its policy may start it again. The first time at once, then ever more slowly.
pub fn rest_until(status: &VmStatus) -> Option<Timestamp> {
    let count = restarts(status);
    let stop = status.last_stop.as_ref()?;
    (count > 0).then(|| stop.at.plus(backoff(count)))
}

/// What the guest told of since it was started.
fn alarm(status: &VmStatus) -> Option<AlarmKind> {
    let alarm = status.last_alarm?;
    (Some(alarm.at) >= status.started_at).then_some(alarm.what)
}

/// Where and when it is looked at.
pub struct View<'a> {
    pub boot: &'a str,
    pub now: Timestamp,
    /// After a boot of the host others come before it.
    pub queued: bool,
}

/// What is on disk of its memory.
fn memory(status: &VmStatus) -> Kept {
    match &status.saved {
        None => Kept::Nothing,
        Some(saved) if saved.discard => Kept::Discarded,
        Some(saved) if saved.at.is_none() => Kept::BeingWritten,
        Some(_) => Kept::Whole,
    }
}

pub fn situation(
    object: &Object<Vm>,
    status: &VmStatus,
    domain: Option<&DomainSeen>,
    view: &View,
) -> Situation {
    let &View { boot, now, queued } = view;
    let until = deadline(object, status);
    Situation {
        desired: object.spec.desired,
        seen: seen(domain),
        persistent: domain.is_none_or(|d| d.persistent),
        restart_requested: status.restart_requested,
        ran: status.started_generation == Some(object.meta.generation),
        was_up: status.was_up(),
        stopping: until.map(|until| if until > now { Patience::Left } else { Patience::Over }),
        rebooted: status.host_boot.as_deref().is_some_and(|b| b != boot),
        policy: object.spec.restart,
        remove_when_stopped: object.spec.remove_when_stopped,
        prepared: status.image_digest.is_some(),
        last_stop: status.last_stop.as_ref().map(|stop| stop.how),
        memory: memory(status),
        resting: rest_until(status).is_some_and(|until| until > now),
        held: status.held_boot.as_deref() == Some(boot),
        autostart: object.spec.autostart.enabled,
        queued,
        alarm: alarm(status),
        watchdog_cuts: object.spec.watchdog == Some(WatchdogAction::Poweroff),
    }
}
