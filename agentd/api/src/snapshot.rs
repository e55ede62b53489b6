//! The kind `snapshot`: what a VM's own disks held at a moment, with or without what its guest had in memory.
//!
//! It lies in the VM's disks and goes with the VM. It is of a moment: one that could not be taken is `failed` and is not
//! tried again by itself.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::error::FieldError;
use crate::kind::{ActionDef, ColumnDef, FieldDef, Kind, KindDef, RECONCILE, RETRY};
use crate::name::ObjectName;
use crate::quantity::ByteSize;
use crate::status::{State, StatusCommon};
use crate::time::Timestamp;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Snapshot;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SnapshotSpec {
    /// The VM that it is of. Its attached volumes are not part of it.
    pub vm: ObjectName,
    /// With what the guest has in memory, so that it goes on from there. The guest is paused while that is written.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub memory: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct SnapshotStatus {
    #[serde(flatten)]
    pub common: StatusCommon,
    /// The id of the VM that it is of: another VM of the same name cannot be taken back to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vm_id: Option<Uuid>,
    /// The generation of the VM's spec when it was taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vm_generation: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub taken_at: Option<Timestamp>,
    /// What the guest was at: running, paused or stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guest: Option<State>,
    /// Whether the guest's file systems were brought to a stop meanwhile. Absent where there was no need: it was off or
    /// paused, or its memory is part of the snapshot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frozen: Option<bool>,
    /// Why they were not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_frozen_because: Option<String>,
    /// What would be free without it: what it alone still holds of the disks, and its memory. Grows with what the guest
    /// writes over; looked at now and then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<ByteSize>,
    /// Taken by the VM's `snapshot_policy`, which removes it in its time.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub by_policy: bool,
    /// It was taken for that alone, which removes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub taken_for: Option<TakenFor>,
    /// Set from before the guest's file systems are frozen until they are known not to be.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub freezing: bool,
}

/// What a snapshot that nobody asked for is of use to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TakenFor {
    /// A VM of that name, whose disks are made of it.
    Clone(ObjectName),
    /// An archive that is being made.
    Export(Uuid),
}

impl Kind for Snapshot {
    type Spec = SnapshotSpec;
    type Status = SnapshotStatus;

    const DEF: &'static KindDef = &KindDef {
        kind: "snapshot",
        plural: "snapshots",
        summary: "What a VM's disks, and its memory where wanted, held at a moment",
        states: &[State::Pending, State::Provisioning, State::Ready, State::Failed, State::Deleting],
        columns: &[
            ColumnDef::text("NAME", "/name"),
            ColumnDef::text("VM", "/spec/vm"),
            ColumnDef::text("STATE", "/status/state"),
            ColumnDef::text("MEMORY", "/spec/memory"),
            ColumnDef::text("FROZEN", "/status/frozen"),
            ColumnDef::text("SIZE", "/status/size"),
            ColumnDef::age("TAKEN", "/status/taken_at"),
            ColumnDef::text("GUEST", "/status/guest").wide(),
            ColumnDef::text("REASON", "/status/reason").wide(),
        ],
        fields: &[
            FieldDef { name: "state", path: "/status/state" },
            FieldDef { name: "vm", path: "/spec/vm" },
        ],
        actions: &[
            ActionDef { name: "restore", summary: "Take its VM back to it; the guest is stopped for that" },
            RECONCILE,
            RETRY,
        ],
        subs: &[],
    };

    fn check(_: &SnapshotSpec) -> Vec<FieldError> {
        Vec::new()
    }
    fn common(status: &SnapshotStatus) -> &StatusCommon {
        &status.common
    }
    fn common_mut(status: &mut SnapshotStatus) -> &mut StatusCommon {
        &mut status.common
    }
}
