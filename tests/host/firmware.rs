//! What starts guests: the BIOS with a boot loader, UEFI with and without secure boot, their own kernel; and a TPM.

use std::path::Path;
use std::time::{Duration, Instant};

use agent_tests::host::{Agentd, boot, guest, namespace, traces, virsh, wait_until};
use agent_tests::host_test;

/// The first that the guest's own first program says.
const USER_SPACE: &str = "micro: in user space";
/// UEFI without KVM takes its time.
const SLOW: Duration = Duration::from_secs(240);
/// What a guest's variables begin as.
const OVMF_FIRST: [&str; 2] = ["/usr/share/OVMF/OVMF_VARS_4M.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"];
/// How often each guest is started where they are compared.
const TURNS: usize = 2;
const OVMF: [&str; 4] = [
    "/usr/share/OVMF/OVMF_CODE_4M.fd",
    "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd",
    "/usr/share/edk2/ovmf/OVMF_CODE.fd",
    "/usr/share/edk2/ovmf/OVMF_CODE.secboot.fd",
];

/// The image `disk`, with boot loaders on it and without a kernel of its own.
fn import(agentd: &Agentd, scratch: &Path) {
    let disk = scratch.join("boot.raw");
    boot::write_disk(agentd, scratch, &disk);
    agentd.ok(&["image", "import", &disk.to_string_lossy(), "--name", "disk"]);
}

/// What a guest's way to its user space took.
struct Way {
    wall: Duration,
    /// Of its QEMU. Without KVM that is its wall clock on a machine that does nothing else.
    cpu: Duration,
}

/// From the command to the first line of the guest's own.
fn reaches_user_space(agentd: &Agentd, name: &str, before: usize) -> Way {
    let began = Instant::now();
    agentd.ok(&["vm", "start", name, "--no-wait"]);
    wait_until(&format!("{name} is in user space"), SLOW, || {
        let console = guest::console(agentd, name);
        if console.matches(USER_SPACE).count() > before { Ok(()) } else { Err(console) }
    });
    Way { wall: began.elapsed(), cpu: traces::cpu_of_guest(agentd, name) }
}

fn exec(agentd: &Agentd, name: &str, script: &str) -> String {
    wait_until(&format!("{name}'s agent is there"), guest::BOOT, || {
        let status = agentd.vm(name)["status"].clone();
        if status["guest"].is_null() { Err(status.to_string()) } else { Ok(()) }
    });
    agentd.ok(&["vm", "exec", name, "--", "sh", "-c", script])
}

host_test!(vm_started_directly_is_in_user_space_long_before_bios_and_boot_loader, |host| {
    let agentd = host.with_agentd();
    import(&agentd, host.scratch());
    let answer = agentd.ctl(&["vm", "create", "none", "--image", "disk", "--firmware", "direct"]);
    assert_eq!(answer.status, 2, "{answer:?}");
    assert!(answer.stderr.contains("spec.firmware") && answer.stderr.contains("'disk'"), "{answer:?}");

    for (name, image, firmware) in [("bios", "disk", "bios"), ("direct", "micro", "direct")] {
        let memory = ["--memory", "192MiB", "--firmware", firmware];
        agentd.ok(&[&["vm", "create", name, "--image", image][..], &memory[..]].concat());
    }
    // By turns, so that whatever else the machine does meets both.
    let mut ways = [Vec::new(), Vec::new()];
    for turn in 0..TURNS {
        for (n, name) in ["bios", "direct"].into_iter().enumerate() {
            let way = reaches_user_space(&agentd, name, turn);
            println!("{name} is in user space after {:?}, {:?} of them on a processor", way.wall, way.cpu);
            ways[n].push(way);
            if turn == 0 {
                let started = exec(&agentd, name, "cat /proc/cmdline");
                assert_eq!(started.contains("started=vmlinuz"), name == "bios", "{started}");
                assert_eq!(
                    exec(&agentd, name, "ls /sys/firmware"),
                    exec(&agentd, name, "echo acpi; echo dmi; echo memmap")
                );
            }
            agentd.ok(&["vm", "stop", name]);
        }
    }
    // What others do on this machine lengthens the wall clock of either; of the processor's time it tells little.
    let [bios, direct] = ways.each_ref().map(|ways| least(ways, |way| way.cpu));
    let walls = ways.each_ref().map(|ways| least(ways, |way| way.wall));
    let ratio = |of: &Duration, to: &Duration| of.as_secs_f64() / to.as_secs_f64();
    println!(
        "direct to BIOS and boot loader: {:.2} of the processor's time, {:.2} by the wall clock",
        ratio(&direct, &bios),
        ratio(&walls[1], &walls[0])
    );
    assert!(direct * 2 <= bios, "half of {bios:?} is less than {direct:?}");
    assert!(walls[1] * 3 <= walls[0] * 2, "two thirds of {:?} is less than {:?}", walls[0], walls[1]);
});

