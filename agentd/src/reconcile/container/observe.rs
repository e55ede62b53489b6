//! Reads what is there of a container, and puts it beside what is wanted.

use std::time::Duration;

use agentd_api::container::{Container, ContainerHealth, ContainerStatus, HealthState};
use agentd_api::{Object, Timestamp};
use agentd_drivers::container::{self as driver, ContainerSeen, ContainerState};

use super::plan::{Exit, Patience, Seen, Situation};
use crate::reconcile::backend::Outage;
use crate::reconcile::runtime::backoff;

/// The condition that says since when a container is stopping because agentd asked it to.
pub const STOPPING: &str = "stopping";
/// One that ran this long has not failed at its start: its policy starts it again at once.
const STEADY: Duration = Duration::from_secs(60);
/// An engine that comes back takes so long at most to end what it left running.
const SETTLING: Duration = Duration::from_secs(10);
/// What is kept of what a health check said.
const OUTPUT_MAX: usize = 1024;

pub fn seen(container: Option<&ContainerSeen>, outage: Option<Outage>) -> Seen {
    let Some(container) = container else { return Seen::Absent };
    match container.state {
        // Whoever removes it: it is on its way out.
        ContainerState::Removing => Seen::Absent,
        ContainerState::Created => Seen::Created,
        ContainerState::Running => Seen::Running,
        ContainerState::Paused => Seen::Paused,
        ContainerState::Exited => {
            let exit = container.exit.as_ref();
            let with_engine = container.finished_at.is_some_and(|at| within(outage, at));
            Seen::Exited(Exit {
                code: exit.map_or(0, |exit| exit.code),
                oom: exit.is_some_and(|exit| exit.oom),
                with_engine,
            })
        }
    }
}

/// Whether that was while the engine was away, or as it went or came.
fn within(outage: Option<Outage>, at: Timestamp) -> bool {
    let slack = u64::try_from(SETTLING.as_millis()).unwrap_or(u64::MAX);
    outage.is_some_and(|Outage { from, to }| {
        at.millis() + slack >= from.millis() && to.is_none_or(|to| at <= to.plus(SETTLING))
    })
}

/// When one that was asked to stop is killed.
pub fn deadline(object: &Object<Container>, status: &ContainerStatus) -> Option<Timestamp> {
    let asked = status.common.condition(STOPPING).filter(|c| c.status)?;
    Some(asked.since.plus(object.spec.grace.duration()))
}

/// How often in a row its policy has started it again without it having stayed up, the start to come not counted.
pub fn restarts(status: &ContainerStatus) -> u32 {
    let stayed = match (status.started_at, &status.last_stop) {
        (Some(started), Some(stop)) => stop.at.millis().saturating_sub(started.millis()),
        (_, None) | (None, Some(_)) => 0,
    };
    if Duration::from_millis(stayed) >= STEADY { 0 } else { status.restarts }
}

/// When its policy may start it again. The first time at once, then ever more slowly.
pub fn rest_until(status: &ContainerStatus) -> Option<Timestamp> {
    let count = restarts(status);
    let stop = status.last_stop.as_ref()?;
    (count > 0).then(|| stop.at.plus(backoff(count)))
}

/// Where and when it is looked at.
pub struct View<'a> {
    pub boot: &'a str,
    pub now: Timestamp,
    /// After a boot of the host others come before it.
    pub queued: bool,
    /// This daemon has sent it its stop signal.
    pub asked: bool,
    pub outage: Option<Outage>,
}

pub fn situation(
    object: &Object<Container>,
    status: &ContainerStatus,
    container: Option<&ContainerSeen>,
    view: &View,
) -> Situation {
    let patience = |until: Timestamp| match (until > view.now, view.asked) {
        (false, _) => Patience::Over,
        (true, true) => Patience::Left,
        (true, false) => Patience::Unasked,
    };
    Situation {
        desired: object.spec.desired,
        seen: seen(container, view.outage),
        restart_requested: status.restart_requested,
        ran: status.started_generation == Some(object.meta.generation),
        was_up: status.was_up(),
        stopping: deadline(object, status).map(patience),
        rebooted: status.host_boot.as_deref().is_some_and(|b| b != view.boot),
        policy: object.spec.restart,
        remove_when_stopped: object.spec.remove_when_stopped,
        last_stop: status.last_stop.as_ref().map(|stop| stop.how),
        resting: rest_until(status).is_some_and(|until| until > view.now),
        held: status.held_boot.as_deref() == Some(view.boot),
        autostart: object.spec.autostart.enabled,
        queued: view.queued,
    }
}

/// What its checks found, where it is on.
pub fn health(container: &ContainerSeen) -> Option<ContainerHealth> {
    let seen = container.health.as_ref().filter(|_| container.state.is_on())?;
    let state = match seen.state {
        driver::HealthState::Starting => HealthState::Starting,
        driver::HealthState::Healthy => HealthState::Healthy,
        driver::HealthState::Unhealthy => HealthState::Unhealthy,
    };
    // What it says each time is no change of its health.
    let ill = state != HealthState::Healthy;
    let output = Some(&seen.said).filter(|said| ill && !said.is_empty()).map(|said| {
        let end = (0..=OUTPUT_MAX.min(said.len())).rev().find(|n| said.is_char_boundary(*n)).unwrap_or(0);
        said.get(..end).unwrap_or_default().to_owned()
    });
    Some(ContainerHealth { state, failing: seen.failing, output })
}
