//! Admission of flavors, and what a flavor means for the VM that names it.

use std::sync::Arc;

use agentd_api::flavor::{Flavor, FlavorSpec, FlavorStatus};
use agentd_api::name::DEFAULT_PROJECT;
use agentd_api::vm::VmSpec;
use agentd_api::{ErrorCode, FieldError, Kind, Object, ObjectKey, ObjectName, Problem};
use agentd_store::{Query, Stored};

use super::admission::{Admission, Desk, object};
use super::guest::refuse_used;

impl Admission for Flavor {
    const FINALIZERS: &'static [&'static str] = &[];

    fn create(_: &mut Desk<'_>, _: &ObjectKey, _: &FlavorSpec) -> Result<FlavorStatus, Problem> {
        Ok(FlavorStatus::default())
    }
    /// VMs that are of it keep what it said when they were made.
    fn change(_: &mut Desk<'_>, _: &Object<Self>, _: &FlavorSpec) -> Result<Option<FlavorStatus>, Problem> {
        Ok(None)
    }
    fn delete(desk: &mut Desk<'_>, key: &ObjectKey) -> Result<(), Problem> {
        refuse_used(desk, key, "flavor")?;
        if key.project.as_str() == DEFAULT_PROJECT { used_elsewhere(desk, key) } else { Ok(()) }
    }
}

/// The flavor of that name for a VM: of its own project, or else of the project `default`, which has those that are
/// shipped.
fn find(desk: &mut Desk<'_>, vm: &ObjectKey, name: &ObjectName) -> Option<Arc<Stored>> {
    let own = desk.tx.get(&ObjectKey::of::<Flavor>(vm.project.clone(), name.clone()));
    own.or_else(|| {
        let project = ObjectName::parse(DEFAULT_PROJECT).ok()?;
        desk.tx.get(&ObjectKey::of::<Flavor>(project, name.clone()))
    })
}

/// Refuses where there is no such flavor for a VM.
pub(super) fn check(desk: &mut Desk<'_>, vm: &ObjectKey, name: &ObjectName) -> Result<(), Problem> {
    match find(desk, vm, name).filter(|there| !there.deleting()) {
        Some(_) => Ok(()),
        None => Err(no_such_flavor(desk, &ObjectKey::of::<Flavor>(vm.project.clone(), name.clone()))),
    }
}

/// Refuses where VMs of other projects are of this one, for want of one of their own of that name.
fn used_elsewhere(desk: &mut Desk<'_>, key: &ObjectKey) -> Result<(), Problem> {
    let fields = vec![("flavor".to_owned(), true, key.name.to_string())];
    for vm in desk.tx.list(&Query { fields, ..Query::kind("vm") }) {
        if find(desk, vm.key(), &key.name).is_some_and(|flavor| flavor.key() == key) {
            return Err(Problem::new(ErrorCode::InUse, format!("{key} is in use by {}", vm.key()))
                .hint("delete or change what uses it first"));
        }
    }
    Ok(())
}

/// The spec with what its flavor says. What was given and says otherwise is refused by its field, unless it is what the VM
/// had before its flavor was changed.
pub(super) fn resolve(
    desk: &mut Desk<'_>,
    vm: &ObjectKey,
    is: Option<&VmSpec>,
    mut spec: VmSpec,
    given: &[String],
) -> Result<VmSpec, Problem> {
    let Some(name) = spec.flavor.clone() else { return Ok(spec) };
    let of = match is.filter(|is| is.flavor == spec.flavor) {
        // Of the same flavor as before: it keeps what that said then.
        Some(is) => kept(desk, vm, is)?,
        None => {
            let Some(there) = find(desk, vm, &name).filter(|there| !there.deleting()) else {
                return Err(no_such_flavor(desk, &ObjectKey::of::<Flavor>(vm.project.clone(), name)));
            };
            object::<Flavor>(&there)?.spec
        }
    };
    let mut errors = Vec::new();
    let mut fit = |field: &str, same: bool, as_before: bool, has: String| {
        if !same && !as_before && given.iter().any(|g| g == field) {
            errors.push(FieldError::new(format!("spec.{field}"), format!("is {has} in the flavor '{name}'")));
        }
    };
    let before =
        |same: fn(&VmSpec, &VmSpec) -> bool| is.is_some_and(|is| is.flavor != spec.flavor && same(is, &spec));
    fit("cpus", spec.cpus == of.cpus, before(|a, b| a.cpus == b.cpus), of.cpus.to_string());
    fit("memory", spec.memory == of.memory, before(|a, b| a.memory == b.memory), of.memory.to_string());
    if let Some(disk) = of.disk {
        fit("disk", spec.disk == Some(disk), before(|a, b| a.disk == b.disk), disk.to_string());
    }
    if !of.disk_limits.is_default() {
        let same = spec.disk_limits == of.disk_limits;
        fit("disk_limits", same, before(|a, b| a.disk_limits == b.disk_limits), "another".to_owned());
    }
    if let Some(shares) = of.cpu_shares {
        let same = spec.cpu_shares == Some(shares);
        fit("cpu_shares", same, before(|a, b| a.cpu_shares == b.cpu_shares), shares.to_string());
    }
    limit_interfaces(&mut spec, is, (&name, &of), &mut errors);
    if !errors.is_empty() {
        return Err(Problem::invalid(errors).hint("leave it out, or name no flavor"));
    }
    (spec.cpus, spec.memory) = (of.cpus, of.memory);
    spec.disk = of.disk.or(spec.disk);
    spec.cpu_shares = of.cpu_shares.or(spec.cpu_shares);
    if !of.disk_limits.is_default() {
        spec.disk_limits = of.disk_limits;
    }
    Ok(spec)
}

