//! VMs: what a driver of virtual machines must do.
//!
//! A domain is named by its VM's id, in libvirt's metadata and not by its name alone, so that a renamed or foreign
//! domain is never taken for ours.

pub mod accel;
pub mod console;
#[cfg(any(test, feature = "fake"))]
pub mod contract;
pub mod disks;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
pub mod firmware;
pub mod graphics;
pub mod guest;
pub mod libvirt;
pub mod nics;
pub mod resize;
pub mod snapshot;
pub mod stats;
pub mod tuning;
pub mod xml;

use std::path::PathBuf;

use agentd_api::quantity::ByteSize;
use agentd_api::vm::{Accel, AlarmKind};
use agentd_api::{MacAddr, ObjectName};
use async_trait::async_trait;
use tokio::sync::broadcast;
use uuid::Uuid;

pub use console::GuestConsole;
pub use disks::{Cdrom, DiskFormat, DiskSeen, DiskSource, DomainDisk, Unplugged, VmDisks};
pub use firmware::{HostFirmware, tpm_folder};
pub use graphics::GuestGraphics;
pub use tuning::{Hardware, HardwareSeen, Nesting, Tuning, Uefi, Unmet, VmTuning};

/// All that a domain is defined by. Two equal definitions make equal domains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainSpec {
    pub id: Uuid,
    pub project: ObjectName,
    pub name: ObjectName,
    pub cpus: u32,
    /// As many as can be plugged in while it runs.
    pub cpus_max: u32,
    pub memory: ByteSize,
    /// As much as its balloon can give it while it runs. Taken for `memory` where less.
    pub memory_max: ByteSize,
    /// A qcow2 file.
    pub disk: PathBuf,
    pub boot: Option<DirectBoot>,
    /// The NoCloud seed, a raw file, attached read-only.
    pub seed: Option<PathBuf>,
    /// Further disks. They, and the drive, are no part of the digest: they change while the guest runs.
    pub disks: Vec<DomainDisk>,
    pub cdrom: Option<Cdrom>,
    pub nics: Vec<DomainNic>,
    /// Where the serial console is logged, appended across starts.
    pub console_log: PathBuf,
    /// The Unix socket at which the guest's own agent is reached; none where its path would be too long for one.
    pub agent: Option<PathBuf>,
    pub accel: Accel,
    pub hardware: Hardware,
    /// Most of it is changed while the guest runs.
    pub tuning: Tuning,
    /// A screen, with VNC for those who are given a ticket.
    pub graphics: bool,
}

/// A kernel given to the guest in place of firmware's own search for one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectBoot {
    pub kernel: PathBuf,
    pub initrd: PathBuf,
    pub cmdline: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainNic {
    pub mac: MacAddr,
    pub bridge: String,
    pub tap: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Power {
    Off,
    Running,
    Paused,
}

/// Why a domain is off, as libvirt tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OffReason {
    /// The guest powered off, by itself or because ACPI asked it to.
    Shutdown,
    /// Somebody cut its power.
    Destroyed,
    /// Its emulator died or the guest panicked.
    Crashed,
    /// Its memory was written to a file, from which it can go on.
    Saved,
    /// It never ran, or libvirt does not know (its daemon was restarted meanwhile).
    Unknown,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainSeen {
    pub id: Uuid,
    pub power: Power,
    /// Set when `power` is Off.
    pub off: Option<OffReason>,
    /// Whether it is defined: a running domain that somebody undefined is not, and vanishes when it stops.
    pub persistent: bool,
    /// Whether its definition is the one that `ensure_defined` was last given (compared by a digest in its metadata).
    pub digest: Option<String>,
    pub accel: Option<Accel>,
    /// What the guest has at this moment, whatever its definition says. None while it is off.
    pub live: Option<LiveSeen>,
    /// Those of the running guest, or of the definition where it is off.
    pub disks: Vec<DiskSeen>,
}

impl DomainSeen {
    /// The disk of that serial.
    pub fn disk(&self, serial: &str) -> Option<&DiskSeen> {
        self.disks.iter().find(|disk| disk.serial.as_deref() == Some(serial))
    }
    pub fn cdrom(&self) -> Option<&DiskSeen> {
        self.disks.iter().find(|disk| disk.cdrom)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveSeen {
    /// The `fixed_digest` of what it was started by. None where that is not known.
    pub fixed: Option<String>,
    pub cpus: u32,
    pub cpus_max: u32,
    /// What its balloon leaves it.
    pub memory: ByteSize,
    pub memory_max: ByteSize,
    pub nics: Vec<NicSeen>,
    pub hardware: HardwareSeen,
}

/// An interface that a running guest has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NicSeen {
    pub mac: MacAddr,
    pub bridge: String,
    pub tap: String,
}

/// A change of a domain of ours. `id` is None where changes may have been missed (a reconnect): look at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainEvent {
    pub id: Option<Uuid>,
    /// The guest itself told of trouble.
    pub alarm: Option<AlarmKind>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Made,
    AlreadySo,
}

/// How guests' instructions run on this host, and how that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccelAnswer {
    pub accel: Accel,
    pub reason: String,
    /// Whether it stays so until the driver is made anew. Where it does not, asking again is worth it.
    pub settled: bool,
}

