//! What a VM's domain and seed are, worked out from its spec and what it needs. Pure.

use agentd_api::Object;
use agentd_api::vm::{Accel, Firmware, Vm, VmSeeded, VmSpec};
use agentd_drivers::Instance;
use agentd_drivers::image::ImageContent;
use agentd_drivers::vm::{
    Cdrom, DirectBoot, DomainDisk, DomainNic, DomainSpec, Hardware, Nesting, Tuning, Uefi,
};
use agentd_drivers::volume::{Seed, SeedNic};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::path::PathBuf;
use uuid::Uuid;

use super::needs::Needs;
use crate::reconcile::network;

/// The VM's files on this host.
pub struct Files {
    pub disk: PathBuf,
    pub seed: Option<PathBuf>,
    pub console_log: PathBuf,
    /// Further disks and volumes.
    pub disks: Vec<DomainDisk>,
    pub cdrom: Option<Cdrom>,
    pub uefi: Option<Uefi>,
}

/// How the domain is bound to this host.
pub struct Binding<'a> {
    pub instance: &'a Instance,
    pub accel: Accel,
    pub host_cpus: u32,
    /// The feature by which this host's processors run guests.
    pub nesting: Option<&'static str>,
    /// MAC address and network id of each interface, with the bridge of that network.
    pub nics: Vec<(agentd_api::MacAddr, Uuid, String)>,
}

/// How many CPUs can be plugged in where the spec does not say. A CPU that is not there costs the guest a quarter of a
/// MiB.
fn headroom(cpus: u32, host: u32) -> u32 {
    host.min(cpus.saturating_mul(2).max(4)).max(cpus)
}

/// Whether the image's own kernel starts it, where there is one.
pub fn starts_directly(spec: &VmSpec) -> bool {
    matches!(spec.firmware, None | Some(Firmware::Direct))
}

pub fn domain(object: &Object<Vm>, content: &ImageContent, files: Files, binding: Binding) -> DomainSpec {
    let id = object.meta.id;
    let nics = binding.nics.into_iter().enumerate();
    DomainSpec {
        id,
        project: object.meta.project.clone(),
        name: object.meta.name.clone(),
        cpus: object.spec.cpus,
        cpus_max: object.spec.cpus_max.unwrap_or_else(|| headroom(object.spec.cpus, binding.host_cpus)),
        memory: object.spec.memory,
        memory_max: object.spec.memory_max.unwrap_or(object.spec.memory),
        disk: files.disk,
        boot: content
            .boot
            .clone()
            .filter(|_| starts_directly(&object.spec))
            .map(|boot| renewed(object, boot)),
        seed: files.seed,
        disks: files.disks,
        cdrom: files.cdrom,
        nics: nics
            .map(|(n, (mac, _, bridge))| DomainNic { mac, bridge, tap: binding.instance.tap(id, n) })
            .collect(),
        console_log: files.console_log,
        agent: binding.instance.agent_socket(id),
        accel: binding.accel,
        graphics: object.spec.graphics,
        hardware: Hardware {
            huge_pages: object.spec.huge_pages,
            nesting: binding.nesting.map(|feature| Nesting { feature, wanted: object.spec.nested }),
            watchdog: object.spec.watchdog,
            uefi: files.uefi,
            tpm: object.spec.tpm,
        },
        tuning: tuning(object, |n| binding.instance.tap(id, n)),
    }
}

/// What was made of another VM has that one's machine id on its disk, where systemd looks for it after the kernel's
/// command line.
fn renewed(object: &Object<Vm>, boot: DirectBoot) -> DirectBoot {
    match machine_id(object) {
        Some(id) => DirectBoot { cmdline: format!("{} systemd.machine_id={id}", boot.cmdline), ..boot },
        None => boot,
    }
}

/// The machine id of a guest whose disk has another's: the same at every start, and nobody's secret. None where the
/// guest makes its own at its first boot.
fn machine_id(object: &Object<Vm>) -> Option<String> {
    object.status.origin.as_ref()?;
    let hash = Sha256::digest(format!("machine-id of {}", object.meta.id));
    let mut bytes: [u8; 16] = hash[..16].try_into().ok()?;
    // Of the form of a random UUID, as systemd makes them.
    (bytes[6], bytes[8]) = (bytes[6] & 0x0f | 0x40, bytes[8] & 0x3f | 0x80);
    Some(Uuid::from_bytes(bytes).simple().to_string())
}

/// `tap` names the tap of the n-th interface.
pub fn tuning(object: &Object<Vm>, tap: impl Fn(usize) -> String) -> Tuning {
    let spec = &object.spec;
    let nics = spec.networks.iter().enumerate().filter(|(_, nic)| !nic.limits.is_default());
    Tuning {
        disk: spec.disk_limits,
        nics: nics.map(|(n, nic)| (tap(n), nic.limits)).collect(),
        cpu_shares: spec.cpu_shares,
        pinning: spec.cpu_pinning.clone(),
    }
}

/// What tells whether a guest was started with this seed or another.
pub fn seeded(spec: &VmSpec) -> VmSeeded {
    fn digest(value: &impl Serialize) -> String {
        let text = serde_json::to_vec(value).unwrap_or_default();
        hex::encode(&Sha256::digest(text)[..8])
    }
    VmSeeded {
        user_data: digest(&spec.user_data),
        network_config: digest(&spec.network_config),
        ssh_keys: digest(&spec.ssh_keys),
    }
}

pub fn seed(object: &Object<Vm>, needs: &Needs) -> Seed {
    let domain = needs.nics.first().map(|n| network::domain(&n.network.meta.project, &n.network.meta.name));
    Seed {
        vm: object.meta.id,
        hostname: object.meta.name.clone(),
        domain,
        ssh_keys: needs.ssh_keys.clone(),
        user_data: object.spec.user_data.clone(),
        network_config: object.spec.network_config.clone(),
        // What is built here has it in it.
        machine_id: machine_id(object)
            .filter(|_| needs.content.boot.is_none() || !starts_directly(&object.spec)),
        guest_program: needs.content.source_format != "built",
        nics: needs
            .nics
            .iter()
            .map(|nic| SeedNic {
                mac: nic.address.mac,
                ip: nic.address.ip,
                cidr: nic.network.spec.cidr,
                gateway: nic.network.spec.cidr.gateway(),
            })
            .collect(),
    }
}
