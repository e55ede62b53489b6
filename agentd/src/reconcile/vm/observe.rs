//! Reads what is there of a VM, and puts it beside what is wanted.

use agentd_api::vm::{AlarmKind, Vm, VmStatus, WatchdogAction};
use agentd_api::{Object, Timestamp};
use agentd_drivers::vm::{DomainSeen, OffReason, Power};

use super::plan::{Kept, Patience, Seen, Situation};
use crate::reconcile::guest::life::{self, Run};

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
    life::deadline(&status.common, object.spec.grace)
}

pub fn run(status: &VmStatus) -> Run {
    let stopped = status.last_stop.as_ref().map(|stop| stop.at);
    Run { started: status.started_at, stopped, restarts: status.restarts }
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
        resting: run(status).rest_until().is_some_and(|until| until > now),
        held: status.held_boot.as_deref() == Some(boot),
        autostart: object.spec.autostart.enabled,
        queued,
        alarm: alarm(status),
        watchdog_cuts: object.spec.watchdog == Some(WatchdogAction::Poweroff),
    }
}
