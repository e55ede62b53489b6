//! Published ports of the host. A port on one address and the same port on all addresses exclude each other, which a row's
//! UNIQUE constraint alone cannot say: the guests that publish that port are looked up by the store's index.
//!
//! Nor is a port published that a program of the host listens on: its callers would be led to the guest. That is seen when
//! the port is asked for. Whoever listens there later does so in vain, and what the guest has stays its own.

use std::net::Ipv4Addr;

use agentd_api::container::Container;
use agentd_api::vm::Vm;
use agentd_api::{ErrorCode, Kind, ObjectKey, PortMap, Problem};
use agentd_drivers::network::Listener;
use agentd_store::{Query, TxError};
use serde_json::Value;

use crate::intent::Intents;
use crate::intent::admission::{Desk, object, refused};
use crate::intent::write::told;

impl Intents {
    /// Who listens on the host where the guest would newly publish ports. `publish` is what its spec is to say of them: all
    /// of them, those included that it has. The host is not asked where none is new.
    pub(in crate::intent) async fn listeners(
        &self,
        guest: &ObjectKey,
        publish: &Value,
    ) -> Result<Vec<Listener>, Problem> {
        let mut wanted = ports(publish);
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let had = self.store.get(guest).map(|is| ports(&is.value()["spec"]["publish"])).unwrap_or_default();
        wanted.retain(|port| is_new(&had, port));
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        told("which ports of this host are taken", self.facts.listeners(&wanted)).await
    }
}

/// None where it is no list of ports: that is refused where the draft is read.
fn ports(publish: &Value) -> Vec<PortMap> {
    serde_json::from_value(publish.clone()).unwrap_or_default()
}

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
        if is_new(had, port)
            && let Some(listener) = desk.known.listeners.iter().find(|listener| listener.is_met_by(port))
        {
            return Err(listened_on(port, listener).at(field()));
        }
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

/// Whether none of `had` leads there already.
fn is_new(had: &[PortMap], port: &PortMap) -> bool {
    let covers = |had: &PortMap| one_address(had).is_none() || one_address(had) == one_address(port);
    !had.iter().any(|had| had.host == port.host && had.protocol == port.protocol && covers(had))
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

fn listened_on(port: &PortMap, listener: &Listener) -> Problem {
    let (host, protocol, holder) = (port.host, port.protocol, &listener.holder);
    let problem = Problem::new(
        ErrorCode::Conflict,
        format!("port {host}/{protocol} is taken on this host by {holder}"),
    );
    let one = listener.ipv4().filter(|at| !at.is_unspecified());
    problem.hint(match one.filter(|_| one_address(port).is_none()) {
        Some(at) => format!(
            "it listens on {at}: publish the port on another address of this host, as ADDRESS:{}, or another port",
            PortMap { address: None, ..port.clone() }
        ),
        None => "publish another port, or end what listens there".to_owned(),
    })
}
