//! When a guest is killed, started again or deleted, from what its status says; and how its status says so.

use std::time::Duration;

use agentd_api::{Span, State, StatusCommon, Timestamp};

use crate::reconcile::backend::{BACKEND_AVAILABLE, Backend};
use crate::reconcile::runtime::backoff;

/// The condition that says since when a guest is stopping because agentd asked it to.
pub const STOPPING: &str = "stopping";
/// A guest that ran this long has not failed at its start: its policy starts it again at once.
const STEADY: Duration = Duration::from_secs(60);

/// When one that was asked to stop is forced to.
pub fn deadline(common: &StatusCommon, grace: Span) -> Option<Timestamp> {
    let asked = common.condition(STOPPING).filter(|c| c.status)?;
    Some(asked.since.plus(grace.duration()))
}

/// What its status says of its last run.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    pub started: Option<Timestamp>,
    pub stopped: Option<Timestamp>,
    /// How often in a row its policy had started it.
    pub restarts: u32,
}

impl Run {
    /// How often in a row its policy has started it again without it having stayed up, the start to come not counted.
    pub fn restarts(self) -> u32 {
        let stayed = match (self.started, self.stopped) {
            (Some(started), Some(stopped)) => stopped.millis().saturating_sub(started.millis()),
            (_, None) | (None, Some(_)) => 0,
        };
        if Duration::from_millis(stayed) >= STEADY { 0 } else { self.restarts }
    }

    /// When its policy may start it again. The first time at once, then ever more slowly.
    pub fn rest_until(self) -> Option<Timestamp> {
        let count = self.restarts();
        let stopped = self.stopped?;
        (count > 0).then(|| stopped.plus(backoff(count)))
    }

    /// That time, or the next moment after its last stop: a start that seems to be before it would seem to be over.
    pub fn start_at(self, at: Timestamp) -> Timestamp {
        Timestamp(at.millis().max(self.stopped.map_or(0, |stopped| stopped.millis() + 1)))
    }

    /// Now, or the next moment after its start by the clock as well: it would seem to be up still.
    pub fn stop_at(self) -> Timestamp {
        Timestamp(Timestamp::now().millis().max(self.started.map_or(0, |started| started.millis() + 1)))
    }
}

/// How long it is until then.
pub fn until(at: Timestamp) -> Duration {
    Duration::from_millis(at.millis().saturating_sub(Timestamp::now().millis()))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    Never,
    In(Duration),
    Over(Timestamp),
}

impl Expiry {
    pub fn of(expires: Option<Timestamp>, now: Timestamp) -> Self {
        match expires {
            None => Self::Never,
            Some(at) if at <= now => Self::Over(at),
            Some(at) => Self::In(Duration::from_millis(at.millis() - now.millis())),
        }
    }
}

/// It is about to be asked to stop; since when, where it had not been before.
pub fn begin_stopping(common: &mut StatusCommon) {
    if common.condition(STOPPING).is_none_or(|c| !c.status) {
        common.clear_condition(STOPPING);
        common.set_condition(STOPPING, true, "");
    }
}

/// It is off for now, for that reason.
pub fn off_for_now(common: &mut StatusCommon, reason: String) {
    (common.state, common.progress) = (State::Stopped, None);
    common.reason = Some(reason);
}

/// The last known state stays, with the reason why nothing newer is known. When to look again, where its change wakes nobody.
pub fn without_backend(common: &mut StatusCommon, backend: &Backend, name: &str) -> Option<Duration> {
    let down = backend.down();
    // It answers again already: whoever looks at all guests then may have done so before this is written.
    let again = down.is_none().then_some(Duration::from_secs(1));
    let reason = down.unwrap_or_else(|| format!("{name} did not answer"));
    if matches!(common.state, State::Pending | State::Provisioning) {
        common.reason = Some(reason.clone());
        common.progress = None;
    }
    common.set_condition(BACKEND_AVAILABLE, false, reason);
    again
}
