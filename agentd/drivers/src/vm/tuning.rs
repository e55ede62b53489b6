//! How much of the host a guest may use, changed while it runs; and what of its machine can only be chosen at its start.

use std::collections::BTreeMap;
use std::path::PathBuf;

use agentd_api::vm::{CpuSet, DiskLimits, NicLimits, WatchdogAction};
use async_trait::async_trait;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::VmError;

/// Limits and pinning. The default limits nothing and pins nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tuning {
    /// Of the root disk.
    pub disk: DiskLimits,
    /// By the name of the tap. Interfaces without limits have no entry.
    pub nics: BTreeMap<String, NicLimits>,
    /// 1 to 10000; 100 is what a guest without has.
    pub cpu_shares: Option<u32>,
    /// Nothing, one set for the whole guest, or one for each CPU.
    pub pinning: Vec<CpuSet>,
}

impl Tuning {
    /// The same for equal ones.
    /// None for one that limits nothing.
    pub fn digest(&self) -> Option<String> {
        let digest = Sha256::digest(format!("{self:?}").as_bytes());
        (*self != Self::default()).then(|| hex::encode(&digest[..8]))
    }
}

/// What of a guest's machine cannot be changed while it runs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hardware {
    pub huge_pages: bool,
    /// Says nothing where absent: the guest has what QEMU gives it by itself.
    pub nesting: Option<Nesting>,
    pub watchdog: Option<WatchdogAction>,
    /// In place of the BIOS.
    pub uefi: Option<Uefi>,
    pub tpm: bool,
}

/// UEFI in flash memory, with a guest's own variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uefi {
    pub code: PathBuf,
    pub variables: PathBuf,
    pub secure: bool,
}

/// What of its machine a running guest was started with.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HardwareSeen {
    pub huge_pages: bool,
    /// Whether its CPUs were given the feature by which it can run guests of its own.
    pub nested: bool,
    pub watchdog: Option<WatchdogAction>,
    pub graphics: bool,
}

/// Whether the guest's CPUs have the feature by which it can run guests of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nesting {
    /// `vmx` or `svm`.
    pub feature: &'static str,
    pub wanted: bool,
}

/// A part of a tuning that the running guest was not given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unmet {
    /// Of the VM's spec: `cpu_shares`.
    pub field: &'static str,
    pub why: String,
    /// It is given it at its next start. Otherwise this host cannot.
    pub at_restart: bool,
}

#[async_trait]
pub trait VmTuning {
    /// Gives the running guest these limits and this pinning in place of those it has, and answers what of them it could
    /// not be given. Nothing is done where it is off: it gets them at its start. Missing where no such domain is there.
    async fn tune(&self, id: Uuid, tuning: &Tuning) -> Result<Vec<Unmet>, VmError>;
    /// What a running guest has. None where it is off or not there.
    async fn tuning(&self, id: Uuid) -> Result<Option<Tuning>, VmError>;
}
