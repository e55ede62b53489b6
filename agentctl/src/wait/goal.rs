//! When a wait is over: one pure function of the object and what was asked for.

use agentd_api::State;
use agentd_client::AnyObject;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    Running,
    Stopped,
    Paused,
    Suspended,
    Ready,
    /// Taken back to a snapshot, and at rest again.
    Restored,
    Gone,
    /// For VMs: the guest has the disks that it should have, and no others.
    Plugged,
    /// For volumes.
    Attached,
    /// For volumes: as large as wanted.
    Sized,
    /// As its spec says, as far as it can be without a restart.
    Settled,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judged {
    Reached,
    /// It will not be reached any more, with the reason.
    Failed(String),
    NotYet,
}

impl Goal {
    const fn state(self) -> Option<State> {
        match self {
            Self::Running => Some(State::Running),
            Self::Stopped => Some(State::Stopped),
            Self::Paused => Some(State::Paused),
            Self::Suspended => Some(State::Suspended),
            Self::Ready => Some(State::Ready),
            Self::Attached => Some(State::Attached),
            Self::Restored | Self::Gone | Self::Plugged | Self::Sized | Self::Settled => None,
        }
    }
    /// As in "web is not running yet".
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Paused => "paused",
            Self::Suspended => "suspended",
            Self::Ready => "ready",
            Self::Restored => "restored",
            Self::Gone => "gone",
            Self::Plugged => "as wanted",
            Self::Attached => "attached",
            Self::Sized => "as large as wanted",
            Self::Settled => "as wanted",
        }
    }

    /// `generation` is that of the wish: a status of an earlier one says nothing about it.
    pub fn judge(self, object: &AnyObject, generation: u64) -> Judged {
        let status = object.common();
        if self == Self::Gone {
            return Judged::NotYet;
        }
        if self == Self::Restored {
            return restored(object, generation);
        }
        if object.meta.deleting() {
            return Judged::Failed("it is being deleted".to_owned());
        }
        if status.observed_generation < generation {
            return Judged::NotYet;
        }
        let reason = || status.reason.clone().unwrap_or_else(|| "no reason was given".to_owned());
        if status.state == State::Failed {
            return Judged::Failed(reason());
        }
        if self == Self::Settled {
            let asked = status.condition("pending_guest").is_some_and(|c| c.status);
            return if asked || status.attempts.is_some() { Judged::NotYet } else { Judged::Reached };
        }
        let there = match self.state() {
            Some(wanted) => status.state == wanted,
            None if self == Self::Sized => object.status["size"] == object.spec["size"],
            None => plugged(object, status.state),
        };
        if there && !self.half_done(object) {
            return Judged::Reached;
        }
        if self == Self::Running && status.state == State::Stopped && ended_by_itself(object, generation) {
            return Judged::Failed(format!("its guest stopped at once: {}", reason()));
        }
        Judged::NotYet
    }

    /// Whether the state is there already and something that belongs to it is not.
    fn half_done(self, object: &AnyObject) -> bool {
        let list = |at: &serde_json::Value| at.as_array().is_some_and(|items| !items.is_empty());
        let unaddressed = list(&object.spec["networks"]) && !list(&object.status["addresses"]);
        let restarting = object.status["restart_requested"].as_bool() == Some(true);
        self == Self::Running && (unaddressed || restarting)
    }
}

/// The wish stands in the status until it has come to an end, whose reason stands beside it. Then the VM has still to come
/// to rest.
fn restored(object: &AnyObject, generation: u64) -> Judged {
    let status = object.common();
    if object.meta.deleting() {
        return Judged::Failed("it is being deleted".to_owned());
    }
    if !object.status["restore"].is_null()
        || status.observed_generation < generation.max(object.meta.generation)
    {
        return Judged::NotYet;
    }
    if let Some(error) = object.status["last_restore"]["error"].as_str() {
        return Judged::Failed(error.to_owned());
    }
    match status.state {
        State::Running | State::Stopped | State::Paused => Judged::Reached,
        State::Failed => Judged::Failed(status.reason.unwrap_or_default()),
        _ => Judged::NotYet,
    }
}

/// Whether a VM has all its volumes and none that it is to let go of. One that is off has no guest that could.
fn plugged(object: &AnyObject, state: State) -> bool {
    let none = Vec::new();
    let has = object.status["volumes"].as_array().unwrap_or(&none);
    let wanted = object.spec["volumes"].as_array().unwrap_or(&none);
    let up = matches!(state, State::Running | State::Paused);
    let troubled = object.common().condition("disks_plugged").is_some_and(|c| !c.status);
    let settled = !troubled && matches!(state, State::Running | State::Paused | State::Stopped);
    let one = |wanted: &serde_json::Value| {
        let found = has.iter().find(|v| v["volume"] == wanted["volume"]);
        found.is_some_and(|v| !up || v["device"].is_string())
    };
    settled && has.len() == wanted.len() && wanted.iter().all(one)
}

