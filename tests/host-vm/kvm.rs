//! Guests under KVM, on a host where a guest really runs under it.

use agent_tests::host::Agentd;

/// What the guest's processors can do.
fn flags(agentd: &Agentd, name: &str) -> Vec<String> {
    let cpuinfo = agentd.ok(&["vm", "exec", name, "--", "cat", "/proc/cpuinfo"]);
    let line = cpuinfo.lines().find(|line| line.starts_with("flags")).expect("flags");
    line.split_whitespace().map(ToOwned::to_owned).collect()
}

/// By a guest that runs, and has no guests of its own.
pub fn kvm_is_found_by_running_a_guest_and_used(agentd: &Agentd, plain: &str) {
    assert_eq!(agentd.vm(plain)["status"]["accel"], "kvm");
    let doctor = agentd.ctl(&["doctor"]).stdout;
    let line = doctor.lines().find(|line| line.contains("kvm")).unwrap_or_else(|| panic!("{doctor}"));
    assert!(line.starts_with("ok"), "{line}");
    // The guest's own kernel says what it runs on.
    let said = agentd.ok(&["vm", "exec", plain, "--", "dmesg"]);
    assert!(said.contains("Hypervisor detected: KVM"), "{said}");
    assert!(!flags(agentd, plain).contains(&"svm".to_owned()), "guests of its own only where asked for");
}

/// By a guest that was asked for with `--nested`.
pub fn guests_of_its_own_are_for_who_asked(agentd: &Agentd, nested: &str) {
    let flags = flags(agentd, nested);
    assert!(flags.contains(&"svm".to_owned()), "{flags:?}");
}
