//! libvirt goes away, hangs, comes back; this process is killed. Guests go on through all of it.

use std::path::Path;
use std::time::{Duration, Instant};

use agentd_drivers::vm::contract::{self, Bed};
use agentd_drivers::vm::{Change, Power, VmDriver, VmError};
use nix::sys::signal::Signal;
use tokio::sync::broadcast;
use uuid::Uuid;

use crate::bed::LibvirtBed;
use crate::host::{self, guest};
use crate::runtime;

async fn reconnected(events: &mut broadcast::Receiver<agentd_drivers::vm::DomainEvent>) {
    let wait = async { while events.recv().await.expect("the driver lives").id.is_some() {} };
    let waited = tokio::time::timeout(Duration::from_secs(20), wait).await;
    assert!(waited.is_ok(), "nothing was told of the reconnect");
}

#[test]
#[ignore = "needs the test host: run by tests/run"]
fn vm_libvirt_comes_late_goes_and_comes_back() {
    guest::ensure();
    host::inside("outage::vm_libvirt_comes_late_goes_and_comes_back", |host| {
        let bed = LibvirtBed::new(host, "state");
        let runtime = runtime();
        let mut events = bed.vm.events();
        let error = runtime.block_on(bed.vm.list()).expect_err("no libvirt yet");
        assert!(matches!(error, VmError::Unavailable { .. }), "{error}");
        host.start_libvirt();
        runtime.block_on(reconnected(&mut events));
        let spec = runtime.block_on(bed.running("stays"));
        let emulator = bed.emulator(&spec);

        host.stop_libvirt();
        let error = runtime.block_on(bed.vm.observe(spec.id)).expect_err("libvirt is gone");
        assert!(matches!(error, VmError::Unavailable { .. }), "{error}");
        let mut events = bed.vm.events();
        host.start_libvirt();
        runtime.block_on(async {
            reconnected(&mut events).await;
            let seen = bed.vm.observe(spec.id).await.expect("observe").expect("there");
            assert_eq!((seen.power, seen.persistent), (Power::Running, true));
            assert_eq!(seen.digest, Some(bed.vm.digest(&spec)));
            assert_eq!(bed.emulator(&spec), emulator, "the guest was started anew");
            assert_eq!(bed.vm.ensure_defined(&spec).await.expect("define"), Change::AlreadySo);
            // Events were asked for anew.
            let mut events = bed.vm.events();
            bed.destroy_behind(spec.id).await;
            contract::told(&mut events, spec.id).await;
        });
    });
}

#[test]
#[ignore = "needs the test host: run by tests/run"]
fn vm_a_libvirt_that_hangs_holds_nobody_for_ever() {
    guest::ensure();
    host::inside("outage::vm_a_libvirt_that_hangs_holds_nobody_for_ever", |host| {
        host.start_libvirt();
        let bed = LibvirtBed::new(host, "state");
        runtime().block_on(async {
            let spec = bed.running("outlives").await;
            host::signal(host.libvirtd(), Signal::SIGSTOP);
            let began = Instant::now();
            // More at once than there are threads.
            let answers = futures_util::future::join_all((0..20).map(|_| bed.vm.observe(spec.id))).await;
            assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
            for answer in answers {
                let error = answer.expect_err("libvirt hangs");
                assert!(matches!(error, VmError::Deadline { .. } | VmError::Unavailable { .. }), "{error}");
            }
            // Its silence is found out, and its coming back too.
            let mut events = bed.vm.events();
            tokio::time::sleep(Duration::from_secs(20).saturating_sub(began.elapsed())).await;
            let asked = Instant::now();
            assert!(bed.vm.observe(spec.id).await.is_err());
            assert!(asked.elapsed() < Duration::from_secs(1), "the dead connection is still waited on");
            host::signal(host.libvirtd(), Signal::SIGCONT);
            reconnected(&mut events).await;
            let seen = bed.vm.observe(spec.id).await.expect("observe").expect("there");
            assert_eq!(seen.power, Power::Running);
            bed.vm.destroy(spec.id).await.expect("destroy");
        });
    });
}

#[test]
#[ignore = "needs the test host: run by tests/run"]
fn vm_guests_outlive_the_process_that_started_them() {
    const TEST: &str = "outage::vm_guests_outlive_the_process_that_started_them";
    guest::ensure();
    host::inside(TEST, |host| {
        let note = host.folder("note").join("id");
        if host::is_victim() {
            start_and_wait_for_the_end(host, &note);
        }
        host.start_libvirt();
        let mut victim = host.victim(TEST);
        let text = host::wait_until("the victim's guest is up", Duration::from_secs(120), || {
            std::fs::read_to_string(&note).map_err(|error| error.to_string())
        });
        let id: Uuid = text.trim().parse().expect("an id");
        host::signal(victim.id(), Signal::SIGKILL);
        victim.wait().expect("the victim ended");

        let bed = LibvirtBed::new(host, "state");
        runtime().block_on(async {
            let seen = bed.vm.list().await.expect("list");
            assert_eq!((seen.len(), seen[0].id, seen[0].power), (1, id, Power::Running));
            // It still does what it is told: it was not only left over.
            bed.vm.shutdown(id).await.expect("shutdown");
            let limit = Duration::from_secs(60);
            contract::until(&*bed.vm, id, limit, |seen| seen.power == Power::Off).await;
        });
    });
}

fn start_and_wait_for_the_end(host: &host::Host, note: &Path) -> ! {
    let bed = LibvirtBed::new(host, "state");
    let spec = runtime().block_on(bed.running("orphan"));
    let new = note.with_extension("new");
    std::fs::write(&new, spec.id.to_string()).expect("a note");
    std::fs::rename(&new, note).expect("a note");
    loop {
        std::thread::park();
    }
}
