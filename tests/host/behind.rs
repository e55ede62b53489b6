//! What somebody does behind agentd's back.

use std::time::{Duration, Instant};

use agent_tests::host::{guest, lacks, traces, virsh, wait_until};
use agent_tests::host_test;

const SEEN: Duration = Duration::from_secs(2);

fn domain() -> String {
    virsh(&["list", "--all", "--name"]).expect("virsh").trim().to_owned()
}

host_test!(vm_destroyed_by_hand_is_seen_and_started_when_asked, |host| {
    let agentd = host.with_agentd();
    agentd.ok(&["vm", "run", "web", "--image", "micro", "--memory", "192MiB"]);
    guest::answers(&agentd, "web");
    let from = Instant::now();
    virsh(&["destroy", &domain()]).expect("virsh destroy");
    let vm = agentd.wait_state("web", "stopped", SEEN);
    println!("seen after {:?}", from.elapsed());
    assert_eq!(vm["status"]["last_stop"]["how"], "destroyed", "{}", vm["status"]);
    assert!(vm["status"]["reason"].as_str().is_some_and(|r| !r.is_empty()), "{}", vm["status"]);
    agentd.ok(&["vm", "start", "web"]);
    guest::answers(&agentd, "web");
});

host_test!(vm_with_a_restart_policy_is_started_again, |host| {
    let agentd = host.with_agentd();
    agentd.ok(&["vm", "run", "web", "--image", "micro", "--memory", "192MiB", "--restart", "on-failure"]);
    guest::answers(&agentd, "web");
    virsh(&["destroy", &domain()]).expect("virsh destroy");
    wait_until("it is started again", Duration::from_secs(60), || {
        let page = guest::get(&agentd.address("web"), 80, "/")?;
        if page.contains("boots: 2") { Ok(()) } else { Err(page) }
    });
});

host_test!(vm_undefined_by_hand_is_defined_again, |host| {
    let agentd = host.with_agentd();
    agentd.ok(&["vm", "run", "web", "--image", "micro", "--memory", "192MiB"]);
    guest::answers(&agentd, "web");
    virsh(&["undefine", &domain()]).expect("virsh undefine");
    wait_until("the running domain is defined again", SEEN, || {
        let persistent = virsh(&["list", "--persistent", "--name"])?;
        if persistent.trim().is_empty() { Err(persistent) } else { Ok(()) }
    });
    let page = guest::get(&agentd.address("web"), 80, "/").expect("the guest went on");
    assert!(page.contains("boots: 1"), "{page}");

    agentd.ok(&["vm", "stop", "web"]);
    virsh(&["undefine", &domain()]).expect("virsh undefine");
    wait_until("the stopped domain is defined again", SEEN, || {
        let all = virsh(&["list", "--all", "--name"])?;
        if all.trim().is_empty() { Err(all) } else { Ok(()) }
    });
    agentd.ok(&["vm", "start", "web"]);
    guest::answers(&agentd, "web");
    agentd.ok(&["vm", "rm", "web"]);
    assert_eq!(traces::of_vms(&agentd), Vec::<String>::new());
});

host_test!(vm_goes_on_while_libvirtd_is_away, |host| {
    let mut agentd = host.with_agentd();
    agentd.ok(&["vm", "run", "web", "--image", "micro", "--memory", "192MiB"]);
    guest::answers(&agentd, "web");
    host.stop_libvirt();
    wait_until("the VM says that libvirt is away", Duration::from_secs(30), || {
        let vm = agentd.vm("web");
        if lacks(&vm, "backend_available") { Ok(()) } else { Err(vm["status"].to_string()) }
    });
    guest::get(&agentd.address("web"), 80, "/").expect("the guest goes on");
    // What is asked for meanwhile is written down and done later.
    agentd.ok(&["vm", "stop", "web", "--no-wait"]);
    agentd.kill();
    agentd.start();
    host.start_libvirt();
    let vm = agentd.wait_state("web", "stopped", Duration::from_secs(60));
    assert_eq!(vm["status"]["last_stop"]["how"], "acpi", "{}", vm["status"]);
    agentd.ok(&["vm", "start", "web"]);
    guest::answers(&agentd, "web");
});

host_test!(vm_whose_emulator_dies_is_seen, |host| {
    let agentd = host.with_agentd();
    agentd.ok(&["vm", "run", "web", "--image", "micro", "--memory", "192MiB"]);
    guest::answers(&agentd, "web");
    let qemu = traces::processes("qemu-system-x86");
    let pid = qemu[0].split(' ').next().expect("a pid");
    agent_tests::host::namespace::run("/bin/kill", &["-KILL", pid]).expect("kill");
    let vm = agentd.wait_state("web", "stopped", SEEN);
    assert_eq!(vm["status"]["last_stop"]["how"], "crashed", "{}", vm["status"]);
});
