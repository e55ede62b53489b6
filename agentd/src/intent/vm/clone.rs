//! VMs that are made of other VMs: what of the source they take over, and the snapshot that their disks are made of.
//!
//! The snapshot is an object like another, written down with the clone: its reconciler takes it, whatever happens to
//! this process meanwhile, and the clone's makes the disks of it. Until they are made the source and the snapshot stay.

use agentd_api::snapshot::{Snapshot, SnapshotSpec, SnapshotStatus, TakenFor};
use agentd_api::vm::{CloneMode, NicSpec, OriginSnapshot, Vm, VmOrigin, VmSource, VmSpec};
use agentd_api::{ErrorCode, FieldError, Kind, Object, ObjectKey, ObjectName, Problem, State};
use agentd_store::{NewObject, Query, Stored};
use std::sync::Arc;
use uuid::Uuid;

use crate::intent::admission::{Admission, Desk, name_them, not_found, object, refused};

/// How many sets of disks may lie beneath each other: each makes reading a little slower.
const BASES_MAX: usize = 8;

/// The spec with what the source's says where nothing was given.
pub(super) fn resolve(
    desk: &mut Desk<'_>,
    key: &ObjectKey,
    source: &VmSource,
    spec: VmSpec,
    given: &[String],
) -> Result<VmSpec, Problem> {
    Ok(filled(spec, &source_of(desk, key, source)?.spec, given))
}

fn filled(mut spec: VmSpec, of: &VmSpec, given: &[String]) -> VmSpec {
    let open = |field: &str| !given.iter().any(|g| g == field);
    // A size of its own choice is no longer that of the source's flavor.
    if ["flavor", "cpus", "memory", "disk", "disk_limits", "cpu_shares"].into_iter().all(open) {
        spec.flavor.clone_from(&of.flavor);
    }
    macro_rules! take {
        ($($field:ident),*) => {
            $(if open(stringify!($field)) { spec.$field.clone_from(&of.$field); })*
        };
    }
    take!(cpus, cpus_max, memory, memory_max, disk, disks, iso, ssh_keys, user_data, restart, grace);
    take!(autostart, disk_limits, cpu_pinning, cpu_shares, huge_pages, nested, watchdog, snapshot_policy);
    take!(graphics, firmware, tpm);
    // What could be given while it runs grows with a size of its own choice.
    if open("cpus_max") && spec.cpus_max.is_some_and(|max| max < spec.cpus) {
        spec.cpus_max = None;
    }
    if open("memory_max") && spec.memory_max.is_some_and(|max| max < spec.memory) {
        spec.memory_max = None;
    }
    if open("networks") {
        let place = |nic: &NicSpec| NicSpec { ip: None, mac: None, ..nic.clone() };
        spec.networks = of.networks.iter().map(place).collect();
    }
    spec
}

/// What is written down of where the disks of `vm` are to come from, and the digest of the image beneath them.
pub(super) fn admit(
    desk: &mut Desk<'_>,
    vm: &ObjectKey,
    source: &VmSource,
    spec: &VmSpec,
) -> Result<(VmOrigin, Option<String>), Problem> {
    let of = source_of(desk, vm, source)?;
    check_fits(spec, &of)?;
    let bases = &of.status.origin.as_ref().map(|origin| origin.bases.clone()).unwrap_or_default();
    if source.mode == CloneMode::Linked && bases.len() >= BASES_MAX {
        let detail =
            format!("{} stands on {BASES_MAX} sets of disks already, one beneath the other", of.meta.key());
        return Err(Problem::new(ErrorCode::Conflict, detail)
            .at("spec.source.mode")
            .hint("make a full clone: `agentctl vm clone --full`"));
    }
    let snapshot = match &source.snapshot {
        Some(name) => existing(desk, &of, name)?,
        None => take_own(desk, vm, &of)?,
    };
    let bases = match source.mode {
        CloneMode::Linked => std::iter::once(snapshot.id).chain(bases.iter().copied()).collect(),
        CloneMode::Full => Vec::new(),
    };
    let origin = VmOrigin {
        vm: of.meta.name.clone(),
        vm_id: of.meta.id,
        snapshot: Some(snapshot),
        mode: source.mode,
        bases,
        set: None,
        disks_made: false,
    };
    Ok((origin, of.status.image_digest))
}

