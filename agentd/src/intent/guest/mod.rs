//! What VMs and containers have in common where they are admitted: addresses, MACs, published ports, names on a network.
//! Both take them from the same allocations, so that neither gets what the other has.

pub(super) mod addresses;
pub(super) mod names;
pub(super) mod ports;

use agentd_api::container::Container;
use agentd_api::vm::Vm;
use agentd_api::{ByteSize, ErrorCode, FieldError, Kind, KindDef, ObjectKey, Problem, Timestamp};
use agentd_store::{Query, Stored};
use std::sync::Arc;

use super::admission::{Desk, name_them};

/// Memory may be promised to several guests at once, but never more to one than the host has.
pub(super) fn check_memory(desk: &Desk<'_>, field: &str, wanted: ByteSize) -> Result<(), Problem> {
    let all = desk.known.memory;
    if wanted <= all {
        return Ok(());
    }
    let detail = format!("{wanted} is more than the {} MiB that this host has", all.bytes() >> 20);
    Err(Problem::new(ErrorCode::InsufficientCapacity, detail).at(field))
}

/// A time that is over would delete the guest at once, which is more likely a mistake.
pub(super) fn check_expiry(kind: &str, was: Option<Timestamp>, at: Option<Timestamp>) -> Result<(), Problem> {
    match at {
        Some(at) if at <= Timestamp::now() && was != Some(at) => {
            Err(Problem::field("spec.expires_at", format!("is over already: {at}"))
                .hint(format!("leave it out for a {kind} that does not expire")))
        }
        _ => Ok(()),
    }
}

/// What is named must be there: all that is not is named at once.
pub(super) fn check_references(
    desk: &mut Desk<'_>,
    guest: &ObjectKey,
    named: impl Iterator<Item = (String, ObjectKey)>,
) -> Result<(), Problem> {
    let mut missing = Vec::new();
    let mut kind = None;
    for (field, key) in named {
        match desk.tx.get(&key) {
            Some(there) if there.deleting() => {
                let detail = format!("{key} is being deleted");
                return Err(Problem::new(ErrorCode::Conflict, detail).at(field));
            }
            Some(_) => {}
            None => {
                let what = format!("there is no {} '{}' in project '{}'", key.kind, key.name, key.project);
                missing.push(FieldError::new(field, what));
                kind.get_or_insert(key.kind);
            }
        }
    }
    let Some(kind) = kind else { return Ok(()) };
    let query = Query { project: Some(guest.project.clone()), limit: Some(10), ..Query::kind(&kind) };
    let there: Vec<String> = desk.tx.list(&query).iter().map(|o| o.name().to_string()).collect();
    let hint = if there.is_empty() {
        format!("there is no {kind} yet")
    } else {
        format!("there are {}", there.join(", "))
    };
    // Networks are not made by agentctl yet.
    let made = if kind == "ssh-key" { "; `agentctl ssh-key create` makes one" } else { "" };
    Err(Problem::invalid(missing).hint(format!("{hint}{made}")))
}

/// Refuses where VMs or containers of the same project name this object in that field.
pub(super) fn refuse_used(desk: &mut Desk<'_>, key: &ObjectKey, field: &str) -> Result<(), Problem> {
    let mut found: Vec<Arc<Stored>> = Vec::new();
    for def in [Vm::DEF, Container::DEF].into_iter().filter(|def| def.field(field).is_some()) {
        found.extend(users(desk, key, def, field, key.name.as_str()));
    }
    refuse_users(key, &found)
}

/// Objects of a kind, in the project of `key`, that have that name in that field.
pub(super) fn users(
    desk: &Desk<'_>,
    key: &ObjectKey,
    def: &'static KindDef,
    field: &str,
    name: &str,
) -> Vec<Arc<Stored>> {
    desk.tx.list(&Query {
        project: Some(key.project.clone()),
        fields: vec![(field.to_owned(), true, name.to_owned())],
        ..Query::kind(def.kind)
    })
}

pub(super) fn refuse_users(key: &ObjectKey, users: &[Arc<Stored>]) -> Result<(), Problem> {
    if users.is_empty() {
        return Ok(());
    }
    Err(Problem::new(ErrorCode::InUse, format!("{key} is in use by {}", name_them(users)))
        .hint("delete or change what uses it first"))
}
