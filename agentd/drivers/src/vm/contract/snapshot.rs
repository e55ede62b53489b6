//! What every driver must do with snapshots and with memory on disk. What is on the disk is written and read while the
//! guest is off; that a guest went on, and was not started anew, is told by its console.

use uuid::Uuid;

use super::{Bed, POWER_OFF_LIMIT, see, until};
use crate::fault::{Class, Classed};
use crate::vm::snapshot::{Memory, OwnDisks, TakeSnapshot, UNDO};
use crate::vm::{Change, DomainSpec, OffReason, Power, VmError};

fn own(spec: &DomainSpec) -> OwnDisks {
    OwnDisks { vm: spec.id, disks: vec![spec.disk.clone()] }
}

async fn take(bed: &dyn Bed, spec: &DomainSpec, memory: bool) -> Uuid {
    let id = Uuid::now_v7();
    let want = TakeSnapshot { id, of: own(spec), memory };
    bed.driver().take_snapshot(&want).await.expect("a snapshot");
    id
}

async fn held(bed: &dyn Bed, spec: &DomainSpec) -> Vec<Uuid> {
    let mut ids: Vec<Uuid> =
        bed.driver().snapshots(&own(spec)).await.expect("snapshots").into_iter().map(|s| s.id).collect();
    ids.sort_unstable();
    ids
}

pub(super) async fn disks_go_back_and_snapshots_go_in_any_order(bed: &dyn Bed) {
    let (vm, spec) = (bed.driver(), bed.spec("snapped").await);
    let of = own(&spec);
    vm.ensure_defined(&spec).await.expect("define");
    bed.write_disk(&spec, 1).await;
    let first = take(bed, &spec, false).await;
    bed.write_disk(&spec, 2).await;
    let second = take(bed, &spec, false).await;
    bed.write_disk(&spec, 3).await;
    // The third of a guest that runs, which goes on.
    vm.start(spec.id).await.expect("start");
    let want = TakeSnapshot { id: Uuid::now_v7(), of: of.clone(), memory: false };
    assert_eq!(vm.take_snapshot(&want).await.expect("of a guest that runs"), Power::Running);
    let third = want.id;
    assert_eq!(vm.take_snapshot(&want).await.expect("the same again"), Power::Running);
    assert_eq!(see(vm, spec.id).await.power, Power::Running);
    assert_eq!(held(bed, &spec).await, [first, second, third]);
    let error = vm.revert(&of, first).await.expect_err("the guest runs");
    assert_eq!(error.class(), Class::Transient, "{error}");
    // The middle one goes while the guest runs.
    assert_eq!(vm.delete_snapshot(&of, second).await.expect("delete"), Change::Made);
    assert_eq!(vm.delete_snapshot(&of, second).await.expect("delete"), Change::AlreadySo);
    vm.destroy(spec.id).await.expect("destroy");
    bed.write_disk(&spec, 4).await;
    for (id, byte) in [(first, 1), (third, 3), (first, 1)] {
        vm.revert(&of, id).await.expect("back");
        bed.disk_holds(&spec, byte).await;
    }
    vm.revert(&of, second).await.expect_err("it is gone");
    bed.disk_holds(&spec, 1).await;
    for id in [first, third] {
        assert_eq!(vm.delete_snapshot(&of, id).await.expect("delete"), Change::Made);
    }
    assert!(held(bed, &spec).await.is_empty());
    bed.disk_holds(&spec, 1).await;
    let off = TakeSnapshot { id: UNDO, of: of.clone(), memory: true };
    assert!(
        matches!(vm.take_snapshot(&off).await, Err(VmError::Refused(_))),
        "a guest that is off has no memory"
    );
    assert!(held(bed, &spec).await.is_empty());
    vm.undefine(spec.id).await.expect("undefine");
}

pub(super) async fn a_guest_goes_on_from_its_memory(bed: &dyn Bed) {
    let (vm, mut spec) = (bed.driver(), bed.spec("kept").await);
    let (of, id) = (own(&spec), spec.id);
    vm.ensure_defined(&spec).await.expect("define");
    let error = vm.save_memory(id, Memory::Suspended).await.expect_err("it is off");
    assert_eq!(error.class(), Class::Transient, "{error}");
    assert_eq!(vm.start(id).await.expect("start"), Change::Made);
    bed.booted(&spec, 1).await;
    let snapshot = take(bed, &spec, true).await;
    assert_eq!(see(vm, id).await.power, Power::Running, "it goes on");
    let seen = vm.snapshots(&of).await.expect("snapshots");
    assert!(seen[0].in_first_disk && seen[0].memory.is_some_and(|m| m.bytes() > 0), "{seen:?}");
    let size = vm.snapshot_size(&of, snapshot).await.expect("a size");
    assert!(Some(size) >= seen[0].memory, "{size} of {seen:?}");

    let size = vm.save_memory(id, Memory::Suspended).await.expect("saved");
    let seen = see(vm, id).await;
    assert_eq!((seen.power, seen.off), (Power::Off, Some(OffReason::Saved)));
    assert_eq!(vm.saved_memory(id, Memory::Suspended).await.expect("a size"), Some(size));
    assert_eq!(vm.saved_memory(id, Memory::Undo).await.expect("a size"), None);
    // Of another machine it is no memory.
    let memory = spec.memory;
    spec.memory = agentd_api::ByteSize(memory.bytes() * 2);
    spec.memory_max = spec.memory;
    vm.ensure_defined(&spec).await.expect("define anew");
    let error = vm.start_from_memory(&spec, Memory::Suspended, false).await.expect_err("another machine");
    assert_eq!(error.class(), Class::Permanent, "{error:?}");
    assert_eq!(see(vm, id).await.power, Power::Off);
    (spec.memory, spec.memory_max) = (memory, memory);
    vm.ensure_defined(&spec).await.expect("define back");

    assert_eq!(vm.start_from_memory(&spec, Memory::Suspended, true).await.expect("paused"), Change::Made);
    assert_eq!(vm.start_from_memory(&spec, Memory::Suspended, true).await.expect("so"), Change::AlreadySo);
    assert_eq!(see(vm, id).await.power, Power::Paused);
    vm.destroy(id).await.expect("destroy");
    vm.revert(&of, snapshot).await.expect("back");
    let from = Memory::Snapshot(snapshot);
    assert_eq!(vm.start_from_memory(&spec, from, false).await.expect("running"), Change::Made);
    assert_eq!(see(vm, id).await.power, Power::Running);
    assert_eq!(vm.forget_memory(id, Memory::Suspended).await.expect("forgotten"), Change::Made);
    assert_eq!(vm.forget_memory(id, Memory::Suspended).await.expect("forgotten"), Change::AlreadySo);
    // It hears the power button that it heard before, and has not booted again for that.
    vm.shutdown(id).await.expect("shutdown");
    until(vm, id, POWER_OFF_LIMIT, |seen| seen.off == Some(OffReason::Shutdown)).await;
    bed.booted_only(&spec, 1).await;
    assert_eq!(vm.delete_snapshot(&of, snapshot).await.expect("delete"), Change::Made);
    assert_eq!(vm.saved_memory(id, from).await.expect("a size"), None);
    vm.undefine(id).await.expect("undefine");
}
