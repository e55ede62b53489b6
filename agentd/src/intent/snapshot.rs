//! Admission of snapshots: the VM is there, and what is being restored stays.

use agentd_api::snapshot::{Snapshot, SnapshotSpec, SnapshotStatus, TakenFor};
use agentd_api::vm::{Vm, VmRestore};
use agentd_api::{ErrorCode, FieldError, Object, ObjectKey, ObjectName, Problem, State};
use agentd_store::{Expect, Query, Stored, Update};
use serde_json::Value;
use std::sync::Arc;

use super::act::not_now;
use super::admission::{self, Acted, Admission, Desk, name_them, no_such_action, refused};
use super::vm::clone;

impl Admission for Snapshot {
    const FINALIZERS: &'static [&'static str] = &["disks"];

    fn create(desk: &mut Desk<'_>, key: &ObjectKey, spec: &SnapshotSpec) -> Result<SnapshotStatus, Problem> {
        let vm = vm_of(desk, &key.project, &spec.vm)?;
        if vm.meta.deleting() {
            let detail = format!("{} is being deleted", vm.meta.key());
            return Err(Problem::new(ErrorCode::Conflict, detail).at("spec.vm"));
        }
        if spec.memory && !matches!(vm.status.common.state, State::Running | State::Paused) {
            let detail = format!("{} is {}, and has no memory", vm.meta.key(), vm.status.common.state);
            let hint = format!("`agentctl vm start {}` starts it", vm.meta.name);
            return Err(Problem::new(ErrorCode::Conflict, detail).at("spec.memory").hint(hint));
        }
        Ok(SnapshotStatus { vm_id: Some(vm.meta.id), ..SnapshotStatus::default() })
    }

    fn change(
        _: &mut Desk<'_>,
        is: &Object<Self>,
        spec: &SnapshotSpec,
    ) -> Result<Option<SnapshotStatus>, Problem> {
        let mut errors = Vec::new();
        if is.spec.vm != spec.vm {
            errors.push(FieldError::new("spec.vm", format!("cannot be changed from '{}'", is.spec.vm)));
        }
        if is.spec.memory != spec.memory {
            errors.push(FieldError::new("spec.memory", "cannot be changed once it is taken"));
        }
        if errors.is_empty() { Ok(None) } else { Err(Problem::invalid(errors)) }
    }

    fn delete(desk: &mut Desk<'_>, key: &ObjectKey) -> Result<(), Problem> {
        let Some(is) = desk.tx.get(key) else { return Ok(()) };
        let vm = admission::object::<Self>(&is)?.spec.vm;
        clone::needed(desk, key, &ObjectKey::of::<Vm>(key.project.clone(), vm), Some(is.id()))?;
        match restoring(desk, &is)? {
            Some(vm) => Err(Problem::new(ErrorCode::InUse, format!("{vm} is being taken back to {key}"))),
            None => Ok(()),
        }
    }

    fn act_at(
        desk: &mut Desk<'_>,
        is: &Object<Self>,
        action: &str,
        options: &Value,
    ) -> Result<Acted<Self>, Problem> {
        match action {
            "restore" => restore(desk, is, options),
            other => Err(no_such_action(&is.meta.key(), other)),
        }
    }
}

fn vm_of(desk: &Desk<'_>, project: &ObjectName, name: &ObjectName) -> Result<Object<Vm>, Problem> {
    let key = ObjectKey::of::<Vm>(project.clone(), name.clone());
    match desk.tx.get(&key) {
        Some(there) => admission::object::<Vm>(&there),
        None => {
            let what = format!("there is no vm '{name}' in project '{project}'");
            Err(Problem::field("spec.vm", what).hint("`agentctl vm list` shows what there is"))
        }
    }
}

/// The VM that is on its way back to this snapshot.
fn restoring(desk: &Desk<'_>, is: &Stored) -> Result<Option<ObjectKey>, Problem> {
    let snapshot = admission::object::<Snapshot>(is)?;
    let key = ObjectKey::of::<Vm>(snapshot.meta.project.clone(), snapshot.spec.vm);
    let Some(there) = desk.tx.get(&key) else { return Ok(None) };
    let vm = admission::object::<Vm>(&there)?;
    Ok(vm.status.restore.is_some_and(|way| way.id == snapshot.meta.id).then_some(key))
}

