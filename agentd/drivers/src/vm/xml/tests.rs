use std::path::Path;

use agentd_api::ByteSize;
use agentd_api::vm::{Accel, DiskLimits, NicLimits, WatchdogAction};
use proptest::prelude::*;

use super::*;
use crate::vm::{
    Cdrom, DirectBoot, DiskFormat, DiskSource, DomainDisk, DomainNic, Hardware, HardwareSeen, Nesting, Uefi,
};

fn instance() -> Instance {
    Instance::new(Path::new("/var/lib/agentd"))
}

fn spec() -> DomainSpec {
    DomainSpec {
        id: Uuid::parse_str("01970000-0000-7000-8000-000000000001").expect("an id"),
        project: "default".parse().expect("a name"),
        name: "web".parse().expect("a name"),
        cpus: 2,
        cpus_max: 4,
        memory: ByteSize::gib(1),
        memory_max: ByteSize::gib(2),
        disk: "/var/lib/agentd/vms/1/disk.qcow2".into(),
        boot: None,
        seed: Some("/var/lib/agentd/vms/1/seed.img".into()),
        disks: Vec::new(),
        cdrom: None,
        nics: vec![DomainNic {
            mac: "52:54:00:00:00:01".parse().expect("a mac"),
            bridge: "agb00000001".to_owned(),
            tap: "agt00000001-0".to_owned(),
        }],
        console_log: "/var/lib/agentd/vms/1/console.log".into(),
        agent: Some("/var/lib/agentd/vms/1/agent.sock".into()),
        accel: Accel::Kvm,
        hardware: Hardware::default(),
        tuning: Tuning::default(),
        graphics: false,
    }
}

fn micro() -> DomainSpec {
    let boot = DirectBoot {
        kernel: "/var/lib/agentd/images/k".into(),
        initrd: "/var/lib/agentd/images/i".into(),
        cmdline: "console=ttyS0 quiet".to_owned(),
    };
    DomainSpec {
        boot: Some(boot),
        seed: None,
        nics: Vec::new(),
        accel: Accel::Tcg,
        cpus: 1,
        cpus_max: 1,
        memory_max: ByteSize::gib(1),
        ..spec()
    }
}

#[test]
fn a_vm_with_everything_under_kvm() {
    insta::assert_snapshot!(render_domain(&spec(), &instance()));
}

#[test]
fn a_vm_with_its_own_kernel_under_tcg() {
    insta::assert_snapshot!(render_domain(&micro(), &instance()));
}

