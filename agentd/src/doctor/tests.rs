use agentd_api::vm::Accel;

use super::*;

/// A host with nothing on it: an empty root, no program, no libvirt.
fn bare(dir: &std::path::Path) -> Seen {
    observe(Looking {
        find: |_| None,
        kvm_trouble: || None,
        root: dir.to_owned(),
        state_dir: dir.to_owned(),
        group: "no-such-group-here".to_owned(),
        lacks: vec![("qemu-img".into(), "qemu-utils".into()), ("grub".into(), "grub-pc-bin".into())],
        libvirt: Err("there is no socket /run/libvirt/libvirt-sock".to_owned()),
        engine: Err("there is no socket /run/docker.sock".to_owned()),
        accel: None,
        store: Ok(()),
        default_network: None,
        guest_program: Some("/usr/lib/agentd/agentd-guest".into()),
        firmware: FirmwareThere::default(),
        remote: None,
    })
}

fn find<'a>(report: &'a Report, name: &str) -> &'a Check {
    let found: Vec<_> = report.checks.iter().filter(|c| c.name == name).collect();
    assert_eq!(found.len(), 1, "{name} once in {report:?}");
    found[0]
}

#[test]
fn on_a_bare_host_each_missing_thing_is_named_with_what_mends_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let report = report(&bare(dir.path()));
    for (name, fix) in [
        ("libvirt", "apt-get install -y libvirt-daemon-system"),
        ("containers", "apt-get install -y docker.io"),
        ("libvirtd", "apt-get install -y libvirt-daemon-system"),
        ("qemu-system-x86_64", "apt-get install -y qemu-system-x86"),
        ("qemu-img", "apt-get install -y qemu-utils"),
        ("dnsmasq", "apt-get install -y dnsmasq-base"),
        ("nft", "apt-get install -y nftables"),
        ("mmdebstrap", "apt-get install -y mmdebstrap"),
        ("curl", "apt-get install -y curl"),
        ("grub", "apt-get install -y grub-pc-bin"),
        ("group", "groupadd --system no-such-group-here"),
        ("UEFI", "apt-get install -y ovmf"),
        ("secure boot", "apt-get install -y ovmf"),
        ("TPM", "apt-get install -y swtpm swtpm-tools"),
    ] {
        let check = find(&report, name);
        assert_ne!(check.verdict, Verdict::Ok, "{name}");
        assert_eq!(check.fix.as_deref(), Some(fix), "{name}");
    }
    assert_eq!(find(&report, "/dev/kvm").verdict, Verdict::Warn);
    assert!(find(&report, "/dev/kvm").detail.contains("vmx"));
    assert_eq!(find(&report, "acceleration").verdict, Verdict::Warn);
    assert_eq!(find(&report, "ip_forward").verdict, Verdict::Warn);
    assert_eq!(report.worst(), Verdict::Fail);
}

/// A host that has all of it.
fn whole(dir: &std::path::Path) -> Seen {
    Seen {
        init: Init::Systemd,
        root: true,
        missing: Vec::new(),
        lacks: Vec::new(),
        libvirt: Ok("libvirt 9.0.0, QEMU 7.2".to_owned()),
        engine: Ok("Docker 20.10.24".to_owned()),
        engine_installed: true,
        accel: Some(AccelAnswer { accel: Accel::Kvm, reason: "a guest ran".to_owned(), settled: true }),
        kvm: Ok(()),
        vendor_flags: true,
        group: "agentd".to_owned(),
        group_exists: true,
        space: Ok(100 << 30),
        ip_forward: Some(true),
        firmware: FirmwareThere::ALL,
        ..bare(dir)
    }
}

#[test]
fn on_a_whole_host_nothing_is_to_be_mended() {
    let dir = tempfile::tempdir().expect("a folder");
    let report = report(&whole(dir.path()));
    assert_eq!(report.worst(), Verdict::Ok, "{report:?}");
    assert!(report.checks.iter().all(|c| c.fix.is_none()));
    assert!(report.checks.len() >= 15);
}

