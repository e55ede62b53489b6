//! Guests under KVM, on a host where a guest really runs under it.

use std::time::Duration;

use agent_tests::host::{Agentd, guest};

fn run(agentd: &Agentd, name: &str, more: &[&str]) {
    let common = ["vm", "run", name, "--image", "micro", "--memory", "192MiB", "--timeout", "8m"];
    agentd.ok(&[&common, more].concat());
    guest::answers_within(agentd, name, Duration::from_secs(300));
    guest::runs_programs(agentd, name);
}

/// What the guest's processors can do.
fn flags(agentd: &Agentd, name: &str) -> Vec<String> {
    let cpuinfo = agentd.ok(&["vm", "exec", name, "--", "cat", "/proc/cpuinfo"]);
    let line = cpuinfo.lines().find(|line| line.starts_with("flags")).expect("flags");
    line.split_whitespace().map(ToOwned::to_owned).collect()
}

pub fn kvm_is_found_by_running_a_guest_and_used(agentd: &Agentd) {
    run(agentd, "plain", &[]);
    assert_eq!(agentd.vm("plain")["status"]["accel"], "kvm");
    let doctor = agentd.ctl(&["doctor"]).stdout;
    let line = doctor.lines().find(|line| line.contains("kvm")).unwrap_or_else(|| panic!("{doctor}"));
    assert!(line.starts_with("ok"), "{line}");
    // The guest's own kernel says what it runs on.
    let said = agentd.ok(&["vm", "exec", "plain", "--", "dmesg"]);
    assert!(said.contains("Hypervisor detected: KVM"), "{said}");
    assert!(!flags(agentd, "plain").contains(&"svm".to_owned()), "guests of its own only where asked for");
    agentd.ok(&["vm", "stop", "plain"]);
    run(agentd, "nested", &["--nested"]);
    let flags = flags(agentd, "nested");
    assert!(flags.contains(&"svm".to_owned()), "{flags:?}");
    agentd.ok(&["vm", "rm", "plain", "nested"]);
}
