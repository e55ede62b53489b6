//! What a container waits for before it is started. It must be there, and nobody may wait for himself by way of others.

use std::collections::BTreeSet;

use agentd_api::container::{After, Container, ContainerSpec};
use agentd_api::vm::Vm;
use agentd_api::{ObjectKey, ObjectName, Problem};

use crate::intent::admission::{Desk, object};
use crate::intent::guest;

pub(super) fn check(
    desk: &mut Desk<'_>,
    key: &ObjectKey,
    is: Option<&ContainerSpec>,
    spec: &ContainerSpec,
) -> Result<(), Problem> {
    let new = |(_, after): &(usize, &After)| is.is_none_or(|is| !is.after.contains(after));
    let named: Vec<_> =
        spec.after.iter().enumerate().filter(new).filter_map(|(n, after)| name(key, n, after)).collect();
    for (field, other) in &named {
        if other == key {
            return Err(Problem::field(field.clone(), "is the container itself"));
        }
    }
    guest::check_references(desk, key, named.iter().cloned())?;
    for (n, after) in spec.after.iter().enumerate() {
        let Some(first) = &after.container else { continue };
        if let Some(way) = way_back(desk, key, first)? {
            let message = format!("would wait for itself: {way}");
            return Err(Problem::field(format!("spec.after[{n}].container"), message));
        }
    }
    Ok(())
}

fn name(of: &ObjectKey, n: usize, after: &After) -> Option<(String, ObjectKey)> {
    let project = of.project.clone();
    match (&after.container, &after.vm) {
        (Some(name), _) => {
            Some((format!("spec.after[{n}].container"), ObjectKey::of::<Container>(project, name.clone())))
        }
        (None, Some(name)) => {
            Some((format!("spec.after[{n}].vm"), ObjectKey::of::<Vm>(project, name.clone())))
        }
        (None, None) => None,
    }
}

/// How `first` comes to wait for `key`, if it does. VMs wait for nobody.
fn way_back(desk: &Desk<'_>, key: &ObjectKey, first: &ObjectName) -> Result<Option<String>, Problem> {
    let mut seen = BTreeSet::new();
    let mut open = vec![vec![first.clone()]];
    while let Some(way) = open.pop() {
        let Some(last) = way.last() else { continue };
        if *last == key.name {
            let names: Vec<&str> = way.iter().map(ObjectName::as_str).collect();
            return Ok(Some(format!("{} after {}", key.name, names.join(" after "))));
        }
        if !seen.insert(last.clone()) {
            continue;
        }
        let there = ObjectKey::of::<Container>(key.project.clone(), last.clone());
        let Some(there) = desk.tx.get(&there) else { continue };
        for next in object::<Container>(&there)?.spec.after.into_iter().filter_map(|after| after.container) {
            open.push(way.iter().cloned().chain([next]).collect());
        }
    }
    Ok(None)
}
