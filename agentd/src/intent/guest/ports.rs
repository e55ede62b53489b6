//! Published ports of the host. A port on one address and the same port on all addresses exclude each other, which a row's
//! UNIQUE constraint alone cannot say: the guests that publish that port are looked up by the store's index.

use std::net::Ipv4Addr;

use agentd_api::container::Container;
use agentd_api::vm::Vm;
use agentd_api::{ErrorCode, Kind, ObjectKey, PortMap, Problem};
use agentd_store::{Query, TxError};

use crate::intent::admission::{Desk, object, refused};

/// Gives back what `had` has over `wanted` and takes what is new.
pub(in crate::intent) fn publish(
    desk: &mut Desk<'_>,
    guest: &ObjectKey,
    had: &[PortMap],
    wanted: &[PortMap],
) -> Result<(), Problem> {
    for port in had {
        desk.tx.release(&space(port), &value(port), guest);
    }
    for (n, port) in wanted.iter().enumerate() {
        let field = || format!("spec.publish[{n}].host");
        if let Some(owner) = overlapping(desk, guest, port)? {
            return Err(in_the_way(port, &owner).at(field()));
        }
        desk.tx.allocate(&space(port), &value(port), guest).map_err(|error| match error {
            TxError::Taken { owner, .. } => in_the_way(port, &owner).at(field()),
            other => refused(other).at(field()),
        })?;
    }
    Ok(())
}

fn overlapping(desk: &mut Desk<'_>, guest: &ObjectKey, port: &PortMap) -> Result<Option<ObjectKey>, Problem> {
    let same_port = |kind| Query {
        fields: vec![("publish".to_owned(), true, port.host.to_string())],
        ..Query::kind(kind)
    };
    for other in desk.tx.list(&same_port(Vm::DEF.kind)).iter().filter(|o| o.key() != guest) {
        if object::<Vm>(other)?.spec.publish.iter().any(|p| overlaps(p, port)) {
            return Ok(Some(other.key().clone()));
        }
    }
    for other in desk.tx.list(&same_port(Container::DEF.kind)).iter().filter(|o| o.key() != guest) {
        if object::<Container>(other)?.spec.publish.iter().any(|p| overlaps(p, port)) {
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
