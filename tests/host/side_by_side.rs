//! Two daemons on one host.

use agent_tests::host::{guest, traces, virsh};
use agent_tests::host_test;

host_test!(vm_of_two_daemons_do_not_meet, |host| {
    host.start_libvirt();
    // Both begin with the same state, network and all; the second gives its network up and makes one when it starts
    // beside the first.
    let mut two = host.agentd("two");
    two.ok(&["delete", "network/default"]);
    two.stop();
    let one = host.agentd("one");
    one.wait_ready();
    two.start();
    for agentd in [&one, &two] {
        agentd.ok(&["vm", "run", "web", "--image", "micro", "--memory", "128MiB"]);
    }
    assert_ne!(one.address("web"), two.address("web"), "the second daemon chose another network");
    guest::answers(&one, "web");
    guest::answers(&two, "web");
    let domains = virsh(&["list", "--name"]).expect("virsh");
    assert_eq!(domains.split_whitespace().count(), 2, "{domains}");

    one.ok(&["vm", "rm", "web"]);
    assert_eq!(traces::of_vms(&one).iter().filter(|t| t.starts_with("folder")).count(), 0);
    let domains = virsh(&["list", "--name"]).expect("virsh");
    assert_eq!(domains.split_whitespace().count(), 1, "{domains}");
    guest::get(&two.address("web"), 80, "/").expect("the other daemon's guest goes on");
    two.ok(&["vm", "rm", "web"]);
    assert_eq!(traces::of_vms(&two), Vec::<String>::new());
});

host_test!(vm_foreign_domain_is_never_touched, |host| {
    let mut agentd = host.with_agentd();
    let file = host.scratch().join("foreign.xml");
    let xml = "<domain type='qemu'><name>agentd-web</name><memory>65536</memory><vcpu>1</vcpu>\
               <os><type machine='q35'>hvm</type></os><features><acpi/></features></domain>";
    std::fs::write(&file, xml).expect("a file");
    virsh(&["define", &file.to_string_lossy()]).expect("a domain of somebody else");
    virsh(&["start", "agentd-web"]).expect("it starts");
    agentd.ok(&["vm", "run", "web", "--image", "micro", "--memory", "128MiB"]);
    agentd.kill();
    agentd.start();
    agentd.ok(&["vm", "rm", "web"]);
    let running = virsh(&["list", "--name"]).expect("virsh");
    assert_eq!(running.trim(), "agentd-web");
});
