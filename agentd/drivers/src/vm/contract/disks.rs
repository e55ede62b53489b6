//! Disks that are plugged, unplugged and grown under a running guest.

use std::time::Duration;

use agentd_api::ByteSize;
use uuid::Uuid;

use super::{Bed, gone, see, until};
use crate::fault::{Class, Classed};
use crate::vm::{Cdrom, Change, DomainSeen, Unplugged, VmDriver, VmError};

/// For a guest to let go of a disk, under emulation on a busy host.
const RELEASE: Duration = Duration::from_secs(30);

pub(super) async fn they_come_and_go_under_a_running_guest(bed: &dyn Bed) {
    let (vm, spec) = (bed.driver(), bed.spec("plugs").await);
    let id = spec.id;
    let mut disks = Vec::new();
    for serial in ["one", "two", "three"] {
        disks.push(bed.disk(&spec, serial).await);
    }
    assert!(matches!(vm.attach_disk(id, &disks[0]).await, Err(VmError::Missing(_))));
    assert!(matches!(vm.detach_disk(id, "one").await, Err(VmError::Missing(_))));
    vm.ensure_defined(&spec).await.expect("define");
    let error = vm.attach_disk(id, &disks[0]).await.expect_err("a guest that is off is given nothing");
    assert_eq!(error.class(), Class::Transient, "{error}");
    vm.start(id).await.expect("start");
    bed.booted(&spec, 1).await;

    for disk in &disks {
        assert_eq!(vm.attach_disk(id, disk).await.expect("plug"), Change::Made);
        assert_eq!(vm.attach_disk(id, disk).await.expect("plug again"), Change::AlreadySo);
    }
    let other = crate::vm::DomainDisk { source: disks[1].source.clone(), ..disks[0].clone() };
    assert!(matches!(vm.attach_disk(id, &other).await, Err(VmError::Conflict(_))));
    let seen = see(vm, id).await;
    assert_eq!(targets(&seen, &["root", "one", "two", "three"]), ["vda", "vdb", "vdc", "vdd"]);
    let one = seen.disk("one").expect("there");
    assert_eq!((one.source.as_deref(), one.read_only), (Some(disks[0].source.path()), false));
    assert!(vm.list().await.expect("list").contains(&seen), "a list shows them too");
    assert_eq!(seen.digest, Some(vm.digest(&spec)), "they are no part of the digest");

    // The middle one goes, and the others keep their names.
    unplug(vm, id, "two").await;
    assert_eq!(vm.detach_disk(id, "two").await.expect("again"), Unplugged::Gone);
    assert_eq!(vm.detach_disk(id, "never").await.expect("what is not there"), Unplugged::Gone);
    let seen = see(vm, id).await;
    assert_eq!(targets(&seen, &["one", "three"]), ["vdb", "vdd"]);
    assert!(seen.disk("two").is_none());

    let size = ByteSize::mib(48);
    assert_eq!(vm.resize_disk(id, "three", size).await.expect("grow"), Change::Made);
    assert_eq!(vm.resize_disk(id, "vdd", size).await.expect("grow by its target"), Change::AlreadySo);
    assert_eq!(vm.resize_disk(id, "root", size).await.expect("grow the root disk"), Change::Made);
    assert!(matches!(vm.resize_disk(id, "two", size).await, Err(VmError::NoDisk { .. })));
    assert!(matches!(vm.change_medium(id, None).await, Err(VmError::Unsupported(_))));

    // The definition has followed.
    vm.destroy(id).await.expect("destroy");
    let mut wanted = spec.clone();
    wanted.disks = vec![disks[0].clone(), disks[2].clone()];
    let seen = see(vm, id).await;
    assert!(seen.disk("two").is_none() && seen.disk("three").is_some(), "{seen:?}");
    vm.ensure_defined(&wanted).await.expect("define");
    assert_eq!(vm.ensure_defined(&wanted).await.expect("define"), Change::AlreadySo);
    assert_eq!(targets(&see(vm, id).await, &["one", "three"]), ["vdb", "vdc"], "a start closes the gap");
    wanted.disks.pop();
    assert_eq!(vm.ensure_defined(&wanted).await.expect("define with fewer"), Change::Made);
    assert!(see(vm, id).await.disk("three").is_none());
    assert!(matches!(vm.resize_disk(id, "one", size).await, Err(VmError::Failed { .. })));
    gone(vm, id).await;
}

pub(super) async fn a_medium_is_changed_under_a_running_guest(bed: &dyn Bed) {
    let (vm, mut spec) = (bed.driver(), bed.spec("drive").await);
    let id = spec.id;
    let medium = |n: u32| bed.iso(&spec, n);
    let (first, second) = (medium(1).await, medium(2).await);
    let digest = vm.digest(&spec);
    spec.cdrom = Some(Cdrom { medium: Some(first.clone()) });
    assert_eq!(vm.digest(&spec), digest, "a medium is no part of the digest");
    vm.ensure_defined(&spec).await.expect("define");
    vm.start(id).await.expect("start");
    let inside = async || see(vm, id).await.cdrom().expect("a drive").source.clone();
    assert_eq!(inside().await, Some(first));
    assert_eq!(vm.change_medium(id, Some(second.clone())).await.expect("change"), Change::Made);
    assert_eq!(vm.change_medium(id, Some(second.clone())).await.expect("again"), Change::AlreadySo);
    assert_eq!(inside().await, Some(second));
    assert_eq!(vm.change_medium(id, None).await.expect("eject"), Change::Made);
    assert_eq!(inside().await, None);
    vm.destroy(id).await.expect("destroy");
    gone(vm, id).await;
}

async fn unplug(vm: &dyn VmDriver, id: Uuid, serial: &str) {
    match vm.detach_disk(id, serial).await.expect("unplug") {
        Unplugged::Gone => {}
        Unplugged::Asked => drop(until(vm, id, RELEASE, |seen| seen.disk(serial).is_none()).await),
    }
}

fn targets(seen: &DomainSeen, serials: &[&str]) -> Vec<String> {
    serials.iter().map(|serial| seen.disk(serial).map(|d| d.target.clone()).unwrap_or_default()).collect()
}
