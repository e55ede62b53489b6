//! What every driver of VMs must do, as one suite: run against the fake beside the unit tests, and against libvirt with
//! real guests in `tests/vm_host.rs`.
//!
//! A driver is put on a [`Bed`], which knows how to make a domain that boots and how to do things behind its back. A
//! breach panics and names what was seen.

mod console;
pub mod guest;
mod hotplug;
mod snapshot;
mod stats;
mod tuning;

mod disks;

use std::path::PathBuf;
use std::pin::Pin;
use std::time::{Duration, Instant};

use agentd_api::ByteSize;
use agentd_api::vm::WatchdogAction;
use async_trait::async_trait;
use tokio::sync::broadcast;
use uuid::Uuid;

use super::{
    Change, DomainDisk, DomainEvent, DomainSeen, DomainSpec, HardwareSeen, OffReason, Power, VmDriver,
    VmError,
};
use crate::fault::{Class, Classed};

/// How soon a change that somebody else made must be told.
const EVENT_LIMIT: Duration = Duration::from_secs(2);
/// For a guest that is asked to power off, under emulation on a busy host.
const POWER_OFF_LIMIT: Duration = Duration::from_secs(60);

#[async_trait]
pub trait Bed: Send + Sync {
    fn driver(&self) -> &dyn VmDriver;
    /// A new domain of that name, with its disk made, whose guest obeys ACPI.
    async fn spec(&self, name: &str) -> DomainSpec;
    /// Waits until the guest, started the `time`-th time, would obey ACPI.
    async fn booted(&self, spec: &DomainSpec, time: usize);
    /// A new qcow2 of 16 MiB beside the domain's own disk, as large as that.
    async fn disk(&self, spec: &DomainSpec, serial: &str) -> DomainDisk;
    /// The n-th ISO beside it.
    async fn iso(&self, spec: &DomainSpec, number: u32) -> PathBuf;
    /// Writes that byte all over the beginning of the domain's own disk, while it is off.
    async fn write_disk(&self, spec: &DomainSpec, byte: u8);
    /// Panics where something else is there.
    async fn disk_holds(&self, spec: &DomainSpec, byte: u8);
    /// Panics where its guest has booted more often.
    async fn booted_only(&self, spec: &DomainSpec, times: usize);
    /// A bridge that interfaces can be plugged into.
    async fn bridge(&self) -> String;
    async fn destroy_behind(&self, id: Uuid);
    async fn undefine_behind(&self, id: Uuid);
    /// Ends the guest's emulator by SIGKILL.
    async fn crash_behind(&self, id: Uuid);
}

/// The whole suite, with what each part took on stdout.
pub async fn hold(bed: &dyn Bed) {
    type Part<'a> = (&'static str, Pin<Box<dyn Future<Output = ()> + Send + 'a>>);
    let parts: Vec<Part<'_>> = vec![
        ("nothing is there at first", Box::pin(nothing_is_there_at_first(bed))),
        ("a definition", Box::pin(a_definition_is_made_once_and_again_when_it_differs(bed))),
        ("a guest runs", Box::pin(a_guest_runs_pauses_and_is_cut_off(bed))),
        ("the power button", Box::pin(a_guest_obeys_the_power_button(bed))),
        ("power cut behind our back", Box::pin(power_cut_behind_our_back_is_told(bed))),
        ("undefined behind our back", Box::pin(a_definition_taken_behind_our_back_is_told_and_mended(bed))),
        ("no agent in the guest", Box::pin(guest::without_an_agent(bed))),
        ("limits", Box::pin(tuning::limits_are_given_at_the_start_and_while_it_runs(bed))),
        ("figures", Box::pin(stats::figures_are_of_what_runs(bed))),
        ("disks", Box::pin(disks::they_come_and_go_under_a_running_guest(bed))),
        ("a medium", Box::pin(disks::a_medium_is_changed_under_a_running_guest(bed))),
        ("consoles and screens", Box::pin(console::consoles_and_screens(bed))),
        ("snapshots", Box::pin(snapshot::disks_go_back_and_snapshots_go_in_any_order(bed))),
        ("memory on disk", Box::pin(snapshot::a_guest_goes_on_from_its_memory(bed))),
        ("nothing changes what is off", Box::pin(hotplug::nothing_of_what_does_not_run(bed))),
        ("changed while it runs", Box::pin(hotplug::what_runs_is_changed(bed))),
        ("a crash", Box::pin(a_crash_is_told_from_a_shutdown(bed))),
    ];
    for (name, part) in parts {
        let began = Instant::now();
        part.await;
        println!("{name}: held, in {:.1} s", began.elapsed().as_secs_f64());
    }
}