/// The VM that it is made of, which has disks.
fn source_of(desk: &Desk<'_>, vm: &ObjectKey, source: &VmSource) -> Result<Object<Vm>, Problem> {
    let key = ObjectKey::of::<Vm>(vm.project.clone(), source.vm.clone());
    if desk.tx.get(&key).is_none() {
        let what = format!("there is no vm '{}' in project '{}'", key.name, key.project);
        return Err(Problem::field("spec.source.vm", what).hint("`agentctl vm list` shows what there is"));
    };
    with_disks(desk, &key, Some("spec.source.vm"))
}

/// A VM that has disks, of which a snapshot can be taken. `field` is what names it.
pub(in crate::intent) fn with_disks(
    desk: &Desk<'_>,
    key: &ObjectKey,
    field: Option<&str>,
) -> Result<Object<Vm>, Problem> {
    let there = desk.tx.get(key).ok_or_else(|| not_found(key))?;
    let conflict = |why: &str| {
        let problem = Problem::new(ErrorCode::Conflict, format!("{key} {why}"));
        field.into_iter().fold(problem, |problem, field| problem.at(field))
    };
    let of = object::<Vm>(&there)?;
    if of.meta.deleting() {
        return Err(conflict("is being deleted"));
    }
    if of.status.image_digest.is_none() {
        return Err(conflict("has no disk yet: it was never started")
            .hint(format!("`agentctl vm start {}` starts it", key.name)));
    }
    if of.status.origin.as_ref().is_some_and(|origin| !origin.disks_made) {
        return Err(conflict("has no disk yet: that is still being made"));
    }
    Ok(of)
}