fn least(ways: &[Way], of: impl Fn(&Way) -> Duration) -> Duration {
    ways.iter().map(of).min().expect("a turn")
}

host_test!(vm_started_by_uefi_runs_what_is_unsigned_and_by_secure_boot_does_not, |host| {
    let agentd = host.with_agentd();
    import(&agentd, host.scratch());
    agentd.ok(&["vm", "create", "web", "--image", "disk", "--memory", "256MiB", "--firmware", "uefi"]);
    let id = agentd.vm("web")["id"].as_str().expect("an id").to_owned();
    let folder = agentd.state().join("vms").join(&id);
    println!("UEFI: {:?}", reaches_user_space(&agentd, "web", 0).wall);
    let look = "cat /proc/cmdline; ls /sys/firmware; dmesg | grep -i secureboot; ls /sys/class/tpm";
    let said = exec(&agentd, "web", look);
    assert!(said.contains("started=changed") && said.lines().any(|l| l == "efi"), "{said}");
    assert!(!said.contains("Secure boot enabled") && !said.contains("tpm0"), "{said}");
    assert!(folder.join("uefi.fd").is_file());

    // Another firmware and a TPM wait for a restart, and say so.
    agentd.ok(&["vm", "set", "web", "--firmware", "uefi-secure", "--tpm"]);
    wait_until("it waits for a restart", Duration::from_secs(20), || {
        let status = agentd.vm("web")["status"].to_string();
        if status.contains("pending_restart") { Ok(()) } else { Err(status) }
    });
    assert!(exec(&agentd, "web", look).contains("started=changed"), "it runs on");
    agentd.ok(&["vm", "stop", "web"]);
    println!("secure boot: {:?}", reaches_user_space(&agentd, "web", 1).wall);
    let said = exec(&agentd, "web", &format!("{look}; cat /sys/class/tpm/tpm0/tpm_version_major"));
    assert!(said.contains("started=vmlinuz") && said.contains("Secure boot enabled"), "{said}");
    assert!(said.contains("tpm0\n2\n"), "{said}");
    let console = guest::console(&agentd, "web");
    assert!(console.contains("bad shim signature"), "{console}");
});

host_test!(vm_uefi_variables_go_with_clones_and_archives_and_what_a_tpm_holds_does_not, |host| {
    let agentd = host.with_agentd();
    import(&agentd, host.scratch());
    let uefi =
        ["--image", "disk", "--memory", "256MiB", "--firmware", "uefi", "--tpm", "--label", "tier=web"];
    agentd.ok(&[&["vm", "create", "web"][..], &uefi].concat());
    println!("UEFI: {:?}", reaches_user_space(&agentd, "web", 0).wall);
    agentd.ok(&["vm", "stop", "web"]);
    let variables = |name: &str| {
        let id = agentd.vm(name)["id"].as_str().expect("an id").to_owned();
        std::fs::read(agentd.state().join("vms").join(id).join("uefi.fd")).expect("its variables")
    };
    let was = variables("web");
    let first = OVMF_FIRST.iter().find_map(|path| std::fs::read(path).ok()).expect("OVMF's own");
    assert!(was != first, "its boot has written variables");
    agentd.ok(&["vm", "clone", "web", "linked", "--no-start"]);
    agentd.ok(&["vm", "clone", "web", "full", "--full", "--no-start"]);
    let archive = host.scratch().join("web.tar").to_string_lossy().into_owned();
    let exported = agentd.ctl(&["vm", "export", "web", &archive]);
    assert!(exported.status == 0 && exported.stderr.contains("TPM holds is not in it"), "{exported:?}");
    agentd.ok(&["vm", "import", &archive, "--name", "copy", "--no-start"]);
    assert_eq!(agentd.vm("copy")["labels"]["tier"], "web");
    for name in ["linked", "full", "copy"] {
        assert!(variables(name) == was, "{name} has those of web");
    }
    // It starts with them, and with a TPM of its own.
    let tpm = |name: &str| {
        Path::new("/var/lib/libvirt/swtpm").join(agentd.vm(name)["id"].as_str().expect("an id")).is_dir()
    };
    assert!(tpm("web") && !tpm("copy") && !tpm("full"));
    println!("a copy: {:?}", reaches_user_space(&agentd, "copy", 0).wall);
    assert!(tpm("copy"));
    assert!(exec(&agentd, "copy", "cat /proc/cmdline").contains("started=changed"));
    agentd.ok(&["vm", "rm", "web", "linked", "full", "copy"]);
    assert_eq!(traces::of_vms(&agentd), Vec::<String>::new());
});