async fn nothing_is_there_at_first(bed: &dyn Bed) {
    let (vm, id) = (bed.driver(), Uuid::now_v7());
    assert_eq!(vm.observe(id).await.expect("observe"), None);
    assert!(vm.list().await.expect("list").iter().all(|seen| seen.id != id));
    for answer in [vm.start(id).await, vm.shutdown(id).await, vm.pause(id).await, vm.resume(id).await] {
        assert!(matches!(answer, Err(VmError::Missing(missing)) if missing == id), "{answer:?}");
    }
    assert_eq!(vm.destroy(id).await.expect("destroy"), Change::AlreadySo);
    assert_eq!(vm.undefine(id).await.expect("undefine"), Change::AlreadySo);
    assert!(!vm.probe().await.expect("probe").version.is_empty());
}

async fn a_definition_is_made_once_and_again_when_it_differs(bed: &dyn Bed) {
    let (vm, mut spec) = (bed.driver(), bed.spec("defined").await);
    assert_eq!(vm.ensure_defined(&spec).await.expect("define"), Change::Made);
    assert_eq!(vm.ensure_defined(&spec).await.expect("define"), Change::AlreadySo);
    let expected = DomainSeen {
        id: spec.id,
        power: Power::Off,
        off: Some(OffReason::Unknown),
        persistent: true,
        digest: Some(vm.digest(&spec)),
        accel: Some(spec.accel),
        live: None,
        disks: see(vm, spec.id).await.disks,
    };
    assert_eq!(expected.disk("root").map(|d| d.target.as_str()), Some("vda"), "{expected:?}");
    assert_eq!(vm.observe(spec.id).await.expect("observe"), Some(expected.clone()));
    assert!(vm.list().await.expect("list").contains(&expected));

    let before = vm.digest(&spec);
    spec.memory = ByteSize(spec.memory.bytes() * 2);
    assert_ne!(vm.digest(&spec), before);
    assert_eq!(vm.ensure_defined(&spec).await.expect("define anew"), Change::Made);
    assert_eq!(see(vm, spec.id).await.digest, Some(vm.digest(&spec)));
    assert_eq!(vm.ensure_defined(&spec).await.expect("define anew"), Change::AlreadySo);
    gone(vm, spec.id).await;
}

async fn a_guest_runs_pauses_and_is_cut_off(bed: &dyn Bed) {
    let (vm, mut spec) = (bed.driver(), bed.spec("runs").await);
    let id = spec.id;
    spec.hardware.watchdog = Some(WatchdogAction::Record);
    vm.ensure_defined(&spec).await.expect("define");
    for answer in [vm.pause(id).await, vm.resume(id).await] {
        let error = answer.expect_err("a guest that is off can be neither paused nor resumed");
        assert_eq!(error.class(), Class::Transient, "{error}");
    }
    assert_eq!(vm.start(id).await.expect("start"), Change::Made);
    assert_eq!(vm.start(id).await.expect("start"), Change::AlreadySo);
    let seen = see(vm, id).await;
    assert_eq!((seen.power, seen.off, seen.persistent), (Power::Running, None, true));
    let live = seen.live.expect("what runs is seen");
    assert_eq!((live.cpus, live.cpus_max), (spec.cpus, spec.cpus_max));
    assert_eq!((live.memory, live.memory_max), (spec.memory, spec.memory_max));
    let fixed = Some(vm.fixed_digest(&spec));
    assert_eq!(live.fixed, fixed);
    let hardware = HardwareSeen { watchdog: spec.hardware.watchdog, ..HardwareSeen::default() };
    assert_eq!(live.hardware, hardware);

    let error = vm.undefine(id).await.expect_err("a running guest is not undefined");
    assert_eq!(error.class(), Class::Transient, "{error}");
    assert_eq!(see(vm, id).await.power, Power::Running);

    assert_eq!(vm.pause(id).await.expect("pause"), Change::Made);
    assert_eq!(vm.pause(id).await.expect("pause"), Change::AlreadySo);
    assert_eq!(see(vm, id).await.power, Power::Paused);
    assert_eq!(vm.start(id).await.expect("start a paused guest"), Change::AlreadySo);
    assert_eq!(vm.resume(id).await.expect("resume"), Change::Made);
    assert_eq!(vm.resume(id).await.expect("resume"), Change::AlreadySo);

    // A definition made anew leaves the guest as it is.
    spec.memory = ByteSize(spec.memory.bytes() * 2);
    assert_eq!(vm.ensure_defined(&spec).await.expect("define anew"), Change::Made);
    let seen = see(vm, id).await;
    assert_eq!((seen.power, seen.digest), (Power::Running, Some(vm.digest(&spec))));
    assert_eq!(seen.live.expect("it runs").fixed, fixed, "it was started by what is as good as this");

    assert_eq!(vm.destroy(id).await.expect("destroy"), Change::Made);
    assert_eq!(vm.destroy(id).await.expect("destroy"), Change::AlreadySo);
    let seen = see(vm, id).await;
    assert_eq!((seen.power, seen.off), (Power::Off, Some(OffReason::Destroyed)));
    gone(vm, id).await;
}

