//! VMs that are made of others: what is wanted of one, and what is known of where it came from.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::name::ObjectName;

/// What a new VM's disks are made of, in place of its image. What the spec leaves open is as in that VM's spec, but for
/// what can be one VM's only: fixed addresses, published ports, volumes, an expiry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VmSource {
    /// A VM that has its disks. It may run, and goes on.
    pub vm: ObjectName,
    /// One of its snapshots; as it is now where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<ObjectName>,
    #[serde(default, skip_serializing_if = "CloneMode::is_default")]
    pub mode: CloneMode,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CloneMode {
    /// Its disks stand on what the source's held at the snapshot. Only what was written since the source was made is
    /// copied, and clones of one snapshot share that.
    #[default]
    Linked,
    /// Its disks stand on nothing.
    Full,
}

impl CloneMode {
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Where a VM's disks came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VmOrigin {
    pub vm: ObjectName,
    pub vm_id: Uuid,
    /// Absent where it came in an archive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<OriginSnapshot>,
    pub mode: CloneMode,
    /// The sets of disks that its own stand on, the nearest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bases: Vec<Uuid>,
    /// The set of disks that become its further ones, of an archive that has such.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set: Option<Uuid>,
    /// Its disks are there. From then on the source may change and go.
    #[serde(default)]
    pub disks_made: bool,
}

impl VmOrigin {
    /// Whether its disks are still to be made of that snapshot.
    pub fn awaits(&self, snapshot: Uuid) -> bool {
        !self.disks_made && self.snapshot.as_ref().is_some_and(|of| of.id == snapshot)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OriginSnapshot {
    pub name: ObjectName,
    pub id: Uuid,
    /// It was taken for this VM alone, and goes once the VM's disks are made.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub own: bool,
}