#[test]
fn memory_is_gone_on_with_on_the_cpu_that_it_ran_on() {
    let domain = |cpu: &str, name: &str| format!("<domain><name>{name}</name>{cpu}<devices/></domain>");
    let without = r#"<cpu mode="maximum"><feature policy="disable" name="erms"/></cpu>"#;
    let (saved, wanted) = (domain(r#"<cpu mode="maximum"/>"#, "old"), domain(without, "new"));
    let made = on_the_cpu_of(&saved, &wanted);
    assert!(made.contains("<name>new</name>") && !made.contains("erms"), "{made}");
    let host = domain(r#"<cpu mode="host-passthrough"/>"#, "new");
    assert_eq!(on_the_cpu_of(&saved, &host), host, "the host's own is not emulated");
    assert_eq!(on_the_cpu_of("", &wanted), wanted);
}

fn with_disks() -> DomainSpec {
    let disk = |serial: &str, source: DiskSource, format, read_only| DomainDisk {
        serial: serial.to_owned(),
        source,
        format,
        read_only,
    };
    let disks = vec![
        disk("disk-1", DiskSource::File("/s/disk-1.qcow2".into()), DiskFormat::Qcow2, false),
        disk("0123456789abcdef0123", DiskSource::File("/s/volume".into()), DiskFormat::Raw, true),
        disk("ff", DiskSource::Block("/dev/pool/\"v\"".into()), DiskFormat::Raw, false),
    ];
    DomainSpec { disks, cdrom: Some(Cdrom { medium: Some("/s/a&b.iso".into()) }), ..spec() }
}

#[test]
fn a_vm_with_disks_and_a_drive() {
    insta::assert_snapshot!(render_domain(&with_disks(), &instance()));
}

#[test]
fn disks_are_read_back_as_they_were_rendered() {
    let spec = with_disks();
    let text = render_domain(&spec, &instance());
    let seen = disk::read_disks(&text).expect("XML");
    let targets: Vec<&str> = seen.iter().map(|d| d.target.as_str()).collect();
    assert_eq!(targets, ["vda", "vdb", "vdc", "vdd", "vde", "sda"]);
    assert_eq!(seen[4].source.as_deref(), Some(Path::new("/dev/pool/\"v\"")));
    assert_eq!((seen[3].read_only, seen[3].serial.as_deref()), (true, Some("0123456789abcdef0123")));
    assert!(seen[5].cdrom && seen[5].source.as_deref() == Some(Path::new("/s/a&b.iso")));
    assert_eq!(disk::free_target(&seen), "vdf");
    assert_eq!(disk::free_target(&[&seen[..3], &seen[4..]].concat()), "vdd");

    assert!(disk::as_wanted(&text, &spec));
    let changes: [fn(&mut DomainSpec); 5] = [
        |s| drop(s.disks.pop()),
        |s| s.disks[0].read_only = true,
        |s| s.cdrom = None,
        |s| s.cdrom = Some(Cdrom { medium: None }),
        |s| s.disks[1].source = DiskSource::File("/other".into()),
    ];
    for change in changes {
        let mut other = spec.clone();
        change(&mut other);
        assert!(!disk::as_wanted(&text, &other), "{other:?}");
        assert_eq!(digest(&other, &instance()), digest(&spec, &instance()));
    }
    let foreign = text.replace(
        "<serial>root</serial>",
        "<serial>root</serial>\n<backingStore type=\"file\"><source file=\"/b\"/></backingStore>",
    );
    assert!(disk::as_wanted(&foreign, &spec), "what a disk stands on is not its source");
    let fewer = DomainSpec { disks: Vec::new(), ..spec };
    let fewer = render_domain(&fewer, &instance());
    assert!(has_room(&text, &fewer) && has_room(&text, &text) && !has_room(&fewer, &text));
}

#[test]
fn targets_are_counted_as_linux_does() {
    let names = [0, 25, 26, 51, 52].map(disk::target);
    assert_eq!(names, ["vda", "vdz", "vdaa", "vdaz", "vdba"]);
}

#[test]
fn a_vm_with_a_screen() {
    insta::assert_snapshot!(render_domain(&DomainSpec { graphics: true, ..micro() }, &instance()));
}

#[test]
fn vnc_lets_in_whom_it_is_told_to_and_until_when() {
    let socket = Path::new("/run/a & b/vnc.sock");
    let until = "2026-01-02T03:04:05.678Z".parse().expect("a time");
    let (closed, open) = (render_vnc(socket, None), render_vnc(socket, Some(("s<cret", until))));
    insta::assert_snapshot!(format!("{closed}\n{open}"));
}

#[test]
fn markup_in_strings_stays_text() {
    let mut bad = micro();
    if let Some(boot) = &mut bad.boot {
        boot.cmdline = "a='\"<&>\"' ]]> </cmdline><devices/>".to_owned();
    }
    bad.disk = "/x/\"/><!--&amp;'".into();
    insta::assert_snapshot!(render_domain(&bad, &instance()));
}

#[test]
fn the_digest_follows_each_part_of_the_definition() {
    let base = spec();
    let mut seen = std::collections::BTreeSet::from([digest(&base, &instance())]);
    let changes: [fn(&mut DomainSpec); 12] = [
        |s| s.graphics = true,
        |s| s.cpus = 3,
        |s| s.cpus_max = 8,
        |s| s.memory_max = ByteSize::gib(3),
        |s| s.memory = ByteSize::mib(512),
        |s| s.disk = "/d".into(),
        |s| s.seed = None,
        |s| s.nics.clear(),
        |s| s.nics[0].tap = "agt00000002-0".to_owned(),
        |s| s.console_log = "/c".into(),
        |s| s.accel = Accel::Tcg,
        |s| s.boot = micro().boot,
    ];
    for change in changes {
        let mut changed = base.clone();
        change(&mut changed);
        assert!(seen.insert(digest(&changed, &instance())), "{changed:?}");
    }
    assert_eq!(digest(&base, &instance()), digest(&base.clone(), &instance()));
}

#[test]
fn what_a_running_guest_can_be_brought_to_leaves_the_other_digest_as_it_is() {
    let (base, instance) = (spec(), instance());
    let fixed = fixed_digest(&base, &instance);
    let changes: [fn(&mut DomainSpec); 5] = [
        |s| (s.cpus, s.cpus_max) = (3, 8),
        |s| s.memory = ByteSize::mib(512),
        |s| s.memory_max = ByteSize::gib(4),
        |s| s.nics.clear(),
        |s| s.nics.push(s.nics[0].clone()),
    ];
    for change in changes {
        let mut changed = base.clone();
        change(&mut changed);
        assert_eq!(fixed_digest(&changed, &instance), fixed, "{changed:?}");
    }
    let other = DomainSpec { console_log: "/c".into(), ..base };
    assert_ne!(fixed_digest(&other, &instance), fixed);
}

#[test]
fn what_runs_is_read_back_as_libvirt_gives_it() {
    let text = render_domain(&spec(), &instance());
    let live = read_live(&text).expect("a domain");
    assert_eq!(live.mark.expect("a mark").digest, digest(&spec(), &instance()));
    let seen = live.seen;
    assert_eq!(seen.fixed, Some(fixed_digest(&spec(), &instance())));
    assert_eq!((seen.cpus, seen.cpus_max), (2, 4));
    assert_eq!((seen.memory, seen.memory_max), (ByteSize::gib(1), ByteSize::gib(2)));
    assert_eq!((seen.nics.len(), seen.nics[0].mac), (1, spec().nics[0].mac));
    assert_eq!(seen.nics[0].tap, "agt00000001-0");
    assert_eq!(seen.hardware, HardwareSeen::default());
    let mut other = spec();
    (other.accel, other.graphics) = (Accel::Kvm, true);
    other.hardware = Hardware {
        huge_pages: true,
        nesting: Some(Nesting { feature: "svm", wanted: true }),
        watchdog: Some(WatchdogAction::Record),
        ..Hardware::default()
    };
    let all = HardwareSeen {
        huge_pages: true,
        nested: true,
        watchdog: Some(WatchdogAction::Record),
        graphics: true,
    };
    assert_eq!(read_live(&render_domain(&other, &instance())).expect("a domain").seen.hardware, all);
    other.hardware.nesting = Some(Nesting { feature: "svm", wanted: false });
    assert!(!read_live(&render_domain(&other, &instance())).expect("a domain").seen.hardware.nested);
    // As libvirt writes it: sizes in KiB, no `current` where all are there, what others plugged in.
    let text = "<domain type='qemu' id='3'><memory unit='KiB'>262144</memory><currentMemory unit='KiB'>131072</currentMemory>\n\
                <vcpu placement='static'>2</vcpu><devices><emulator>/usr/bin/q &amp; r</emulator><interface type='user'>\
                <mac address='52:54:00:00:00:09'/></interface><interface type='bridge'><mac address='52:54:00:11:22:33'/>\
                <source bridge='agb1'/><target dev='agt1-0'/><alias name='net0'/></interface></devices></domain>";
    let live = read_live(text).expect("a domain");
    assert_eq!(live.mark, None);
    let seen = live.seen;
    assert_eq!((seen.cpus, seen.cpus_max), (2, 2));
    assert_eq!((seen.memory, seen.memory_max), (ByteSize::mib(128), ByteSize::mib(256)));
    assert_eq!(seen.nics.iter().map(|nic| nic.tap.as_str()).collect::<Vec<_>>(), ["agt1-0"]);
    for bad in ["", "<domain>", "<domain/>", "<domain><vcpu>x</vcpu></domain>"] {
        assert_eq!(read_live(bad), None, "{bad}");
    }
}

#[test]
fn the_mark_is_read_back_as_libvirt_gives_it() {
    let text = "<vm xmlns=\"https://agentd.invalid/libvirt/1\" instance=\"0a0b0c0d\" project=\"default\" name=\"web\" \
                id=\"01970000-0000-7000-8000-000000000001\" accel=\"tcg\" digest=\"ff\"/>";
    let mark = read_mark(text).expect("a mark");
    assert_eq!((mark.instance.as_str(), mark.digest.as_str(), mark.accel), ("0a0b0c0d", "ff", Accel::Tcg));
    assert_eq!(mark.id, spec().id);
    for bad in ["", "<vm/>", "<vm", "<other instance=\"a\"/>", &text.replace("tcg", "x")] {
        assert_eq!(read_mark(bad), None, "{bad}");
    }
}

#[test]
fn what_no_c_string_or_xml_can_carry_is_refused() {
    let with_disk = |path: &str| DomainSpec { disk: path.into(), ..spec() };
    assert!(matches!(check_spec(&with_disk("/a\0b")), Err(VmError::Nul(_))));
    assert!(matches!(check_spec(&with_disk("/a\nb")), Err(VmError::Refused(_))));
    assert!(matches!(check_spec(&with_disk("/a\u{ffff}b")), Err(VmError::Refused(_))));
    assert!(matches!(check_spec(&with_disk("a")), Err(VmError::Refused(_))));
    assert!(check_spec(&with_disk("/a \"<&>' ü")).is_ok());
}

proptest! {
    /// Whatever a string holds, the text is well-formed and the string comes back out of it.
    #[test]
    fn any_string_survives(cmdline in "\\PC{0,60}", path in "/\\PC{0,60}") {
        let mut spec = micro();
        spec.disk = path.clone().into();
        if let Some(boot) = &mut spec.boot {
            boot.cmdline = cmdline.clone();
        }
        let text = render_domain(&spec, &instance());
        let mut reader = quick_xml::Reader::from_str(&text);
        let (mut inside, mut read, mut source) = (false, String::new(), None);
        loop {
            match reader.read_event().expect("well-formed") {
                Event::Eof => break,
                Event::Start(tag) => inside = tag.name().as_ref() == "cmdline",
                Event::End(_) => inside = false,
                Event::Empty(tag) if tag.name().as_ref() == "source" => {
                    // A channel's has a path instead.
                    let Some(file) = tag.try_get_attribute("file").expect("attributes") else { continue };
                    source = Some(quick_xml::escape::unescape(&file.value).expect("escapes").into_owned());
                }
                Event::Text(part) if inside => read.push_str(&part),
                Event::GeneralRef(name) if inside => {
                    let reference = format!("&{};", &*name);
                    read.push_str(&quick_xml::escape::unescape(&reference).expect("an escape"));
                }
                _ => (),
            }
        }
        prop_assert_eq!(source, Some(path));
        prop_assert_eq!(read, format!("{cmdline} no_timer_check"));
    }
}

fn tuned() -> Tuning {
    let disk = DiskLimits {
        read: Some(ByteSize::mib(10)),
        write: Some(ByteSize::mib(5)),
        read_iops: Some(100),
        write_iops: None,
    };
    let nic = NicLimits { inbound: Some(ByteSize::mib(2)), outbound: Some(ByteSize::kib(512)) };
    Tuning {
        disk,
        nics: [("agt00000001-0".to_owned(), nic)].into(),
        cpu_shares: Some(512),
        pinning: vec!["0-1".parse().expect("a set"), "1".parse().expect("a set")],
    }
}

#[test]
fn a_vm_with_limits_and_all_that_its_machine_can_have() {
    let hardware = Hardware {
        huge_pages: true,
        nesting: Some(Nesting { feature: "svm", wanted: true }),
        watchdog: Some(WatchdogAction::Reset),
        ..Hardware::default()
    };
    insta::assert_snapshot!(render_domain(&DomainSpec { hardware, tuning: tuned(), ..spec() }, &instance()));
}

fn with_uefi(secure: bool, tpm: bool) -> DomainSpec {
    let code =
        if secure { "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd" } else { "/usr/share/OVMF/OVMF_CODE_4M.fd" };
    let uefi = Uefi { code: code.into(), variables: "/var/lib/agentd/vms/1/uefi.fd".into(), secure };
    DomainSpec { hardware: Hardware { uefi: Some(uefi), tpm, ..Hardware::default() }, ..spec() }
}

#[test]
fn a_vm_with_uefi() {
    insta::assert_snapshot!(render_domain(&with_uefi(false, false), &instance()));
}

#[test]
fn a_vm_with_secure_boot_and_a_tpm() {
    insta::assert_snapshot!(render_domain(&with_uefi(true, true), &instance()));
}

#[test]
fn a_machine_with_another_firmware_or_tpm_is_told_apart() {
    let text = |spec: &DomainSpec| render_domain(spec, &instance());
    let machines = [spec(), micro(), with_uefi(false, false), with_uefi(true, false), with_uefi(true, true)];
    for (n, one) in machines.iter().enumerate() {
        for (m, other) in machines.iter().enumerate() {
            assert_eq!(same_firmware(&text(one), &text(other)), n == m, "{one:?} {other:?}");
            assert_eq!(fixed_digest(one, &instance()) == fixed_digest(other, &instance()), n == m);
        }
    }
    let larger = DomainSpec { memory: ByteSize::mib(512), ..micro() };
    assert!(same_firmware(&text(&micro()), &text(&larger)));
}

#[test]
fn a_tuning_is_read_out_of_a_domain_as_it_was_written() {
    for pinning in [Vec::new(), vec!["0,2-3".parse().expect("a set")], tuned().pinning] {
        let tuning = Tuning { pinning, ..tuned() };
        let xml = render_domain(&DomainSpec { tuning: tuning.clone(), ..spec() }, &instance());
        assert_eq!(read_tuning(&xml), Some(tuning));
    }
    assert_eq!(read_tuning(&render_domain(&spec(), &instance())), Some(Tuning::default()));
}

#[test]
fn limits_are_no_reason_for_a_restart_and_a_watchdog_is() {
    let limited = DomainSpec { tuning: tuned(), ..spec() };
    assert_ne!(digest(&limited, &instance()), digest(&spec(), &instance()));
    assert_eq!(fixed_digest(&limited, &instance()), fixed_digest(&spec(), &instance()));
    let watched = Hardware { watchdog: Some(WatchdogAction::Record), ..Hardware::default() };
    let watched = DomainSpec { hardware: watched, ..spec() };
    assert_ne!(fixed_digest(&watched, &instance()), fixed_digest(&spec(), &instance()));
}
