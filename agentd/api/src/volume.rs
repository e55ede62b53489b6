//! The kind `volume`: what outlives the VMs and containers that have it. A block volume is a disk, attached by a VM's
//! `spec.volumes`, to one VM at a time. One with a file system is mounted by containers' `spec.mounts`, by several at once
//! if they like.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::FieldError;
use crate::kind::{ColumnDef, FieldDef, Kind, KindDef, RECONCILE, RETRY};
use crate::name::ObjectName;
use crate::quantity::ByteSize;
use crate::status::{State, StatusCommon};
use crate::vm::{DISK_MAX, DISK_MIN};

/// The space of allocations in which a VM takes a volume's id.
pub const ATTACHED: &str = "volume";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Volume;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VolumeSpec {
    /// The size that guests see. It can grow, attached or not, and never shrinks.
    pub size: ByteSize,
    /// Whether it is a disk for VMs or a file system for containers. Fixed once it is there.
    #[serde(default)]
    pub mode: VolumeMode,
    /// How it is kept. A file system is always raw, also where this is absent.
    #[serde(default)]
    pub format: VolumeFormat,
    /// An image whose content it begins with, copied; empty where absent. Of a block volume only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ObjectName>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum VolumeMode {
    /// A disk for VMs, with whatever a guest puts on it.
    #[default]
    Block,
    /// An ext4 of that size, which containers mount. It is full when it is full.
    Filesystem,
}

impl VolumeMode {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::Filesystem => "filesystem",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum VolumeFormat {
    #[default]
    Qcow2,
    Raw,
}

impl VolumeFormat {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Qcow2 => "qcow2",
            Self::Raw => "raw",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct VolumeStatus {
    #[serde(flatten)]
    pub common: StatusCommon,
    /// The size that it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<ByteSize>,
    /// Where its bytes are, on the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// What guests see as the disk's serial number, as in /dev/disk/by-id/virtio-SERIAL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// The VM that has it, or that has not let go of it yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attached_to: Option<VolumeAttachment>,
    /// The containers that have it among their mounts, whether they run or not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mounted_by: Vec<VolumeMount>,
    /// The block device that the engine mounts of it, while containers have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VolumeMount {
    pub container: ObjectName,
    /// Where in the container.
    pub path: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VolumeAttachment {
    pub vm: ObjectName,
    pub read_only: bool,
    /// What the running VM's disk is called, as vdc. Absent while its guest does not have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// It is to be detached, and the guest has not let go of it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub detaching: bool,
}

impl Kind for Volume {
    type Spec = VolumeSpec;
    type Status = VolumeStatus;

    const DEF: &'static KindDef = &KindDef {
        kind: "volume",
        plural: "volumes",
        summary: "A disk or a file system that outlives the VMs and containers that have it",
        states: &[
            State::Pending,
            State::Provisioning,
            State::Ready,
            State::Attached,
            State::Failed,
            State::Deleting,
        ],
        columns: &[
            ColumnDef::text("NAME", "/name"),
            ColumnDef::text("STATE", "/status/state"),
            ColumnDef::text("SIZE", "/status/size"),
            ColumnDef::text("MODE", "/spec/mode"),
            ColumnDef::text("FORMAT", "/spec/format"),
            ColumnDef::text("VM", "/status/attached_to/vm"),
            ColumnDef::text("DEVICE", "/status/attached_to/device"),
            ColumnDef::text("CONTAINERS", "/status/mounted_by/*/container"),
            ColumnDef::age("AGE", "/created_at"),
            ColumnDef::text("SERIAL", "/status/serial").wide(),
            ColumnDef::text("REASON", "/status/reason").wide(),
        ],
        fields: &[
            FieldDef { name: "state", path: "/status/state" },
            FieldDef { name: "vm", path: "/status/attached_to/vm" },
            FieldDef { name: "container", path: "/status/mounted_by/*/container" },
            FieldDef { name: "mode", path: "/spec/mode" },
            FieldDef { name: "format", path: "/spec/format" },
            FieldDef { name: "image", path: "/spec/image" },
        ],
        actions: &[RECONCILE, RETRY],
        subs: &[],
    };

    fn check(spec: &VolumeSpec) -> Vec<FieldError> {
        let size = size_error(spec.size).map(|message| FieldError::new("spec.size", message));
        let filled = (spec.mode == VolumeMode::Filesystem && spec.image.is_some()).then(|| {
            FieldError::new(
                "spec.image",
                "is for block volumes: a file system begins empty, as agentd makes it",
            )
        });
        size.into_iter().chain(filled).collect()
    }
    fn common(status: &VolumeStatus) -> &StatusCommon {
        &status.common
    }
    fn common_mut(status: &mut VolumeStatus) -> &mut StatusCommon {
        &mut status.common
    }
}

/// Why no disk can be of that size. Whole MiB, so that every backend can make it exactly so large.
pub(crate) fn size_error(size: ByteSize) -> Option<String> {
    if !(DISK_MIN..=DISK_MAX).contains(&size) {
        return Some(format!("must be {DISK_MIN} to {DISK_MAX}, not {size}"));
    }
    let whole = size.bytes().is_multiple_of(ByteSize::mib(1).bytes());
    (!whole).then(|| format!("must be a whole number of MiB, not {size}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn sizes_are_whole_and_formats_are_known() {
        let errors = |size: &str| {
            let spec: VolumeSpec = serde_json::from_value(json!({"size": size})).expect("a spec");
            Volume::check(&spec)
        };
        assert_eq!(errors("1GiB"), []);
        for bad in ["0", "15MiB", "100000001", "1GB", "99999TiB"] {
            assert_eq!(errors(bad)[0].field, "spec.size", "{bad}");
        }
        for bad in
            [json!({}), json!({"size": "1GiB", "format": "vmdk"}), json!({"size": "1GiB", "path": "/etc"})]
        {
            assert!(serde_json::from_value::<VolumeSpec>(bad.clone()).is_err(), "{bad}");
        }
        assert!(serde_json::from_value::<VolumeSpec>(json!({"size": "1GiB", "image": "../x"})).is_err());
        let filled = json!({"size": "1GiB", "mode": "filesystem", "image": "micro"});
        let filled: VolumeSpec = serde_json::from_value(filled).expect("a spec");
        assert_eq!(Volume::check(&filled)[0].field, "spec.image");
    }
}