/// Its disks hold all that the source's do.
fn check_fits(spec: &VmSpec, of: &Object<Vm>) -> Result<(), Problem> {
    let (mut errors, name) = (Vec::new(), &of.meta.name);
    if spec.image != of.spec.image {
        let message = format!("must be that of '{name}', which is '{}'", of.spec.image);
        errors.push(FieldError::new("spec.image", message));
    }
    match (of.spec.disk, spec.disk) {
        (Some(was), Some(wanted)) if wanted < was => {
            let message = format!("must be at least that of '{name}', which is {was}, not {wanted}");
            errors.push(FieldError::new("spec.disk", message));
        }
        _ => {}
    }
    if spec.disks.len() < of.spec.disks.len() {
        let message = format!("must be at least as many as '{name}' has, which are {}", of.spec.disks.len());
        errors.push(FieldError::new("spec.disks", message));
    }
    for (n, (was, wanted)) in of.spec.disks.iter().zip(&spec.disks).enumerate() {
        if wanted.size < was.size {
            let message = format!("must be at least that of '{name}', which is {}", was.size);
            errors.push(FieldError::new(format!("spec.disks[{n}].size"), message));
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(Problem::invalid(errors)) }
}

fn existing(desk: &Desk<'_>, of: &Object<Vm>, name: &ObjectName) -> Result<OriginSnapshot, Problem> {
    const FIELD: &str = "spec.source.snapshot";
    let key = ObjectKey::of::<Snapshot>(of.meta.project.clone(), name.clone());
    let there = desk.tx.get(&key).map(|there| object::<Snapshot>(&there)).transpose()?;
    let Some(there) = there.filter(|s| s.status.vm_id == Some(of.meta.id)) else {
        let what = format!("there is no snapshot '{name}' of {}", of.meta.key());
        return Err(Problem::field(FIELD, what)
            .hint(format!("`agentctl snapshot list {}` shows which there are", of.meta.name)));
    };
    let state = there.status.common.state;
    let conflict = |why: String| Err(Problem::new(ErrorCode::Conflict, format!("{key} {why}")).at(FIELD));
    if there.status.taken_for.is_some() {
        return conflict("is only there for something else, and goes with that".to_owned());
    }
    if there.meta.deleting() || state != State::Ready {
        return conflict(format!("is {}", if there.meta.deleting() { State::Deleting } else { state }));
    }
    Ok(OriginSnapshot { name: there.meta.name, id: there.meta.id, own: false })
}

/// Writes down a snapshot for this clone alone.
fn take_own(desk: &mut Desk<'_>, vm: &ObjectKey, of: &Object<Vm>) -> Result<OriginSnapshot, Problem> {
    let made = taken_for(desk, of, &vm.name, TakenFor::Clone(vm.name.clone()))?;
    desk.record(&made, "created", format!("wanted by {vm}"));
    Ok(OriginSnapshot { name: made.name().clone(), id: made.id(), own: true })
}

/// A snapshot of `of` that goes with what it is for.
pub(in crate::intent) fn taken_for(
    desk: &mut Desk<'_>,
    of: &Object<Vm>,
    wish: &ObjectName,
    taken_for: TakenFor,
) -> Result<Arc<Stored>, Problem> {
    // Random, so that it is nobody's already.
    let random = Uuid::new_v4().simple().to_string();
    let short: String = wish.as_str().chars().take(40).collect();
    let name = ObjectName::parse(&format!("for-{}-{}", short.trim_end_matches('-'), &random[..8]))
        .map_err(|e| Problem::new(ErrorCode::Internal, format!("a snapshot's name {e}")))?;
    let spec = SnapshotSpec { vm: of.meta.name.clone(), memory: false };
    let status =
        SnapshotStatus { vm_id: Some(of.meta.id), taken_for: Some(taken_for), ..SnapshotStatus::default() };
    let json = |value: serde_json::Result<serde_json::Value>| {
        value.map_err(|e| Problem::new(ErrorCode::Internal, e.to_string()))
    };
    let new = NewObject {
        finalizers: Snapshot::FINALIZERS.iter().map(|&f| f.to_owned()).collect(),
        status: json(serde_json::to_value(status))?,
        ..NewObject::new(
            ObjectKey::of::<Snapshot>(of.meta.project.clone(), name),
            json(serde_json::to_value(spec))?,
        )
    };
    desk.tx.create(new).map_err(refused)
}

/// VMs on their way whose disks are still to be made of this VM's, by one of its snapshots where that is told.
fn awaiting(desk: &Desk<'_>, vm: &ObjectKey, snapshot: Option<Uuid>) -> Vec<Arc<Stored>> {
    let query = Query {
        project: Some(vm.project.clone()),
        fields: vec![("source".to_owned(), true, vm.name.to_string())],
        ..Query::kind(Vm::DEF.kind)
    };
    let awaits = |clone: &Stored| {
        let origin = clone.object::<Vm>().ok().and_then(|clone| clone.status.origin);
        origin.is_some_and(|origin| match snapshot {
            Some(id) => origin.awaits(id),
            None => !origin.disks_made,
        })
    };
    desk.tx.list(&query).into_iter().filter(|clone| !clone.deleting() && awaits(clone)).collect()
}

/// Refuses to take away what clones are still made of. `gone` is what would go.
pub(in crate::intent) fn needed(
    desk: &Desk<'_>,
    gone: &ObjectKey,
    vm: &ObjectKey,
    snapshot: Option<Uuid>,
) -> Result<(), Problem> {
    let clones = awaiting(desk, vm, snapshot);
    if clones.is_empty() {
        return Ok(());
    }
    let detail = format!("{gone} is needed until these are made of it: {}", name_them(&clones));
    Err(Problem::new(ErrorCode::InUse, detail).hint("wait for them, or delete them first"))
}
