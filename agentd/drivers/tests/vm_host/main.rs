//! The libvirt driver with a libvirtd and real guests of its own, each test on a host of its own.

#[path = "../host/mod.rs"]
mod host;

mod bed;
mod foreign;
mod lanes;
mod memory;
mod outage;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use agentd_api::ByteSize;
use agentd_api::vm::Accel;
use agentd_drivers::vm::accel::{AccelProbe, AccelWish, try_guest};
use agentd_drivers::vm::contract::{self, Bed};
use agentd_drivers::vm::{DomainNic, VmDriver, VmError};
use bed::{LibvirtBed, console};
use host::{Host, guest};

/// Runs an async test on a host with libvirt.
fn with_libvirt<F: Future<Output = ()>>(test: &str, body: impl FnOnce(LibvirtBed) -> F) {
    guest::ensure();
    host::inside(test, |host: &mut Host| {
        host.start_libvirt();
        runtime().block_on(body(LibvirtBed::new(host, "state")));
    });
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Runtime::new().expect("a runtime")
}

#[test]
#[ignore = "needs the test host: run by tests/run"]
fn vm_libvirt_holds_the_contract() {
    with_libvirt("vm_libvirt_holds_the_contract", async |bed| contract::hold(&bed).await);
}

#[test]
#[ignore = "needs the test host: run by tests/run"]
fn vm_qemu_is_confined_and_listens_nowhere() {
    with_libvirt("vm_qemu_is_confined_and_listens_nowhere", async |bed| {
        let spec = bed.running("confined").await;
        let pid = bed.emulator(&spec);
        let line =
            fs::read_to_string(format!("/proc/{pid}/cmdline")).expect("a command line").replace('\0', " ");
        assert!(line.contains(" -sandbox on,"), "{line}");
        assert!(!line.contains("-vnc") && !line.contains("-spice"), "{line}");
        assert!(line.contains("-machine pc-q35"), "{line}");
        for device in ["virtio-blk-pci", "virtio-rng-pci", "virtio-balloon-pci", "org.qemu.guest_agent.0"] {
            assert!(line.contains(device), "no {device}: {line}");
        }
        for absent in ["-usb", "qemu-xhci", "VGA", "watchdog", "hda-"] {
            assert!(!line.contains(absent), "{absent}: {line}");
        }
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a status");
        assert!(status.contains("Seccomp:\t2"), "{status}");
        assert!(!status.contains("Uid:\t0\t"), "QEMU runs as root: {status}");
        let listening = host::run("/usr/bin/ss", &["-Hltn"]).or_else(|_| host::run("/bin/ss", &["-Hltn"]));
        assert_eq!(listening.expect("ss"), "");
        bed.vm.destroy(spec.id).await.expect("destroy");
    });
}

#[test]
#[ignore = "needs the test host: run by tests/run"]
fn vm_a_guest_hangs_on_its_bridge_and_reads_a_private_seed() {
    with_libvirt("vm_a_guest_hangs_on_its_bridge_and_reads_a_private_seed", async |bed| {
        host::run("/usr/sbin/ip", &["link", "add", "agbtest", "type", "bridge"]).expect("a bridge");
        let mut spec = bed.spec("plugged").await;
        let mac = "52:54:00:00:00:07".parse().expect("a mac");
        spec.nics = vec![DomainNic { mac, bridge: "agbtest".to_owned(), tap: "agttest-0".to_owned() }];
        let seed = spec.disk.with_file_name("seed.img");
        fs::write(&seed, [7; 1 << 16]).expect("a seed");
        fs::set_permissions(&seed, fs::Permissions::from_mode(0o600)).expect("a mode");
        spec.seed = Some(seed.clone());
        bed.vm.ensure_defined(&spec).await.expect("define");
        bed.vm.start(spec.id).await.expect("start");
        // By netlink: the /sys of this host is still the outer one's.
        let ports =
            || host::run("/usr/sbin/ip", &["-o", "link", "show", "master", "agbtest"]).expect("ports");
        assert!(ports().contains(" agttest-0:"), "the tap is not on the bridge: {}", ports());
        let line =
            fs::read_to_string(format!("/proc/{}/cmdline", bed.emulator(&spec))).expect("a command line");
        assert!(line.contains("52:54:00:00:00:07"), "{line}");
        let of_seed = line.split('\0').filter(|part| part.contains("libvirt-1-format")).collect::<String>();
        assert!(line.contains("seed.img") && of_seed.contains("\"read-only\":true"), "{line}");
        bed.vm.destroy(spec.id).await.expect("destroy");
        assert_eq!(ports(), "");
        host::run("/usr/sbin/ip", &["link", "show", "agttest-0"]).expect_err("the tap is gone");
        assert_eq!(fs::read(&seed).expect("the seed"), [7; 1 << 16]);
        assert_eq!(fs::metadata(&seed).expect("the seed").mode() & 0o777, 0o600);
    });
}

