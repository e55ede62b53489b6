//! libvirt with real guests, as a bed for the contract suite.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use agentd_api::ByteSize;
use agentd_api::vm::Accel;
use agentd_drivers::Instance;
use agentd_drivers::vm::accel::AccelWish;
use agentd_drivers::vm::contract::Bed;
use agentd_drivers::vm::libvirt::{LibvirtOptions, LibvirtVm};
use agentd_drivers::vm::{DirectBoot, DiskFormat, DiskSource, DomainDisk, DomainSpec, VmDriver};
use async_trait::async_trait;
use nix::sys::signal::Signal;
use uuid::Uuid;

use crate::host::{self, Host, guest, run, virsh};

/// A guest boots in some 3 s under emulation; the rest is for a busy host.
const BOOT: Duration = Duration::from_secs(90);

pub struct LibvirtBed {
    pub vm: Arc<LibvirtVm>,
    pub instance: Instance,
    kernel: PathBuf,
    initrd: PathBuf,
}

impl LibvirtBed {
    /// A driver of a state directory of that name. libvirt need not be there yet.
    pub fn new(host: &Host, state: &str) -> Self {
        let instance = Instance::new(&host.folder(state));
        host.folder(&format!("{state}/vms"));
        let images = host.folder(&format!("{state}/images"));
        let (kernel, initrd) = guest::ensure();
        let copy = |from: &Path, name: &str| {
            let to = images.join(name);
            fs::copy(from, &to).expect("a copy");
            to
        };
        let (kernel, initrd) = (copy(&kernel, "kernel"), copy(&initrd, "initrd"));
        let options = LibvirtOptions {
            uri: "qemu:///system".to_owned(),
            instance: instance.clone(),
            accel: AccelWish::Tcg,
        };
        Self { vm: LibvirtVm::new(options), instance, kernel, initrd }
    }

    /// A domain whose guest is up.
    pub async fn running(&self, name: &str) -> DomainSpec {
        let spec = self.spec(name).await;
        self.vm.ensure_defined(&spec).await.expect("define");
        self.vm.start(spec.id).await.expect("start");
        self.booted(&spec, 1).await;
        spec
    }

    pub fn domain(&self, spec: &DomainSpec) -> String {
        format!("agentd-{}-{}.{}", self.instance.tag(), spec.project, spec.name)
    }

    /// The process of a running guest.
    pub fn emulator(&self, spec: &DomainSpec) -> u32 {
        let file = format!("/run/libvirt/qemu/{}.pid", self.domain(spec));
        fs::read_to_string(file).expect("a pid file").trim().parse().expect("a pid")
    }
}

fn qemu_io(spec: &DomainSpec, command: &str) {
    let disk = spec.disk.to_str().expect("UTF-8");
    let said = run("/usr/bin/qemu-io", &["-f", "qcow2", "-c", command, disk]).expect("qemu-io");
    assert!(!said.contains("failed"), "{command}: {said}");
}

pub fn console(spec: &DomainSpec) -> String {
    String::from_utf8_lossy(&fs::read(&spec.console_log).unwrap_or_default()).into_owned()
}

#[async_trait]
impl Bed for LibvirtBed {
    fn driver(&self) -> &dyn VmDriver {
        &*self.vm
    }

    async fn spec(&self, name: &str) -> DomainSpec {
        let id = Uuid::now_v7();
        let folder = self.instance.vm_dir(id);
        fs::create_dir_all(&folder).expect("a folder");
        run("/bin/chmod", &["0711", folder.to_str().expect("UTF-8")]).expect("chmod");
        let disk = folder.join("disk.qcow2");
        run("/usr/bin/qemu-img", &["create", "-q", "-f", "qcow2", disk.to_str().expect("UTF-8"), "16M"])
            .expect("a disk");
        let boot = DirectBoot {
            kernel: self.kernel.clone(),
            initrd: self.initrd.clone(),
            cmdline: guest::CMDLINE.to_owned(),
        };
        DomainSpec {
            id,
            project: "default".parse().expect("a name"),
            name: name.parse().expect("a name"),
            cpus: 1,
            cpus_max: 2,
            memory: ByteSize::mib(128),
            memory_max: ByteSize::mib(128),
            disk,
            boot: Some(boot),
            seed: None,
            disks: Vec::new(),
            cdrom: None,
            nics: Vec::new(),
            console_log: folder.join("console.log"),
            agent: Some(folder.join("agent.sock")),
            accel: Accel::Tcg,
            hardware: Default::default(),
            tuning: Default::default(),
            graphics: false,
        }
    }

    async fn booted(&self, spec: &DomainSpec, time: usize) {
        host::wait_until("the guest is up", BOOT, || {
            let log = console(spec);
            if log.matches(guest::UP).count() >= time { Ok(()) } else { Err(log) }
        });
    }

    async fn disk(&self, spec: &DomainSpec, serial: &str) -> DomainDisk {
        let file = spec.disk.with_file_name(format!("{serial}.qcow2"));
        run("/usr/bin/qemu-img", &["create", "-q", "-f", "qcow2", file.to_str().expect("UTF-8"), "16M"])
            .expect("a disk");
        DomainDisk {
            serial: serial.to_owned(),
            source: DiskSource::File(file),
            format: DiskFormat::Qcow2,
            read_only: false,
        }
    }

    async fn iso(&self, spec: &DomainSpec, number: u32) -> PathBuf {
        let file = spec.disk.with_file_name(format!("{number}.iso"));
        run("/usr/bin/qemu-img", &["create", "-q", "-f", "qcow2", file.to_str().expect("UTF-8"), "1M"])
            .expect("a disc");
        file
    }

    async fn write_disk(&self, spec: &DomainSpec, byte: u8) {
        qemu_io(spec, &format!("write -q -P {byte} 0 1M"));
    }

    async fn disk_holds(&self, spec: &DomainSpec, byte: u8) {
        // Says so, and ends with 1, where another byte is there.
        qemu_io(spec, &format!("read -q -P {byte} 0 1M"));
    }

    async fn booted_only(&self, spec: &DomainSpec, times: usize) {
        let log = console(spec);
        assert_eq!(log.matches(guest::UP).count(), times, "{log}");
    }

    async fn bridge(&self) -> String {
        const BRIDGE: &str = "br-contract";
        match run("/usr/sbin/ip", &["link", "add", BRIDGE, "type", "bridge"]) {
            Err(error) if !error.to_string().contains("File exists") => panic!("a bridge: {error}"),
            _ => {}
        }
        BRIDGE.to_owned()
    }

    async fn destroy_behind(&self, id: Uuid) {
        virsh(&["destroy", &id.to_string()]).expect("virsh destroy");
    }

    async fn undefine_behind(&self, id: Uuid) {
        virsh(&["undefine", &id.to_string()]).expect("virsh undefine");
    }

    async fn crash_behind(&self, id: Uuid) {
        let name = virsh(&["domname", &id.to_string()]).expect("virsh domname");
        let pid = fs::read_to_string(format!("/run/libvirt/qemu/{}.pid", name.trim())).expect("a pid file");
        host::signal(pid.trim().parse().expect("a pid"), Signal::SIGKILL);
    }
}
