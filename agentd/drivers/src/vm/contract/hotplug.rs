//! What every driver must do to a guest that runs, and what it must refuse.

use std::time::Duration;

use agentd_api::{ByteSize, MacAddr};
use uuid::Uuid;

use super::{Bed, see, until};
use crate::fault::{Class, Classed};
use crate::vm::{Change, DomainNic, NicSeen, Power, VmError};

/// How long a guest may take to let go of something, on a busy host without KVM.
const LET_GO: Duration = Duration::from_secs(60);

const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0x77, 1]);
const OTHER: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0x77, 2]);

/// What cannot be changed where there is no guest.
pub(super) async fn nothing_of_what_does_not_run(bed: &dyn Bed) {
    let (vm, spec) = (bed.driver(), bed.spec("still").await);
    let (missing, nic) = (Uuid::now_v7(), nic(bed, MAC, 1).await);
    for answer in [
        vm.set_cpus(missing, 1).await,
        vm.set_memory(missing, ByteSize::mib(64)).await,
        vm.attach_nic(missing, &nic).await,
        vm.detach_nic(missing, MAC).await,
    ] {
        assert!(matches!(answer, Err(VmError::Missing(id)) if id == missing), "{answer:?}");
    }
    vm.ensure_defined(&spec).await.expect("define");
    for answer in [
        vm.set_cpus(spec.id, 1).await,
        vm.set_memory(spec.id, ByteSize::mib(64)).await,
        vm.attach_nic(spec.id, &nic).await,
        vm.detach_nic(spec.id, MAC).await,
    ] {
        assert!(matches!(answer, Err(VmError::Failed { .. })), "{answer:?}");
    }
    super::gone(vm, spec.id).await;
}

/// CPUs, memory and interfaces come and go, and the definition stays as it was made.
pub(super) async fn what_runs_is_changed(bed: &dyn Bed) {
    let (vm, spec) = (bed.driver(), bed.spec("changes").await);
    let id = spec.id;
    vm.ensure_defined(&spec).await.expect("define");
    vm.start(id).await.expect("start");
    bed.booted(&spec, 1).await;

    assert_eq!(vm.set_cpus(id, 1).await.expect("the same"), Change::AlreadySo);
    assert_eq!(vm.set_cpus(id, 2).await.expect("one more"), Change::Made);
    assert_eq!(vm.set_cpus(id, 2).await.expect("again"), Change::AlreadySo);
    assert_eq!(live(bed, id).await.cpus, 2);
    for none in [0, 3] {
        assert_eq!(vm.set_cpus(id, none).await.expect_err("refused").class(), Class::Permanent);
    }
    // Whether it gives its second CPU back is the guest's; what is seen is what it has.
    assert_eq!(vm.set_cpus(id, 1).await.expect("asked"), Change::Made);
    let has = live(bed, id).await.cpus;
    assert_eq!(vm.set_cpus(id, has).await.expect("as it is"), Change::AlreadySo);

    let memory = ByteSize(spec.memory.bytes() / 2);
    assert_eq!(vm.set_memory(id, spec.memory).await.expect("the same"), Change::AlreadySo);
    assert_eq!(vm.set_memory(id, memory).await.expect("half"), Change::Made);
    let double = ByteSize(spec.memory.bytes() * 2);
    assert_eq!(vm.set_memory(id, double).await.expect_err("refused").class(), Class::Permanent);
    // Whether its balloon obeys is the guest's.
    vm.set_memory(id, spec.memory).await.expect("all of it");

    interfaces(bed, id).await;
    let seen = see(vm, id).await;
    assert_eq!((seen.power, seen.digest), (Power::Running, Some(vm.digest(&spec))));
    vm.destroy(id).await.expect("destroy");
    super::gone(vm, id).await;
}

async fn interfaces(bed: &dyn Bed, id: Uuid) {
    let vm = bed.driver();
    let (first, second) = (nic(bed, MAC, 1).await, nic(bed, OTHER, 2).await);
    assert_eq!(vm.attach_nic(id, &first).await.expect("plug in"), Change::Made);
    assert_eq!(vm.attach_nic(id, &first).await.expect("again"), Change::AlreadySo);
    let elsewhere = DomainNic { bridge: "nowhere0".to_owned(), ..first.clone() };
    assert_eq!(vm.attach_nic(id, &elsewhere).await.expect_err("on another").class(), Class::Conflict);
    assert_eq!(vm.attach_nic(id, &second).await.expect("another"), Change::Made);
    let nics = live(bed, id).await.nics;
    let has =
        |nic: &DomainNic| nics.iter().any(|n| (n.mac, &n.bridge, &n.tap) == (nic.mac, &nic.bridge, &nic.tap));
    assert!(nics.len() == 2 && has(&first) && has(&second), "{nics:?}");

    vm.detach_nic(id, MAC).await.expect("asked");
    let without = |nics: &[NicSeen]| nics.iter().all(|nic| nic.mac != MAC);
    until(vm, id, LET_GO, |seen| seen.live.as_ref().is_some_and(|live| without(&live.nics))).await;
    assert_eq!(vm.detach_nic(id, MAC).await.expect("again"), Change::AlreadySo);
    let left: Vec<MacAddr> = live(bed, id).await.nics.iter().map(|nic| nic.mac).collect();
    assert_eq!(left, [OTHER], "the other stays");
}

async fn nic(bed: &dyn Bed, mac: MacAddr, n: usize) -> DomainNic {
    DomainNic { mac, bridge: bed.bridge().await, tap: format!("agtcontract-{n}") }
}

async fn live(bed: &dyn Bed, id: Uuid) -> crate::vm::LiveSeen {
    see(bed.driver(), id).await.live.expect("it runs")
}
