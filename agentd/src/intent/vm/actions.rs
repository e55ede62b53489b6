//! Actions of a VM: each says what is wanted from now on; the reconciler makes it so.
//!
//! | action  | stopped          | running       | paused        |
//! |---------|------------------|---------------|---------------|
//! | start   | running          | nothing       | running       |
//! | stop    | nothing          | stopped       | stopped       |
//! | restart | running          | once off, on  | once off, on  |
//! | pause   | conflict         | paused        | nothing       |
//! | resume  | conflict         | nothing       | running       |
//! | suspend | conflict         | suspended     | suspended     |
//! | stop-until-boot | nothing  | off until the host's next boot, and wanted to run all the same |
//!
//! A suspended VM is started and resumed from its memory on disk; `start-fresh` throws that away. Nothing else does: what
//! would, is refused.

use agentd_api::vm::{Vm, VmDesired, VmStatus};
use agentd_api::{Object, Problem, State};

use crate::intent::act::not_now;
use crate::intent::admission::{Acted, Known, no_such_action};

pub(super) fn act(known: &Known, is: &Object<Vm>, action: &str) -> Result<Acted<Vm>, Problem> {
    let key = is.meta.key();
    let (desired, state) = (is.spec.desired, is.status.common.state);
    // A guest that ended by itself, or that never came up, is off although it is wanted to run.
    let off = desired == VmDesired::Stopped || matches!(state, State::Stopped | State::Failed);
    if is.status.held_boot.is_some() && matches!(action, "start" | "restart") {
        let status = VmStatus { held_boot: None, ..is.status.clone() };
        return Ok(Acted { touch: true, status: Some(status), ..want(is, VmDesired::Running) });
    }
    if desired == VmDesired::Suspended {
        return act_suspended(is, action);
    }
    match action {
        "stop-until-boot" if desired == VmDesired::Stopped => Ok(Acted::default()),
        "stop-until-boot" => {
            let status = VmStatus { held_boot: Some(known.boot_id.clone()), ..is.status.clone() };
            Ok(Acted { status: Some(status), ..Acted::default() })
        }
        "start" | "start-fresh" if !off && desired == VmDesired::Running && state == State::Running => {
            Ok(Acted::default())
        }
        // Also where it is wanted to run already: the reconciler takes the new generation as a new try.
        "start" | "start-fresh" => Ok(Acted { touch: true, ..want(is, VmDesired::Running) }),
        "stop" if desired == VmDesired::Stopped => Ok(Acted::default()),
        "stop" => Ok(want(is, VmDesired::Stopped)),
        "restart" if off => Ok(Acted { touch: true, ..want(is, VmDesired::Running) }),
        "restart" => {
            let mut status = is.status.clone();
            status.restart_requested = true;
            Ok(Acted { status: Some(status), ..want(is, VmDesired::Running) })
        }
        "pause" | "resume" | "suspend" if off => Err(not_now(&key, action, "it is not running")
            .hint(format!("`agentctl vm start {}` starts it", key.name))),
        "pause" => Ok(want(is, VmDesired::Paused)),
        "resume" => Ok(want(is, VmDesired::Running)),
        "suspend" => Ok(want(is, VmDesired::Suspended)),
        other => Err(no_such_action(&key, other)),
    }
}

/// What may be done to a VM whose memory is on disk, or on its way there.
fn act_suspended(is: &Object<Vm>, action: &str) -> Result<Acted<Vm>, Problem> {
    let key = is.meta.key();
    match action {
        "suspend" => Ok(Acted::default()),
        "start" | "resume" => Ok(Acted { touch: true, ..want(is, VmDesired::Running) }),
        "start-fresh" => {
            let mut status = is.status.clone();
            if let Some(saved) = &mut status.saved {
                saved.discard = true;
            }
            Ok(Acted { status: Some(status), touch: true, ..want(is, VmDesired::Running) })
        }
        // Where it was off when it was to be suspended there is nothing that could be lost.
        "stop" if is.status.saved.is_none() && is.status.common.state == State::Stopped => {
            Ok(want(is, VmDesired::Stopped))
        }
        "restart" if is.status.saved.is_none() && is.status.common.state == State::Stopped => {
            Ok(Acted { touch: true, ..want(is, VmDesired::Running) })
        }
        "stop" | "restart" | "pause" => Err(not_now(&key, action, "it is suspended to disk").hint(format!(
            "`agentctl vm start {0}` lets it go on, `agentctl vm start --fresh {0}` throws its memory away",
            key.name
        ))),
        other => Err(no_such_action(&key, other)),
    }
}

fn want(is: &Object<Vm>, desired: VmDesired) -> Acted<Vm> {
    if is.spec.desired == desired {
        return Acted::default();
    }
    let mut spec = is.spec.clone();
    spec.desired = desired;
    Acted { spec: Some(spec), ..Acted::default() }
}