#[test]
#[ignore = "needs the test host: run by tests/run"]
fn vm_a_clean_power_off_is_in_the_guests_own_console() {
    with_libvirt("vm_a_clean_power_off_is_in_the_guests_own_console", async |bed| {
        let spec = bed.running("clean").await;
        bed.vm.shutdown(spec.id).await.expect("shutdown");
        let limit = std::time::Duration::from_secs(60);
        contract::until(&*bed.vm, spec.id, limit, |seen| seen.off.is_some()).await;
        let log = console(&spec);
        assert!(log.contains(guest::POWERED_OFF), "{log}");
        // The console is appended to, and not begun anew, at the next start.
        bed.vm.start(spec.id).await.expect("start");
        bed.booted(&spec, 2).await;
        assert!(console(&spec).starts_with(&log));
        bed.vm.destroy(spec.id).await.expect("destroy");
    });
}

#[test]
#[ignore = "needs the test host: run by tests/run"]
fn vm_what_cannot_start_says_why_and_leaves_nothing_running() {
    with_libvirt("vm_what_cannot_start_says_why_and_leaves_nothing_running", async |bed| {
        let spec = bed.spec("no-disk").await;
        fs::remove_file(&spec.disk).expect("removed");
        bed.vm.ensure_defined(&spec).await.expect("define");
        let error = bed.vm.start(spec.id).await.expect_err("there is no disk");
        assert!(error.to_string().contains("disk.qcow2"), "{error}");
        assert!(!spec.disk.exists(), "an empty disk was made in place of one that is missing");

        let mut spec = bed.spec("huge").await;
        spec.memory = ByteSize::gib(1 << 17);
        bed.vm.ensure_defined(&spec).await.expect("define");
        let error = bed.vm.start(spec.id).await.expect_err("no host has that much");
        assert!(matches!(error, VmError::Capacity(_)), "{error:?}");

        let mut spec = bed.spec("cores").await;
        spec.cpus = 100_000;
        let error = match bed.vm.ensure_defined(&spec).await {
            Ok(_) => bed.vm.start(spec.id).await.expect_err("no machine has that many"),
            Err(error) => error,
        };
        assert!(matches!(error, VmError::Unsupported(_) | VmError::Refused(_)), "{error:?}");
        assert!(bed.vm.list().await.expect("list").iter().all(|seen| seen.off.is_some()));
    });
}

#[test]
#[ignore = "needs the test host: run by tests/run"]
fn vm_the_trial_guest_does_all_its_steps_on_a_whole_processor() {
    host::inside("vm_the_trial_guest_does_all_its_steps_on_a_whole_processor", |_| {
        let trial = runtime().block_on(try_guest("tcg", "max")).expect("QEMU is there");
        assert!(trial.passed(), "{trial:?}");
        // And where the processor lacks what the guest needs, it does not get far.
        let trial = runtime().block_on(try_guest("tcg", "max,-syscall")).expect("QEMU is there");
        assert_eq!((trial.passed(), trial.steps), (false, 6), "{trial:?}");
    });
}

#[test]
#[ignore = "needs the test host: run by tests/run"]
fn vm_whether_kvm_works_is_tried_once_in_a_boot() {
    host::inside("vm_whether_kvm_works_is_tried_once_in_a_boot", |host| {
        let state = host.folder("state");
        let kept = state.join("accel.json");
        let ask = || runtime().block_on(AccelProbe::new(AccelWish::Auto, &state).answer());
        let first = ask();
        if !Path::new("/dev/kvm").exists() {
            assert_eq!((first.accel, first.reason.as_str()), (Accel::Tcg, "there is no /dev/kvm"));
            assert!(!kept.exists());
            return;
        }
        println!("{first:?}");
        assert!(first.reason.starts_with("a trial guest"), "{first:?}");
        // A later daemon of this boot believes what is kept; one of another boot does not.
        let text = fs::read_to_string(&kept).expect("an answer that is kept");
        let mut json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        json["reason"] = "as kept".into();
        fs::write(&kept, json.to_string()).expect("written");
        assert_eq!(ask().reason, "as kept");
        json["boot_id"] = "another boot".into();
        fs::write(&kept, json.to_string()).expect("written");
        assert!(ask().reason.starts_with("a trial guest"));
    });
}
