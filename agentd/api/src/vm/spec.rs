//! What is wanted of a VM.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::firmware::Firmware;
use super::memory::SnapshotPolicy;
use super::origin::VmSource;
use super::tuning::WatchdogAction;
use crate::cpu::CpuSet;
use crate::life::{self, Autostart, RestartPolicy};
use crate::limits::DiskLimits;
use crate::name::ObjectName;
use crate::net::PortMap;
use crate::nic::{NicSpec, default_networks};
use crate::quantity::{ByteSize, Span};
use crate::time::Timestamp;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VmSpec {
    /// The image its disk starts as. A recipe's name builds the image when it is not there.
    pub image: ObjectName,
    /// Another VM that it is made of. Its image is then that VM's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<VmSource>,
    /// The flavor that its size is of. What the flavor says is written into this spec when the VM is made of it or changed
    /// to it, and cannot be contradicted here; a later change of the flavor changes nothing of the VM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flavor: Option<ObjectName>,
    #[serde(default = "one")]
    #[schema(minimum = 1, maximum = 256)]
    pub cpus: u32,
    /// As many as it can be given while it runs. Where absent, as many as the host has, but at most twice `cpus` or four.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 256)]
    pub cpus_max: Option<u32>,
    #[serde(default = "default_memory")]
    pub memory: ByteSize,
    /// As much as it can be given while it runs; what it was started with where absent. Its balloon holds what is over,
    /// so that a guest without a driver for that has all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_max: Option<ByteSize>,
    /// The size of its disk; the image's own where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<ByteSize>,
    /// Further disks of its own, which go with it. They can be added and grown, also while it runs; not taken away.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 16)]
    pub disks: Vec<VmDisk>,
    /// Volumes that are attached to it, plugged and unplugged also while it runs. They stay when it is deleted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 64)]
    pub volumes: Vec<VmVolume>,
    /// An image of the format iso, in its CD-ROM drive. Changed and taken out also while it runs; a VM that was started
    /// without one has no drive until it is started again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iso: Option<ObjectName>,
    /// What starts it. Where absent, the image's own kernel or, where it has none, the BIOS. Changed, it holds from the
    /// VM's next start on; not while its memory is on disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firmware: Option<Firmware>,
    /// Gives it a TPM 2.0, whose content stays until the VM is deleted: going back to a snapshot without memory leaves
    /// it as it is.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tpm: bool,
    #[serde(default = "default_networks")]
    #[schema(max_items = 64)]
    pub networks: Vec<NicSpec>,
    /// Names of `ssh-key` objects, put into the guest by cloud-init.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ssh_keys: Vec<ObjectName>,
    /// cloud-init user-data, at most 256 KiB, given to the guest as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_data: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub publish: Vec<PortMap>,
    #[serde(default)]
    pub desired: VmDesired,
    /// What happens when the guest ends by itself or by somebody else's hand.
    #[serde(default)]
    pub restart: RestartPolicy,
    /// How long a guest has to power off after ACPI asked it to, before it is forced off.
    #[serde(default = "default_grace")]
    pub grace: Span,
    /// Deletes the VM once it has stopped.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub remove_when_stopped: bool,
    /// When it is deleted, with its disk. Never where absent, null, or 1970-01-01T00:00:00Z.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// How it is started after a boot of the host, if it was wanted to run.
    #[serde(default, skip_serializing_if = "Autostart::is_default")]
    pub autostart: Autostart,
    /// cloud-init network-config, at most 64 KiB, given to the guest as it is in place of agentd's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_config: Option<String>,
    #[serde(default, skip_serializing_if = "DiskLimits::is_default")]
    pub disk_limits: DiskLimits,
    /// The host's processors that its CPUs may run on: one set for all of them, or one for each CPU.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 256)]
    pub cpu_pinning: Vec<CpuSet>,
    /// Its weight where guests compete for processors; a VM without one has 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 10000)]
    pub cpu_shares: Option<u32>,
    /// Its memory comes from the host's reserved huge pages.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub huge_pages: bool,
    /// Its guest can run guests of its own under KVM.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub nested: bool,
    /// Gives it a watchdog, and says what happens when the guest stops feeding it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watchdog: Option<WatchdogAction>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_policy: Option<SnapshotPolicy>,
    /// Gives it a screen, for `vnc` and `screenshot`. Without one it boots faster.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub graphics: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VmDisk {
    pub size: ByteSize,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VmVolume {
    pub volume: ObjectName,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum VmDesired {
    #[default]
    Running,
    Stopped,
    Paused,
    /// Off, with its memory on disk. A guest that is off already stays so.
    Suspended,
}

fn one() -> u32 {
    1
}
fn default_memory() -> ByteSize {
    ByteSize::mib(512)
}
fn default_grace() -> Span {
    Span::seconds(30)
}

impl VmSpec {
    /// When it is deleted. A missing time and the zero of the clock (1970-01-01T00:00:00Z) are both never.
    pub fn expiry(&self) -> Option<Timestamp> {
        life::expiry(self.expires_at)
    }
}
