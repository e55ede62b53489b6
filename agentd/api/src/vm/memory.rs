//! What goes beyond one run of a guest: snapshots on a schedule, memory that is kept on disk, a way back to a snapshot.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::name::ObjectName;
use crate::quantity::ByteSize;
use crate::time::Timestamp;

pub const KEEP_MAX: u32 = 1000;

/// Snapshots that are taken by themselves. Those that go are only ones that it took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SnapshotPolicy {
    /// When, as cron has it, in UTC: minute, hour, day of month, month, day of week; six fields begin with the second.
    /// A guest that has been off since the last one is left out. Of times that were missed while agentd was away one is
    /// made up for.
    #[schema(max_length = 256)]
    pub schedule: String,
    /// How many of them stay; the oldest goes once a newer one is whole.
    #[schema(minimum = 1, maximum = 1000)]
    pub keep: u32,
}

/// How far a policy has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SnapshotsTaken {
    /// The schedule that `last` is of: another one begins anew.
    pub schedule: String,
    /// When it was last its time, or when the schedule was first seen.
    pub last: Timestamp,
}

/// A guest's memory on disk, from which it goes on when it is started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VmSaved {
    /// Absent while it is being written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<ByteSize>,
    /// It is to be thrown away: the guest is started anew.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub discard: bool,
}

/// A VM on its way back to a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VmRestore {
    pub snapshot: ObjectName,
    pub id: Uuid,
    pub memory: bool,
    #[serde(default)]
    pub phase: RestorePhase,
    /// The guest was up, and is to be again if it fails; its memory is kept until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub was: Option<GuestWas>,
    /// Why it is given up, in phase `undoing`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RestorePhase {
    /// Nothing but the guest's power has been changed.
    #[default]
    Stopping,
    /// The disks are being taken back; how they were is kept beside.
    Reverting,
    /// They have been; the guest goes on from the snapshot's memory.
    Starting,
    /// It failed, and the VM is being made as it was.
    Undoing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum GuestWas {
    Running,
    Paused,
}

/// How the last way back to a snapshot ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VmRestored {
    pub snapshot: ObjectName,
    pub id: Uuid,
    pub at: Timestamp,
    /// Why it failed; the VM is as it was before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}
