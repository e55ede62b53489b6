//! Published ports of the host. A port on one address and the same port on all addresses exclude each other, which a row's
//! UNIQUE constraint alone cannot say: the VMs that publish that port are looked up by the store's index.

use std::net::Ipv4Addr;

use agentd_api::vm::Vm;
use agentd_api::{ErrorCode, ObjectKey, PortMap, Problem};
use agentd_store::{Query, TxError};

use crate::intent::admission::{Desk, object, refused};

/// Gives back what `had` has over `wanted` and takes what is new.
pub(super) fn publish(
    desk: &mut Desk<'_>,
    vm: &ObjectKey,
    had: &[PortMap],
    wanted: &[PortMap],
) -> Result<(), Problem> {
    for port in had {
        desk.tx.release(&space(port), &value(port), vm);
    }
    for (n, port) in wanted.iter().enumerate() {
        let field = || format!("spec.publish[{n}].host");
        if let Some(owner) = overlapping(desk, vm, port)? {
            return Err(in_the_way(port, &owner).at(field()));
        }
        desk.tx.allocate(&space(port), &value(port), vm).map_err(|error| match error {
            TxError::Taken { owner, .. } => in_the_way(port, &owner).at(field()),
            other => refused(other).at(field()),
        })?;
    }
    Ok(())
}

fn overlapping(desk: &mut Desk<'_>, vm: &ObjectKey, port: &PortMap) -> Result<Option<ObjectKey>, Problem> {
    let same_port = desk.tx.list(&Query {
        fields: vec![("publish".to_owned(), true, port.host.to_string())],
        ..Query::kind("vm")
    });
    for other in same_port.iter().filter(|o| o.key() != vm) {
        let theirs = object::<Vm>(other)?.spec.publish;
        if theirs.iter().any(|p| overlaps(p, port)) {
            return Ok(Some(other.key().clone()));
        }
    }
    Ok(None)
}

fn overlaps(a: &PortMap, b: &PortMap) -> bool {
    let meet = match (one_address(a), one_address(b)) {
        (Some(a), Some(b)) => a == b,
        _ => true,
    };
    a.host == b.host && a.protocol == b.protocol && meet
}

/// The address that a port is published on, or None for all of them.
fn one_address(port: &PortMap) -> Option<Ipv4Addr> {
    port.address.filter(|a| !a.is_unspecified())
}

fn space(port: &PortMap) -> String {
    format!("port/{}", port.protocol)
}

fn value(port: &PortMap) -> String {
    one_address(port).map_or_else(|| format!("*:{}", port.host), |a| format!("{a}:{}", port.host))
}

fn in_the_way(port: &PortMap, owner: &ObjectKey) -> Problem {
    let detail = format!("port {}/{} of the host is published by {owner}", port.host, port.protocol);
    Problem::new(ErrorCode::Conflict, detail)
}
