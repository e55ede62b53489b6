//! What was seen of a VM.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::guest::VmGuest;
use super::memory::{SnapshotsTaken, VmRestore, VmRestored, VmSaved};
use super::origin::VmOrigin;
use crate::name::ObjectName;
use crate::nic::NicAddress;
use crate::status::{State, StatusCommon};
use crate::time::Timestamp;

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct VmStatus {
    #[serde(flatten)]
    pub common: StatusCommon,
    /// One for each of `spec.networks`, in that order. Allocated when the VM is written down.
    pub addresses: Vec<NicAddress>,
    /// The volumes that it has or is to have, and those that its guest has not let go of. Allocated with the spec.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<VmVolumeStatus>,
    /// Of interfaces that are no longer in `spec.networks` and that its guest still has. Kept until it has let go of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub leaving: Vec<NicAddress>,
    /// How its instructions run: "kvm" or "tcg". Known once it was started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accel: Option<Accel>,
    /// The digest of the image that its disk stands on. Fixed when the disk is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_digest: Option<String>,
    /// What its disks were made of, where that is not its image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<VmOrigin>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// How it last went from running to off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_stop: Option<VmStop>,
    /// What its guest says on the serial console is kept here, on the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub console_log: Option<String>,
    /// The boot of the host (its boot_id) in which the guest was last seen running.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_boot: Option<String>,
    /// What its guest says of itself, while its agent answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guest: Option<VmGuest>,
    /// Set while a restart that was asked for has not been done.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub restart_requested: bool,
    /// The last generation of the spec at which the guest was seen running.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_generation: Option<u64>,
    /// How often in a row its restart policy started it again after less than a minute.
    #[serde(skip_serializing_if = "is_zero")]
    pub restarts: u32,
    /// The boot of the host until whose end it is kept off, although it is wanted to run: see the action
    /// `stop-until-boot`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_boot: Option<String>,
    /// A digest of the limits and pinning that the running guest was last given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tuned: Option<String>,
    /// Digests of what the guest's seed brought it when it was started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seeded: Option<VmSeeded>,
    /// What of its limits it is given at its next start.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub awaits_restart: Vec<String>,
    /// The last sign of its own that the guest was in trouble.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_alarm: Option<VmAlarm>,
    /// The memory of a suspended guest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub saved: Option<VmSaved>,
    /// Set while it is taken back to a snapshot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restore: Option<VmRestore>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_restore: Option<VmRestored>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduled: Option<SnapshotsTaken>,
}

impl VmStatus {
    /// Whether its guest was up when it was last looked at.
    pub fn was_up(&self) -> bool {
        match (self.started_at, &self.last_stop) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(started), Some(stop)) => stop.at < started,
        }
    }
    /// Whether its guest may be using its interfaces at this moment.
    pub fn may_run(&self) -> bool {
        let state = self.common.state;
        self.was_up()
            || matches!(state, State::Running | State::Paused | State::Suspended | State::Provisioning)
    }
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// Of fields of the spec that reach a guest by its seed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VmSeeded {
    pub user_data: String,
    pub network_config: String,
    pub ssh_keys: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VmVolumeStatus {
    pub volume: ObjectName,
    /// The volume's id: another one may come under its name.
    pub id: Uuid,
    pub read_only: bool,
    /// What its disk is called in the running domain, as vdc. Absent while the guest does not have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// It is not wanted any more, and is another VM's only once this guest has let go of it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub detaching: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VmStop {
    pub how: StopKind,
    pub at: Timestamp,
    /// The generation of the spec at that time: a guest that ended by itself stays off until that changes.
    pub generation: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VmAlarm {
    pub what: AlarmKind,
    pub at: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AlarmKind {
    /// Its kernel panicked.
    Panic,
    /// It stopped feeding its watchdog.
    Watchdog,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StopKind {
    /// agentd asked by ACPI and the guest powered off within its grace.
    Acpi,
    /// The grace ran out, and agentd cut the power.
    Forced,
    /// The guest powered off by itself.
    Guest,
    /// The guest crashed, or its emulator died.
    Crashed,
    /// The guest's kernel panicked, and said so.
    Panicked,
    /// The guest stopped feeding its watchdog, which cut its power.
    Watchdog,
    /// Somebody else destroyed the domain.
    Destroyed,
    /// Its memory was written to disk.
    Suspended,
    /// It was taken back to a snapshot.
    Restored,
    /// The host went down with the guest running.
    HostDown,
    /// It ended while nobody watched, and libvirt does not know how.
    Unknown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Accel {
    Kvm,
    Tcg,
}

impl Accel {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }
}
