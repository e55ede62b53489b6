//! Names on a network. A VM and a container may share a name as objects, but one network's DNS can give it to one only.

use agentd_api::container::Container;
use agentd_api::nic::NicSpec;
use agentd_api::vm::Vm;
use agentd_api::{ErrorCode, Kind, ObjectKey, Problem};

use crate::intent::admission::{Desk, object};

/// Refuses a network on which the name is that of a guest of the other kind.
pub(in crate::intent) fn check(
    desk: &mut Desk<'_>,
    guest: &ObjectKey,
    networks: &[NicSpec],
) -> Result<(), Problem> {
    let container = guest.kind == Container::DEF.kind;
    let other = if container { Vm::DEF.kind } else { Container::DEF.kind };
    let other = ObjectKey::new(other, guest.project.clone(), guest.name.clone());
    let Some(there) = desk.tx.get(&other) else { return Ok(()) };
    let theirs = if container {
        object::<Vm>(&there)?.spec.networks
    } else {
        object::<Container>(&there)?.spec.networks
    };
    let shared = |nic: &NicSpec| theirs.iter().any(|their| their.network == nic.network);
    let Some(n) = networks.iter().position(shared) else { return Ok(()) };
    let detail = format!("on network '{}' the name '{}' is that of {other}", networks[n].network, guest.name);
    Err(Problem::new(ErrorCode::Conflict, detail)
        .at(format!("spec.networks[{n}].network"))
        .hint("give it another name, or put it on another network"))
}