/// Written down on the VM, whose reconciler takes it back. Its desired state is changed by that, once it has succeeded.
fn restore(desk: &mut Desk<'_>, is: &Object<Snapshot>, options: &Value) -> Result<Acted<Snapshot>, Problem> {
    let key = is.meta.key();
    if let Some(wanted) = options.get("vm").filter(|v| !v.is_null())
        && wanted.as_str() != Some(is.spec.vm.as_str())
    {
        let message = format!("is not the VM that {key} is of, which is '{}'", is.spec.vm);
        return Err(Problem::field("vm", message));
    }
    if is.status.common.state != State::Ready {
        return Err(not_now(&key, "restore", &format!("it is {}", is.status.common.state)));
    }
    let mut vm = vm_of(desk, &is.meta.project, &is.spec.vm)?;
    if Some(vm.meta.id) != is.status.vm_id {
        return Err(not_now(&key, "restore", "it is of an earlier VM of that name"));
    }
    if vm.meta.deleting() {
        return Err(not_now(&key, "restore", &format!("{} is being deleted", vm.meta.key())));
    }
    match &vm.status.restore {
        Some(way) if way.id == is.meta.id => return Ok(Acted::default()),
        Some(way) => {
            let why = format!("{} is being taken back to snapshot '{}'", vm.meta.key(), way.snapshot);
            return Err(not_now(&key, "restore", &why));
        }
        None => {}
    }
    vm.status.restore = Some(VmRestore {
        snapshot: is.meta.name.clone(),
        id: is.meta.id,
        memory: is.spec.memory,
        phase: Default::default(),
        was: None,
        error: None,
    });
    // What it failed at before says nothing about what it is taken back to.
    vm.status.common.attempts = None;
    if vm.status.common.state == State::Failed {
        vm.status.common.state = State::Pending;
        vm.status.common.reason = None;
    }
    let status = serde_json::to_value(&vm.status)
        .map_err(|e| Problem::new(ErrorCode::Internal, format!("a status cannot be written: {e}")))?;
    let update = Update { status: Some(status), ..Update::default() };
    let now = desk.tx.update(&vm.meta.key(), Expect::Any, update).map_err(refused)?;
    desk.record(&now, "restore", format!("to be taken back to {key}"));
    Ok(Acted { elsewhere: true, ..Acted::default() })
}

/// The snapshots of a VM go with it where that is wanted; else it is in use by them.
pub(super) fn of_deleted_vm(desk: &mut Desk<'_>, vm: &ObjectKey) -> Result<(), Problem> {
    let query = Query {
        project: Some(vm.project.clone()),
        fields: vec![("vm".to_owned(), true, vm.name.to_string())],
        ..Query::kind("snapshot")
    };
    let there: Vec<Arc<Stored>> = desk.tx.list(&query).into_iter().filter(|s| !s.deleting()).collect();
    if there.is_empty() {
        return Ok(());
    }
    let exported = |s: &&Arc<Stored>| {
        let of = s.object::<Snapshot>().ok().and_then(|s| s.status.taken_for);
        matches!(of, Some(TakenFor::Export(_)))
    };
    if there.iter().any(|s| exported(&s)) {
        return Err(Problem::new(ErrorCode::InUse, format!("{vm} is being exported"))
            .hint("wait until its disks are copied, or end the export"));
    }
    if !desk.caller.cascade {
        let detail = format!("{vm} has snapshots, which go with it: {}", name_them(&there));
        return Err(Problem::new(ErrorCode::InUse, detail)
            .hint(format!("`agentctl vm rm --snapshots {}` deletes it with them", vm.name)));
    }
    for snapshot in there {
        let marked = Update { deleting: Some(true), ..Update::default() };
        let marked = desk.tx.update(snapshot.key(), Expect::Any, marked).map_err(refused)?;
        desk.record(&marked, "delete", format!("marked for deletion with {vm}"));
    }
    Ok(())
}