/// Whether the guest ended after it was started for this wish, and nothing will start it again.
fn ended_by_itself(object: &AnyObject, generation: u64) -> bool {
    let stopped_for = object.status["last_stop"]["generation"].as_u64();
    let restart = object.spec["restart"].as_str().unwrap_or("never");
    stopped_for.is_some_and(|at| at >= generation) && restart == "never"
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn object(spec: &Value, status: &Value) -> AnyObject {
        serde_json::from_value(json!({
            "kind": "vm", "project": "default", "name": "web", "id": "01970000-0000-7000-8000-000000000000",
            "revision": 9, "generation": 2, "created_at": "2026-01-02T03:04:05Z", "spec": spec, "status": status,
        }))
        .expect("an object")
    }

    #[test]
    fn a_goal_is_judged_by_the_status_of_its_own_wish() {
        let spec = json!({"networks": [{"network": "default"}]});
        let address = json!([{"network": "default", "ip": "10.77.0.2", "mac": "52:54:00:00:00:01"}]);
        let judge = |goal: Goal, status: Value| goal.judge(&object(&spec, &status), 2);
        let running = json!({"state": "running", "observed_generation": 2, "addresses": address});
        assert_eq!(judge(Goal::Running, running.clone()), Judged::Reached);
        assert_eq!(judge(Goal::Stopped, running.clone()), Judged::NotYet);
        assert_eq!(judge(Goal::Gone, running), Judged::NotYet);
        let stale = json!({"state": "failed", "reason": "old", "observed_generation": 1});
        assert_eq!(judge(Goal::Running, stale), Judged::NotYet, "a failure of the wish before");
        let failed = json!({"state": "failed", "reason": "no image", "observed_generation": 2});
        assert_eq!(judge(Goal::Running, failed), Judged::Failed("no image".to_owned()));
        let bare = json!({"state": "running", "observed_generation": 2, "addresses": []});
        assert_eq!(judge(Goal::Running, bare), Judged::NotYet, "no address yet");
        let again = json!({"state": "running", "observed_generation": 2, "addresses": address, "restart_requested": true});
        assert_eq!(judge(Goal::Running, again), Judged::NotYet, "the restart has still to come");
        assert_eq!(judge(Goal::Running, json!(null)), Judged::NotYet);
    }

    #[test]
    fn a_change_is_done_when_the_guest_has_complied_or_has_to_be_restarted() {
        let pending = |kind: &str, status: bool| {
            json!({"state": "running", "observed_generation": 2, "conditions":
                [{"type": kind, "status": status, "reason": "cpus 2 -> 1", "since": "2026-01-02T03:04:05Z"}]})
        };
        let judge = |status: Value| Goal::Settled.judge(&object(&json!({}), &status), 2);
        assert_eq!(judge(pending("pending_guest", true)), Judged::NotYet);
        assert_eq!(judge(pending("pending_guest", false)), Judged::Reached, "it had its time");
        assert_eq!(judge(pending("pending_restart", true)), Judged::Reached);
        assert_eq!(judge(json!({"state": "stopped", "observed_generation": 2})), Judged::Reached);
        assert_eq!(judge(json!({"state": "running", "observed_generation": 1})), Judged::NotYet);
    }

    #[test]
    fn a_guest_that_ends_at_once_is_not_waited_for() {
        let status = json!({"state": "stopped", "observed_generation": 2, "reason": "the guest powered off",
            "last_stop": {"how": "guest", "at": "2026-01-02T03:04:05Z", "generation": 2}});
        let never = object(&json!({"networks": [], "restart": "never"}), &status);
        assert!(matches!(Goal::Running.judge(&never, 2), Judged::Failed(_)));
        assert_eq!(Goal::Stopped.judge(&never, 2), Judged::Reached);
        let always = object(&json!({"networks": [], "restart": "always"}), &status);
        assert_eq!(Goal::Running.judge(&always, 2), Judged::NotYet);
        assert_eq!(Goal::Running.judge(&never, 3), Judged::NotYet, "it was of the start before");
    }

    #[test]
    fn what_is_being_deleted_reaches_nothing() {
        let mut going = object(&json!({}), &json!({"state": "running", "observed_generation": 2}));
        going.meta.deleting_at = Some(agentd_api::Timestamp(1));
        assert!(matches!(Goal::Running.judge(&going, 2), Judged::Failed(_)));
        assert_eq!(Goal::Gone.judge(&going, 2), Judged::NotYet);
    }
}
