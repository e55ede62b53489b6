//! Reads what is there of a container, and puts it beside what is wanted.

use std::time::Duration;

use agentd_api::container::{Container, ContainerHealth, ContainerStatus, HealthState};
use agentd_api::{Object, Timestamp};
use agentd_drivers::container::{self as driver, ContainerSeen, ContainerState};
use agentd_drivers::engine::Outage;

use super::plan::{Exit, Patience, Seen, Situation};
use crate::reconcile::guest::life::{self, Run};

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
            let with_engine = outage.is_some_and(|outage| ended_with(outage, container));
            Seen::Exited(Exit {
                code: exit.map_or(0, |exit| exit.code),
                oom: exit.is_some_and(|exit| exit.oom),
                with_engine,
            })
        }
    }
}

/// Whether that was while the engine was away, or as it went or came. What was started since is none of that.
fn ended_with(Outage { from, to }: Outage, container: &ContainerSeen) -> bool {
    let slack = u64::try_from(SETTLING.as_millis()).unwrap_or(u64::MAX);
    let since = to.is_some_and(|to| container.started_at.is_some_and(|at| at > to));
    let ended = container.finished_at.is_some_and(|at| {
        at.millis() + slack >= from.millis() && to.is_none_or(|to| at <= to.plus(SETTLING))
    });
    ended && !since
}

/// When one that was asked to stop is killed.
pub fn deadline(object: &Object<Container>, status: &ContainerStatus) -> Option<Timestamp> {
    life::deadline(&status.common, object.spec.grace)
}

pub fn run(status: &ContainerStatus) -> Run {
    let stopped = status.last_stop.as_ref().map(|stop| stop.at);
    Run { started: status.started_at, stopped, restarts: status.restarts }
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
        started: status.started_at.is_some(),
        was_up: status.was_up(),
        stopping: deadline(object, status).map(patience),
        rebooted: status.host_boot.as_deref().is_some_and(|b| b != view.boot),
        policy: object.spec.restart,
        remove_when_stopped: object.spec.remove_when_stopped,
        last_stop: status.last_stop.as_ref().map(|stop| stop.how),
        resting: run(status).rest_until().is_some_and(|until| until > view.now),
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