async fn a_guest_obeys_the_power_button(bed: &dyn Bed) {
    let (vm, spec) = (bed.driver(), bed.spec("obeys").await);
    let id = spec.id;
    vm.ensure_defined(&spec).await.expect("define");
    assert_eq!(vm.shutdown(id).await.expect("shutdown of what is off"), Change::AlreadySo);
    for time in 1..=2 {
        assert_eq!(vm.start(id).await.expect("start"), Change::Made);
        bed.booted(&spec, time).await;
        assert_eq!(vm.shutdown(id).await.expect("shutdown"), Change::Made);
        let seen = until(vm, id, POWER_OFF_LIMIT, |seen| seen.power == Power::Off).await;
        assert_eq!(seen.off, Some(OffReason::Shutdown));
    }
    gone(vm, id).await;
}

async fn power_cut_behind_our_back_is_told(bed: &dyn Bed) {
    let (vm, spec) = (bed.driver(), bed.spec("cut").await);
    vm.ensure_defined(&spec).await.expect("define");
    vm.start(spec.id).await.expect("start");
    let mut events = vm.events();
    bed.destroy_behind(spec.id).await;
    told(&mut events, spec.id).await;
    let seen = until(vm, spec.id, EVENT_LIMIT, |seen| seen.power == Power::Off).await;
    assert_eq!(seen.off, Some(OffReason::Destroyed));
    assert_eq!(vm.start(spec.id).await.expect("start again"), Change::Made);
    vm.destroy(spec.id).await.expect("destroy");
    gone(vm, spec.id).await;
}

async fn a_definition_taken_behind_our_back_is_told_and_mended(bed: &dyn Bed) {
    let (vm, spec) = (bed.driver(), bed.spec("undefined").await);
    let id = spec.id;
    vm.ensure_defined(&spec).await.expect("define");
    vm.start(id).await.expect("start");
    let mut events = vm.events();
    bed.undefine_behind(id).await;
    told(&mut events, id).await;
    let seen = until(vm, id, EVENT_LIMIT, |seen| !seen.persistent).await;
    assert_eq!(seen.power, Power::Running);
    assert!(vm.list().await.expect("list").contains(&seen), "a guest that only runs is listed");
    assert_eq!(vm.ensure_defined(&spec).await.expect("define again"), Change::Made);
    let seen = see(vm, id).await;
    assert_eq!((seen.power, seen.persistent), (Power::Running, true));

    bed.undefine_behind(id).await;
    until(vm, id, EVENT_LIMIT, |seen| !seen.persistent).await;
    assert_eq!(vm.destroy(id).await.expect("destroy what only runs"), Change::Made);
    assert_eq!(vm.observe(id).await.expect("observe"), None);
}

async fn a_crash_is_told_from_a_shutdown(bed: &dyn Bed) {
    let (vm, spec) = (bed.driver(), bed.spec("crashes").await);
    vm.ensure_defined(&spec).await.expect("define");
    vm.start(spec.id).await.expect("start");
    let mut events = vm.events();
    bed.crash_behind(spec.id).await;
    told(&mut events, spec.id).await;
    let seen = until(vm, spec.id, EVENT_LIMIT, |seen| seen.power == Power::Off).await;
    assert_eq!(seen.off, Some(OffReason::Crashed));
    gone(vm, spec.id).await;
}

async fn see(vm: &dyn VmDriver, id: Uuid) -> DomainSeen {
    vm.observe(id).await.expect("observe").expect("the domain is there")
}

async fn gone(vm: &dyn VmDriver, id: Uuid) {
    assert_eq!(vm.undefine(id).await.expect("undefine"), Change::Made);
    assert_eq!(vm.undefine(id).await.expect("undefine"), Change::AlreadySo);
    assert_eq!(vm.observe(id).await.expect("observe"), None);
}

/// Looks until the domain is `as_wanted`, or panics with what was seen last.
pub async fn until(
    vm: &dyn VmDriver,
    id: Uuid,
    limit: Duration,
    as_wanted: impl Fn(&DomainSeen) -> bool,
) -> DomainSeen {
    let began = Instant::now();
    loop {
        let seen = vm.observe(id).await.expect("observe");
        match seen {
            Some(seen) if as_wanted(&seen) => return seen,
            other => assert!(began.elapsed() < limit, "after {limit:?} it is still {other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits for an event of that domain.
pub async fn told(events: &mut broadcast::Receiver<DomainEvent>, id: Uuid) {
    let wait = async { while events.recv().await.expect("the driver lives").id != Some(id) {} };
    let waited = tokio::time::timeout(EVENT_LIMIT, wait).await;
    assert!(waited.is_ok(), "no event of {id} within {EVENT_LIMIT:?}");
}
