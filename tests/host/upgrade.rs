//! One agentd in the place of another, as an upgrade of the package does it, while guests run and callers ask.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use agent_tests::host::{guest, traces};
use agent_tests::host_test;

/// For how long nobody may have to wait.
const GAP: Duration = Duration::from_secs(1);
const UPGRADES: usize = 5;

host_test!(vm_guests_and_callers_notice_no_upgrade, |host| {
    host.start_libvirt();
    let mut agentd = host.activated_agentd("state");
    agentd.ok(&["vm", "run", "web", "--image", "micro", "--memory", "192MiB"]);
    guest::answers(&agentd, "web");
    let emulators = traces::processes("qemu-system-x86");
    assert_eq!(emulators.len(), 1, "{emulators:?}");

    let done = Arc::new(AtomicBool::new(false));
    let asker = std::thread::spawn({
        let (done, mut list) = (done.clone(), agentd.command(&["get", "vm", "-o", "name"]));
        move || {
            let (mut asked, mut longest) = (0, Duration::ZERO);
            while !done.load(Ordering::Relaxed) {
                let from = Instant::now();
                let answer = list.output().expect("agentctl runs");
                longest = longest.max(from.elapsed());
                assert_eq!(String::from_utf8_lossy(&answer.stdout), "vm/web\n", "{answer:?}");
                asked += 1;
            }
            (asked, longest)
        }
    });
    for _ in 0..UPGRADES {
        agentd.stop();
        agentd.start();
        std::thread::sleep(Duration::from_millis(300));
    }
    done.store(true, Ordering::Relaxed);
    let (asked, longest) = asker.join().expect("nobody was refused");
    println!("{asked} asked while it was exchanged {UPGRADES} times; the longest waited {longest:?}");
    assert!(asked >= UPGRADES && longest < GAP, "{longest:?}");
    assert_eq!(traces::processes("qemu-system-x86"), emulators, "the same guest runs");
    let page = guest::answers(&agentd, "web");
    assert!(page.contains("boots: 1\n"), "it was not booted again: {page}");
    agentd.ok(&["delete", "vm/web"]);
});