host_test!(vm_tpm_goes_on_with_its_guest_and_goes_with_its_vm, |host| {
    let mut agentd = host.with_agentd();
    agentd.ok(&["vm", "run", "web", "--image", "micro", "--memory", "192MiB", "--tpm"]);
    let id = agentd.vm("web")["id"].as_str().expect("an id").to_owned();
    let register =
        "cat /sys/class/tpm/tpm0/tpm_version_major /sys/class/tpm/tpm0/pcr-sha256/0; cat /data/boots";
    let said = exec(&agentd, "web", register);
    assert!(said.starts_with("2\n") && said.ends_with("\n1\n"), "{said}");
    agentd.ok(&["vm", "suspend", "web"]);
    assert!(traces::processes("swtpm").is_empty(), "nothing runs");
    let answer = agentd.ctl(&["vm", "set", "web", "--tpm=false"]);
    assert_eq!(answer.status, 4, "{answer:?}");
    assert!(answer.stderr.contains("spec.tpm") && answer.stderr.contains("--fresh"), "{answer:?}");
    agentd.ok(&["vm", "resume", "--from-disk", "web"]);
    assert_eq!(exec(&agentd, "web", register), said, "the same boot, and its TPM answers");

    agentd.ok(&["snapshot", "create", "web", "warm", "--memory"]);
    agentd.ok(&["vm", "stop", "web"]);
    agentd.ok(&["snapshot", "restore", "warm"]);
    assert_eq!(exec(&agentd, "web", register), said, "the memory's own TPM");
    // The memory is of a machine with one.
    agentd.ok(&["vm", "stop", "web"]);
    agentd.ok(&["vm", "set", "web", "--tpm=false"]);
    let answer = agentd.ctl(&["snapshot", "restore", "warm"]);
    assert_ne!(answer.status, 0, "{answer:?}");
    assert!(answer.stderr.contains("TPM"), "{answer:?}");
    agentd.ok(&["vm", "set", "web", "--tpm"]);

    let kept = Path::new("/var/lib/libvirt/swtpm").join(&id);
    assert!(kept.is_dir(), "libvirt keeps a TPM's content there");
    agentd.ok(&["vm", "start", "web", "--no-wait"]);
    agentd.kill();
    agentd.start();
    agentd.ok(&["vm", "rm", "web", "--snapshots"]);
    wait_until("its TPM is gone", Duration::from_secs(10), || {
        let programs = traces::processes("swtpm");
        if kept.exists() || !programs.is_empty() {
            Err(format!("{}: {}, {programs:?}", kept.display(), kept.exists()))
        } else {
            Ok(())
        }
    });
    assert_eq!(traces::of_vms(&agentd), Vec::<String>::new());
});

host_test!(vm_firmware_that_the_host_has_not_is_named_and_found_when_it_comes, |host| {
    let agentd = host.with_agentd();
    agentd.ok(&[
        "vm",
        "create",
        "old",
        "--image",
        "micro",
        "--memory",
        "128MiB",
        "--firmware",
        "uefi",
        "--tpm",
    ]);
    let hidden: Vec<&str> =
        OVMF.into_iter().chain(["/usr/bin/swtpm"]).filter(|p| Path::new(p).exists()).collect();
    assert!(hidden.len() >= 3, "install packaging/host-packages run: {hidden:?}");
    namespace::hide(&hidden).expect("hidden files");
    for (flag, field, package) in [
        ("--firmware=uefi", "spec.firmware", "ovmf"),
        ("--firmware=uefi-secure", "spec.firmware", "ovmf"),
        ("--tpm", "spec.tpm", "swtpm"),
    ] {
        let answer = agentd.ctl(&["vm", "create", "web", "--image", "micro", flag]);
        assert_eq!(answer.status, 5, "{answer:?}");
        assert!(answer.stderr.contains(field) && answer.stderr.contains(package), "{answer:?}");
    }
    let answer = agentd.ctl(&["vm", "start", "old"]);
    assert_eq!(answer.status, 5, "{answer:?}");
    assert!(answer.stderr.contains("spec.firmware") && answer.stderr.contains("ovmf"), "{answer:?}");
    let doctor = agentd.ctl(&["doctor"]).stdout;
    for what in ["UEFI", "secure boot", "TPM"] {
        assert!(doctor.lines().any(|l| l.starts_with("warn") && l.contains(what)), "{what}: {doctor}");
    }
    for path in &hidden {
        nix::mount::umount(*path).expect("it is there again");
    }
    agentd.ok(&["vm", "start", "old"]);
    let doctor = agentd.ctl(&["doctor"]).stdout;
    assert!(doctor.lines().any(|l| l.starts_with("ok") && l.contains("UEFI")), "{doctor}");
    let domain = virsh(&["dumpxml", agentd_domain(&agentd).trim()]).expect("a domain");
    assert!(domain.contains("pflash") && domain.contains("uefi.fd") && domain.contains("<tpm "), "{domain}");
    agentd.ok(&["vm", "rm", "old"]);
    assert_eq!(traces::of_vms(&agentd), Vec::<String>::new());
});

fn agentd_domain(agentd: &Agentd) -> String {
    let id = agentd.vm("old")["id"].as_str().expect("an id").to_owned();
    virsh(&["domname", &id]).expect("a name")
}
