//! The life of a VM, by what its guest shows.

use std::time::{Duration, Instant};

use agent_tests::host::{guest, traces, virsh, wait_until};
use agent_tests::host_test;

host_test!(vm_boots_answers_stops_cleanly_starts_again_and_goes_without_a_trace, |host| {
    let agentd = host.with_agentd();
    agentd.ok(&[
        "vm",
        "run",
        "web",
        "--image",
        "micro",
        "--memory",
        "192MiB",
        "--publish",
        "8080:80",
        "--label",
        "tier=front",
    ]);
    let vm = agentd.vm("web");
    assert_eq!(vm["status"]["state"], "running");
    assert!(matches!(vm["status"]["accel"].as_str(), Some("kvm" | "tcg")), "{}", vm["status"]);

    let page = guest::answers(&agentd, "web");
    assert!(page.contains("web"), "the guest knows its name: {page}");
    assert!(page.contains(&agentd.address("web")), "the guest has the address that the store says: {page}");

    // Its drivers load while it answers already.
    let devices = wait_until("the guest sees its devices", guest::BOOT, || {
        let text = guest::get(&agentd.address("web"), 80, "/cgi-bin/devices")?;
        let channels = ["org.qemu.guest_agent.0", "org.agentd.guest.0"];
        if channels.iter().all(|name| text.contains(name)) { Ok(text) } else { Err(text) }
    });
    assert!(devices.contains("rng: virtio_rng"), "no source of randomness: {devices}");
    assert!(devices.contains("random_bytes: 32\n"), "it gives nothing: {devices}");

    // Which program runs it, and how.
    let arguments = traces::processes("qemu-system-x86").join("\n");
    assert!(arguments.contains("sandbox"), "no seccomp sandbox: {arguments}");
    assert!(!arguments.contains("-vnc") && !arguments.contains("-spice"), "a port is open: {arguments}");

    agentd.ok(&["vm", "stop", "web"]);
    let vm = agentd.vm("web");
    assert_eq!(vm["status"]["state"], "stopped");
    assert_eq!(vm["status"]["last_stop"]["how"], "acpi", "{}", vm["status"]);
    let console = guest::console(&agentd, "web");
    assert!(console.contains("powering off cleanly"), "the guest powered itself off: {console}");

    let address = agentd.address("web");
    agentd.ok(&["vm", "start", "web"]);
    assert_eq!(agentd.address("web"), address, "an address is kept");
    let page = guest::answers(&agentd, "web");
    assert!(page.contains("boots: 2"), "its disk remembers the first boot: {page}");

    agentd.ok(&["vm", "restart", "web"]);
    let page = guest::answers(&agentd, "web");
    assert!(page.contains("boots: 3"), "{page}");

    agentd.ok(&["vm", "rm", "web"]);
    assert!(agentd.get("vm", "web").is_none());
    assert_eq!(traces::of_vms(&agentd), Vec::<String>::new());
    let listed = virsh(&["list", "--all"]).expect("virsh");
    assert!(!listed.contains("web"), "{listed}");
});

host_test!(vm_paused_is_silent_and_resumed_answers, |host| {
    let agentd = host.with_agentd();
    agentd.ok(&["vm", "run", "web", "--image", "micro", "--memory", "192MiB"]);
    guest::answers(&agentd, "web");
    agentd.ok(&["vm", "pause", "web"]);
    assert_eq!(agentd.vm("web")["status"]["state"], "paused");
    let address = agentd.address("web");
    assert!(guest::get(&address, 80, "/").is_err(), "a paused guest answered");
    agentd.ok(&["vm", "resume", "web"]);
    let page = guest::answers(&agentd, "web");
    assert!(page.contains("boots: 1"), "resumed and not started anew: {page}");
});

host_test!(vm_that_ignores_acpi_is_forced_off_once_its_grace_is_over, |host| {
    let agentd = host.with_agentd();
    let file = host.scratch().join("deaf.raw");
    std::fs::write(&file, guest::speaking_disk()).expect("a file");
    agentd.ok(&["image", "import", &file.to_string_lossy(), "--name", "deaf"]);
    agentd.ok(&["vm", "run", "deaf", "--image", "deaf", "--memory", "128MiB", "--grace", "3s"]);
    wait_until("the guest speaks", guest::BOOT, || {
        let console = guest::console(&agentd, "deaf");
        if console.contains("hello from a sector") { Ok(()) } else { Err(console) }
    });
    let from = Instant::now();
    agentd.ok(&["vm", "stop", "deaf", "--timeout", "60s"]);
    let vm = agentd.vm("deaf");
    assert_eq!(vm["status"]["state"], "stopped");
    assert_eq!(vm["status"]["last_stop"]["how"], "forced", "{}", vm["status"]);
    assert!(from.elapsed() >= Duration::from_secs(3), "it had its grace");
});

host_test!(vm_goes_on_while_agentd_is_away_and_is_adopted, |host| {
    let mut agentd = host.with_agentd();
    agentd.ok(&["vm", "run", "web", "--image", "micro", "--memory", "192MiB"]);
    guest::answers(&agentd, "web");
    let address = agentd.address("web");
    let took = agentd.stop();
    assert!(took < Duration::from_secs(2), "agentd took {took:?} to stop");
    guest::get(&address, 80, "/").expect("the guest goes on, and so does its network");
    agentd.start();
    let vm = agentd.wait_state("web", "running", Duration::from_secs(10));
    assert_eq!(vm["status"]["addresses"][0]["ip"], address);
    let page = guest::get(&address, 80, "/").expect("it was not touched");
    assert!(page.contains("boots: 1"), "{page}");
    agentd.kill();
    guest::get(&address, 80, "/").expect("the guest outlives a killed agentd");
    agentd.start();
    agentd.wait_state("web", "running", Duration::from_secs(10));
    agentd.ok(&["vm", "rm", "web"]);
    assert_eq!(traces::of_vms(&agentd), Vec::<String>::new());
});