/// What a backend says of itself when asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    pub version: String,
    pub capabilities: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum VmError {
    #[error("libvirt cannot be reached at {uri}: {detail}")]
    Unavailable { uri: String, detail: String },
    #[error("libvirt gave no answer within {seconds} s to '{call}'")]
    Deadline { call: &'static str, seconds: u64 },
    #[error("the host has no room for this VM: {0}")]
    Capacity(String),
    #[error("something on the host that is not ours is in the way: {0}")]
    Conflict(String),
    #[error("libvirt refuses this VM: {0}")]
    Refused(String),
    #[error("this host's libvirt or QEMU cannot do this: {0}")]
    Unsupported(String),
    #[error("libvirt failed to {call}: {detail}")]
    Failed { call: &'static str, detail: String },
    #[error("no domain of VM {0} is defined")]
    Missing(Uuid),
    #[error("VM {id} has no disk '{disk}'")]
    NoDisk { id: Uuid, disk: String },
    #[error("the guest of VM {0} does not run")]
    Off(Uuid),
    #[error("'{0}' holds a NUL character")]
    Nul(String),
}

impl crate::Classed for VmError {
    fn class(&self) -> crate::Class {
        use crate::Class;
        match self {
            Self::Unavailable { .. }
            | Self::Deadline { .. }
            | Self::Failed { .. }
            | Self::Missing(_)
            | Self::NoDisk { .. }
            | Self::Off(_) => Class::Transient,
            Self::Capacity(_) => Class::Capacity,
            Self::Conflict(_) => Class::Conflict,
            Self::Refused(_) | Self::Nul(_) => Class::Permanent,
            Self::Unsupported(_) => Class::Unsupported,
        }
    }
}

/// Every call is idempotent, has a deadline of its own, and goes on to its end when its caller stops waiting.
#[async_trait]
pub trait VmDriver:
    VmDisks
    + VmTuning
    + GuestConsole
    + GuestGraphics
    + guest::GuestDriver
    + nics::VmNics
    + resize::VmResize
    + snapshot::VmSnapshots
    + stats::VmStats
{
    /// Whether the backend answers. Cheap; asked every few seconds.
    async fn probe(&self) -> Result<Probe, VmError>;
    /// How guests run here. The first call in a boot of the host may take seconds; the answer is remembered.
    async fn accel(&self) -> AccelAnswer;
    /// What guests can be started with here beside the BIOS. Looks anew; cheap.
    fn firmware(&self) -> HostFirmware;
    /// All domains of this daemon, defined or only running.
    async fn list(&self) -> Result<Vec<DomainSeen>, VmError>;
    /// One domain, or None where there is none.
    async fn observe(&self, id: Uuid) -> Result<Option<DomainSeen>, VmError>;
    /// Defines the domain, or defines it anew where its definition differs, its disks included. A running guest goes on as it is. Conflict
    /// where a domain that is not ours has its id or its name.
    async fn ensure_defined(&self, spec: &DomainSpec) -> Result<Change, VmError>;
    /// The digest that `DomainSeen::digest` has when the domain is defined by `spec`.
    fn digest(&self, spec: &DomainSpec) -> String;
    /// As `digest`, of what cannot be changed while the guest runs: the same as `LiveSeen::fixed` where only what can be
    /// changed differs.
    fn fixed_digest(&self, spec: &DomainSpec) -> String;
    /// AlreadySo where it runs or is paused; Missing where it is not defined.
    async fn start(&self, id: Uuid) -> Result<Change, VmError>;
    /// Asks the guest to power off (ACPI) and returns at once. AlreadySo where it is off.
    async fn shutdown(&self, id: Uuid) -> Result<Change, VmError>;
    /// Cuts the power. AlreadySo where it is off or not there.
    async fn destroy(&self, id: Uuid) -> Result<Change, VmError>;
    /// Pausing or resuming a guest that is off fails, as Failed.
    async fn pause(&self, id: Uuid) -> Result<Change, VmError>;
    async fn resume(&self, id: Uuid) -> Result<Change, VmError>;
    /// Removes the definition, with all that libvirt keeps beside it. Fails, as Failed, while the
    /// guest runs. AlreadySo where gone.
    async fn undefine(&self, id: Uuid) -> Result<Change, VmError>;
    /// Changes as they happen. A receiver that lags must look at all.
    fn events(&self) -> broadcast::Receiver<DomainEvent>;
    /// Ends threads and connections; guests go on. Returns within a second.
    async fn close(&self);
}
