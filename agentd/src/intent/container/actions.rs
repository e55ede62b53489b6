//! Actions of a container: each says what is wanted from now on; the reconciler makes it so. They are a VM's, where a VM has
//! them. `rename` is not among them: it is about the object itself.

use agentd_api::container::{Container, ContainerDesired, ContainerStatus};
use agentd_api::{Object, Problem, State};
use serde_json::Value;

use crate::intent::act::not_now;
use crate::intent::admission::{Acted, Known, no_such_action};

pub(super) fn act(
    known: &Known,
    is: &Object<Container>,
    action: &str,
    _options: &Value,
) -> Result<Acted<Container>, Problem> {
    let key = is.meta.key();
    let (desired, state) = (is.spec.desired, is.status.common.state);
    // One that ended by itself, or that never came up, is off although it is wanted to run.
    let off = desired == ContainerDesired::Stopped || matches!(state, State::Stopped | State::Failed);
    if is.status.held_boot.is_some() && matches!(action, "start" | "restart") {
        let status = ContainerStatus { held_boot: None, ..is.status.clone() };
        return Ok(Acted { touch: true, status: Some(status), ..want(is, ContainerDesired::Running) });
    }
    match action {
        "stop-until-boot" if desired == ContainerDesired::Stopped => Ok(Acted::default()),
        "stop-until-boot" => {
            let status = ContainerStatus { held_boot: Some(known.boot_id.clone()), ..is.status.clone() };
            Ok(Acted { status: Some(status), ..Acted::default() })
        }
        "start" if !off && desired == ContainerDesired::Running && state == State::Running => {
            Ok(Acted::default())
        }
        // Also where it is wanted to run already: the reconciler takes the new generation as a new try.
        "start" => Ok(Acted { touch: true, ..want(is, ContainerDesired::Running) }),
        "stop" if desired == ContainerDesired::Stopped => Ok(Acted::default()),
        "stop" => Ok(want(is, ContainerDesired::Stopped)),
        "restart" if off => Ok(Acted { touch: true, ..want(is, ContainerDesired::Running) }),
        "restart" => {
            let status = ContainerStatus { restart_requested: true, ..is.status.clone() };
            Ok(Acted { status: Some(status), ..want(is, ContainerDesired::Running) })
        }
        "pause" | "resume" if off => Err(not_now(&key, action, "it is not running")
            .hint(format!("`agentctl container start {}` starts it", key.name))),
        "pause" => Ok(want(is, ContainerDesired::Paused)),
        "resume" => Ok(want(is, ContainerDesired::Running)),
        other => Err(no_such_action(&key, other)),
    }
}

fn want(is: &Object<Container>, desired: ContainerDesired) -> Acted<Container> {
    if is.spec.desired == desired {
        return Acted::default();
    }
    let mut spec = is.spec.clone();
    spec.desired = desired;
    Acted { spec: Some(spec), ..Acted::default() }
}
