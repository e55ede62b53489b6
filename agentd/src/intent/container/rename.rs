//! `rename`: the object under another name, with its id, its addresses and all that it holds.
//!
//! The store moves it in one step, so that nobody sees it under both names or none. Containers that wait for it are told its
//! new name in the same transaction. The pass that follows gives it that name on the host and in the DNS of its networks,
//! and has the old one forgotten there: the status says what that was until it is done.

use agentd_api::container::{After, Container, ContainerStatus};
use agentd_api::{ErrorCode, Kind, Object, ObjectKey, ObjectName, Problem};
use agentd_store::{Expect, Query, Stored, Update};
use serde_json::Value;
use std::sync::Arc;

use crate::intent::admission::{Desk, object, refused};
use crate::intent::guest::names;

/// The object under its new name; as it is where that is its name already.
pub(in crate::intent) fn rename(
    desk: &mut Desk<'_>,
    key: &ObjectKey,
    options: &Value,
) -> Result<Arc<Stored>, Problem> {
    let name = match options.get("name") {
        None | Some(Value::Null) => return Err(Problem::field("name", "is missing")),
        Some(Value::String(text)) => {
            ObjectName::parse(text).map_err(|e| Problem::field("name", e.to_string()))?
        }
        Some(_) => return Err(Problem::field("name", "must be a string")),
    };
    let is = crate::intent::write::changeable(desk, key, None)?;
    if name == key.name {
        return Ok(is);
    }
    let container = object::<Container>(&is)?;
    let new = ObjectKey::of::<Container>(key.project.clone(), name.clone());
    names::check(desk, &new, &container.spec.networks)?;
    let mut renamed_from = container.status.renamed_from.clone();
    renamed_from.push(key.name.clone());
    let status = ContainerStatus { renamed_from, ..container.status };
    let status = serde_json::to_value(status).unwrap_or_default();
    desk.tx
        .update(key, Expect::Id(is.id()), Update { status: Some(status), ..Update::default() })
        .map_err(refused)?;
    let now = desk.tx.rename(key, &name).map_err(refused)?;
    follow(desk, key, &name)?;
    Ok(now)
}

/// Those that wait for it do so under its new name.
fn follow(desk: &mut Desk<'_>, was: &ObjectKey, name: &ObjectName) -> Result<(), Problem> {
    let waiting = desk.tx.list(&Query {
        project: Some(was.project.clone()),
        fields: vec![("after".to_owned(), true, was.name.to_string())],
        ..Query::kind(Container::DEF.kind)
    });
    for stored in waiting {
        let Object { meta, mut spec, mut status } = object::<Container>(&stored)?;
        for after in &mut spec.after {
            if after.container.as_ref() == Some(&was.name) {
                *after = After { container: Some(name.clone()), ..after.clone() };
            }
        }
        // It is the same wish: one that ended by itself is not started for it.
        let next = |generation: &mut u64| {
            if *generation == meta.generation {
                *generation += 1;
            }
        };
        if let Some(generation) = &mut status.started_generation {
            next(generation);
        }
        if let Some(stop) = &mut status.last_stop {
            next(&mut stop.generation);
        }
        let json = |value: serde_json::Result<Value>| {
            value.map_err(|e| Problem::new(ErrorCode::Internal, e.to_string()))
        };
        let (spec, status) = (json(serde_json::to_value(spec))?, json(serde_json::to_value(status))?);
        let update = Update { spec: Some(spec), status: Some(status), ..Update::default() };
        desk.tx.update(stored.key(), Expect::Id(stored.id()), update).map_err(refused)?;
    }
    Ok(())
}
