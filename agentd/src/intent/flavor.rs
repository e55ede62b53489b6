//! Admission of flavors, and what a flavor means for the VM that names it.

use agentd_api::flavor::{Flavor, FlavorSpec, FlavorStatus};
use agentd_api::vm::VmSpec;
use agentd_api::{FieldError, Kind, Object, ObjectKey, Problem};
use agentd_store::Query;

use super::admission::{Admission, Desk, object};
use super::ssh_key::used_by_vms;

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
        used_by_vms(desk, key, "flavor")
    }
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
            let key = ObjectKey::of::<Flavor>(vm.project.clone(), name.clone());
            let there = desk.tx.get(&key).filter(|there| !there.deleting());
            let Some(there) = there else { return Err(no_such_flavor(desk, &key)) };
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

/// What its flavor said when it was made of it. What the flavor leaves to the VM is not held to.
fn kept(desk: &mut Desk<'_>, vm: &ObjectKey, is: &VmSpec) -> Result<FlavorSpec, Problem> {
    let named = is.flavor.clone().map(|name| ObjectKey::of::<Flavor>(vm.project.clone(), name));
    let there = named.and_then(|key| desk.tx.get(&key));
    let now = there.map(|there| object::<Flavor>(&there)).transpose()?.map(|flavor| flavor.spec);
    let holds = |field: fn(&FlavorSpec) -> bool| now.as_ref().is_none_or(field);
    Ok(FlavorSpec {
        cpus: is.cpus,
        memory: is.memory,
        disk: is.disk.filter(|_| holds(|f| f.disk.is_some())),
        disk_limits: if holds(|f| !f.disk_limits.is_default()) { is.disk_limits } else { Default::default() },
        cpu_shares: is.cpu_shares.filter(|_| holds(|f| f.cpu_shares.is_some())),
    })
}

fn no_such_flavor(desk: &mut Desk<'_>, key: &ObjectKey) -> Problem {
    let query =
        Query { project: Some(key.project.clone()), limit: Some(10), ..Query::kind(Flavor::DEF.kind) };
    let there: Vec<String> = desk.tx.list(&query).iter().map(|o| o.name().to_string()).collect();
    let hint = if there.is_empty() {
        "there is no flavor yet; `agentctl flavor create` makes one".to_owned()
    } else {
        format!("there are {}", there.join(", "))
    };
    let what = format!("there is no flavor '{}' in project '{}'", key.name, key.project);
    Problem::field("spec.flavor", what).hint(hint)
}
