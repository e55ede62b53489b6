//! Looks do not wait for guests that are being started, and no more of those are started at once than is good.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use agentd_drivers::vm::contract::Bed;
use agentd_drivers::vm::{Change, Power, VmDriver};
use futures_util::future::join_all;
use nix::mount::{MsFlags, mount};

use crate::bed::LibvirtBed;
use crate::host::{self, Host, guest};
use crate::runtime;

const SLOW: usize = 5;
/// Far less than a start takes here.
const SOON: Duration = Duration::from_secs(2);

/// libvirt asks this script before each start, and waits for it: it takes 4 s for a guest called slow, and writes down
/// when it began and ended.
fn slow_down(host: &Host, note: &Path) {
    let hooks = host.folder("hooks");
    let script = hooks.join("qemu");
    let note = note.display();
    let text = format!(
        "#!/bin/sh\ncase \"$1 $2\" in\n*slow*' prepare') echo begin >>{note}; /bin/sleep 4; echo end >>{note} ;;\nesac\n"
    );
    fs::write(&script, text).expect("a script");
    fs::set_permissions(&script, Permissions::from_mode(0o755)).expect("a mode");
    mount(Some(&hooks), "/etc/libvirt/hooks", None::<&str>, MsFlags::MS_BIND, None::<&str>).expect("a mount");
}

#[test]
#[ignore = "needs the test host: run by tests/run"]
fn vm_a_look_does_not_wait_for_guests_that_are_started() {
    guest::ensure();
    host::inside("lanes::vm_a_look_does_not_wait_for_guests_that_are_started", |host| {
        let note = host.folder("note").join("starts");
        slow_down(host, &note);
        host.start_libvirt();
        let bed = LibvirtBed::new(host, "state");
        runtime().block_on(looks(&bed, &note));
    });
}

async fn looks(bed: &LibvirtBed, note: &Path) {
    let other = bed.running("other").await.id;
    let mut ids = Vec::new();
    for n in 0..SLOW {
        let spec = bed.spec(&format!("slow-{n}")).await;
        bed.vm.ensure_defined(&spec).await.expect("define");
        ids.push(spec.id);
    }
    let vm = bed.vm.clone();
    let starts = tokio::spawn(async move { join_all(ids.iter().map(|id| vm.start(*id))).await });
    let said = || fs::read_to_string(note).unwrap_or_default();
    host::wait_until("the first is started", Duration::from_secs(20), || {
        if said().contains("begin") { Ok(()) } else { Err("no start yet".to_owned()) }
    });
    let mut looks = 0;
    while !starts.is_finished() {
        let began = Instant::now();
        let seen = bed.vm.observe(other).await.expect("observe").expect("there");
        assert_eq!(seen.power, Power::Running);
        assert!(began.elapsed() < SOON, "{:?} for a look, {looks} before it:\n{}", began.elapsed(), said());
        looks += 1;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for start in starts.await.expect("all were started") {
        assert_eq!(start.expect("start"), Change::Made);
    }
    assert!(looks > 20, "only {looks} looks while {SLOW} guests were started");
    let (mut now, mut most) = (0_usize, 0);
    for line in said().lines() {
        now = if line == "begin" { now + 1 } else { now - 1 };
        most = most.max(now);
    }
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    assert!((1..=processors).contains(&most), "{most} at once on {processors} processors");
}
