//! A host on which nothing is installed: agentd serves, says what is missing and what mends it.

use std::time::Duration;

use agent_tests::host::{lacks, namespace, wait_until};
use agent_tests::host_test;

const PROGRAMS: [&str; 12] = [
    "/usr/bin/qemu-img",
    "/usr/bin/qemu-system-x86_64",
    "/usr/sbin/dnsmasq",
    "/usr/sbin/nft",
    "/usr/bin/mmdebstrap",
    "/usr/bin/curl",
    "/sbin/mkfs.ext4",
    "/usr/sbin/mkfs.ext4",
    "/usr/sbin/libvirtd",
    "/usr/bin/busybox",
    "/bin/busybox",
    "/usr/bin/virsh",
];
/// Not there either where libvirt is not installed.
const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/libvirt.so.0";

host_test!(netns_bare_host_is_told_what_is_missing, |host| {
    namespace::hide(&PROGRAMS).expect("hidden programs");
    namespace::hide(&[LIBRARY]).expect("a hidden library");
    let agentd = host.agentd("state");
    let answer = agentd.ctl(&["doctor"]);
    assert_eq!(answer.status, 1, "{answer:?}");
    let said = format!("{}{}", answer.stdout, answer.stderr);
    for (what, mended_by) in [
        ("libvirt", "libvirt-daemon-system"),
        ("qemu-img", "qemu-utils"),
        ("qemu-system-x86_64", "qemu-system-x86"),
        ("dnsmasq", "dnsmasq-base"),
        ("nft", "nftables"),
        ("mmdebstrap", "mmdebstrap"),
        ("curl", "curl"),
    ] {
        assert!(said.contains(what) && said.contains(mended_by), "{what} / {mended_by} in:\n{said}");
    }
    assert!(said.contains("apt-get install"), "{said}");

    agentd.ok(&["vm", "run", "web", "--image", "micro", "--no-wait"]);
    let reason = wait_until("the VM says what it lacks", Duration::from_secs(20), || {
        let vm = agentd.vm("web");
        match vm["status"]["reason"].as_str() {
            Some(reason) if !reason.is_empty() && vm["status"]["state"] != "running" => Ok(reason.to_owned()),
            _ => Err(vm["status"].to_string()),
        }
    });
    assert!(reason.contains("libvirt.so.0"), "{reason}");
    let away = |vm: &serde_json::Value| lacks(vm, "backend_available");
    wait_until("libvirt's absence is a condition of the VM", Duration::from_secs(20), || {
        let vm = agentd.vm("web");
        if away(&vm) { Ok(()) } else { Err(vm["status"].to_string()) }
    });
    agentd.ok(&["vm", "list"]);
    agentd.ok(&["vm", "rm", "web", "--no-wait"]);

    // Installed while agentd runs, it is found.
    namespace::show(&PROGRAMS).expect("programs");
    namespace::show(&[LIBRARY]).expect("a library");
    host.start_libvirt();
    wait_until("agentd has found libvirt", Duration::from_secs(30), || {
        let doctor = agentd.ctl(&["doctor"]).stdout;
        let line = doctor.lines().find(|line| line.contains("libvirt ")).map(str::to_owned);
        line.filter(|line| line.starts_with("ok")).ok_or(doctor)
    });
});