#[test]
fn a_libvirtd_that_is_down_is_started_as_this_host_starts_things() {
    let dir = tempfile::tempdir().expect("a folder");
    for (init, fix) in
        [(Init::Systemd, "systemctl enable --now libvirtd"), (Init::Other, "virtlogd -d; libvirtd -d")]
    {
        let seen = Seen { libvirt: Err("refused".to_owned()), init, ..whole(dir.path()) };
        assert_eq!(find(&report(&seen), "libvirt").fix.as_deref(), Some(fix));
    }
}

#[test]
fn each_trouble_changes_the_verdict() {
    let dir = tempfile::tempdir().expect("a folder");
    let good = || whole(dir.path());
    for (seen, name, verdict) in [
        (Seen { store: Err("no space".to_owned()), ..good() }, "store", Verdict::Fail),
        (Seen { space: Ok(1 << 20), ..good() }, "disk space", Verdict::Fail),
        (Seen { space: Ok(1 << 30), ..good() }, "disk space", Verdict::Warn),
        (Seen { space: Err("gone".to_owned()), ..good() }, "disk space", Verdict::Warn),
        (Seen { ip_forward: Some(false), ..good() }, "ip_forward", Verdict::Warn),
        (Seen { root: false, ..good() }, "root", Verdict::Fail),
        (Seen { guest_program: None, ..good() }, "agentd-guest", Verdict::Warn),
        (Seen { default_network: Some("overlaps".to_owned()), ..good() }, "default network", Verdict::Warn),
    ] {
        let report = report(&seen);
        assert_eq!(find(&report, name).verdict, verdict, "{name}");
        assert_eq!(report.worst(), verdict, "{name}");
    }
}

#[test]
fn huge_pages_are_told_of_as_they_are_and_nobody_needs_them() {
    let dir = tempfile::tempdir().expect("a folder");
    assert!(find(&report(&whole(dir.path())), "huge pages").detail.contains("this kernel has none"));
    std::fs::create_dir_all(dir.path().join("proc")).expect("made");
    for (total, free, words) in [(0, 0, "none are reserved"), (64, 16, "128MiB are reserved")] {
        let text = format!("HugePages_Total: {total}\nHugePages_Free: {free}\nHugepagesize: 2048 kB\n");
        std::fs::write(dir.path().join("proc/meminfo"), text).expect("written");
        let report = report(&whole(dir.path()));
        let check = find(&report, "huge pages");
        assert!(check.verdict == Verdict::Ok && check.detail.contains(words), "{check:?}");
    }
}

#[test]
fn a_kvm_that_only_root_may_open_is_named_with_what_mends_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let trouble = Some(("only root may open it".to_owned(), "chmod 0660 /dev/kvm".to_owned()));
    let report = report(&Seen { kvm_trouble: trouble, ..whole(dir.path()) });
    let check = find(&report, "/dev/kvm");
    assert_eq!((check.verdict, check.fix.as_deref()), (Verdict::Warn, Some("chmod 0660 /dev/kvm")));
    assert!(check.detail.contains("only root"), "{check:?}");
}

#[test]
fn a_processor_that_could_is_told_from_one_that_cannot() {
    let dir = tempfile::tempdir().expect("a folder");
    let no_kvm = Seen { kvm: Err("is not there".to_owned()), ..whole(dir.path()) };
    assert_eq!(
        find(&report(&no_kvm), "/dev/kvm").fix.as_deref(),
        Some("modprobe kvm_intel || modprobe kvm_amd")
    );
    std::fs::create_dir_all(dir.path().join("proc")).expect("made");
    std::fs::write(dir.path().join("proc/cpuinfo"), "flags\t\t: fpu svm_lock vmx_x\n").expect("written");
    assert!(!bare(dir.path()).vendor_flags, "a part of a word is none");
    std::fs::write(dir.path().join("proc/cpuinfo"), "flags\t\t: fpu svm\n").expect("written");
    assert!(bare(dir.path()).vendor_flags);
}