/// Each interface gets the flavor's limits. One that was given others is refused, unless it had those before the flavor
/// was changed.
fn limit_interfaces(
    spec: &mut VmSpec,
    is: Option<&VmSpec>,
    (name, of): (&ObjectName, &FlavorSpec),
    errors: &mut Vec<FieldError>,
) {
    if of.nic_limits.is_default() {
        return;
    }
    let before = is.filter(|is| is.flavor != spec.flavor);
    for (n, nic) in spec.networks.iter_mut().enumerate() {
        let as_before = before.is_some_and(|is| is.networks.iter().any(|had| had == nic));
        if nic.limits != of.nic_limits && !nic.limits.is_default() && !as_before {
            let message = format!("is another in the flavor '{name}'");
            errors.push(FieldError::new(format!("spec.networks[{n}].limits"), message));
        }
        nic.limits = of.nic_limits;
    }
}

/// What its flavor said when it was made of it. What the flavor leaves to the VM is not held to.
fn kept(desk: &mut Desk<'_>, vm: &ObjectKey, is: &VmSpec) -> Result<FlavorSpec, Problem> {
    let there = is.flavor.as_ref().and_then(|name| find(desk, vm, name));
    let now = there.map(|there| object::<Flavor>(&there)).transpose()?.map(|flavor| flavor.spec);
    let holds = |field: fn(&FlavorSpec) -> bool| now.as_ref().is_none_or(field);
    Ok(FlavorSpec {
        cpus: is.cpus,
        memory: is.memory,
        disk: is.disk.filter(|_| holds(|f| f.disk.is_some())),
        disk_limits: if holds(|f| !f.disk_limits.is_default()) { is.disk_limits } else { Default::default() },
        nic_limits: match is.networks.first() {
            Some(nic) if holds(|f| !f.nic_limits.is_default()) => nic.limits,
            // Without an interface nothing tells what it said then.
            None => now.as_ref().map(|flavor| flavor.nic_limits).unwrap_or_default(),
            Some(_) => Default::default(),
        },
        cpu_shares: is.cpu_shares.filter(|_| holds(|f| f.cpu_shares.is_some())),
    })
}

fn no_such_flavor(desk: &mut Desk<'_>, key: &ObjectKey) -> Problem {
    let mut there = std::collections::BTreeSet::new();
    for project in [Some(key.project.clone()), ObjectName::parse(DEFAULT_PROJECT).ok()] {
        let query = Query { project, limit: Some(10), ..Query::kind(Flavor::DEF.kind) };
        there.extend(desk.tx.list(&query).iter().map(|o| o.name().to_string()));
    }
    let there: Vec<String> = there.into_iter().collect();
    let hint = if there.is_empty() {
        "there is no flavor yet; `agentctl flavor create` makes one".to_owned()
    } else {
        format!("there are {}", there.join(", "))
    };
    let what = format!("there is no flavor '{}' in project '{}'", key.name, key.project);
    Problem::field("spec.flavor", what).hint(hint)
}
