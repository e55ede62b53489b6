//! Actions of a VM: each says what is wanted from now on; the reconciler makes it so.
//!
//! | action  | stopped          | running       | paused        |
//! |---------|------------------|---------------|---------------|
//! | start   | running          | nothing       | running       |
//! | stop    | nothing          | stopped       | stopped       |
//! | restart | running          | once off, on  | once off, on  |
//! | pause   | conflict         | paused        | nothing       |
//! | resume  | conflict         | nothing       | running       |
//! | stop-until-boot | nothing  | off until the host's next boot, and wanted to run all the same |

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
    match action {
        "stop-until-boot" if desired == VmDesired::Stopped => Ok(Acted::default()),
        "stop-until-boot" => {
            let status = VmStatus { held_boot: Some(known.boot_id.clone()), ..is.status.clone() };
            Ok(Acted { status: Some(status), ..Acted::default() })
        }
        "start" if !off && desired == VmDesired::Running && state == State::Running => Ok(Acted::default()),
        // Also where it is wanted to run already: the reconciler takes the new generation as a new try.
        "start" => Ok(Acted { touch: true, ..want(is, VmDesired::Running) }),
        "stop" if desired == VmDesired::Stopped => Ok(Acted::default()),
        "stop" => Ok(want(is, VmDesired::Stopped)),
        "restart" if off => Ok(Acted { touch: true, ..want(is, VmDesired::Running) }),
        "restart" => {
            let mut status = is.status.clone();
            status.restart_requested = true;
            Ok(Acted { status: Some(status), ..want(is, VmDesired::Running) })
        }
        "pause" | "resume" if off => Err(not_now(&key, action, "it is not running")
            .hint(format!("`agentctl vm start {}` starts it", key.name))),
        "pause" => Ok(want(is, VmDesired::Paused)),
        "resume" => Ok(want(is, VmDesired::Running)),
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
