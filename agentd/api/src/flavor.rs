//! The kind `flavor`: a size of VMs, by a name. It holds for a VM that is made of it or changed to it: what it says then is
//! written into the VM's spec and cannot be contradicted there. A flavor that is changed later changes no VM.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::FieldError;
use crate::kind::{ColumnDef, FieldDef, Kind, KindDef, RECONCILE, RETRY};
use crate::limits::{self, DiskLimits, NicLimits};
use crate::quantity::ByteSize;
use crate::status::{State, StatusCommon};
use crate::vm::{CPUS_MAX, DISK_MAX, DISK_MIN, MEMORY_MIN};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flavor;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FlavorSpec {
    #[schema(minimum = 1, maximum = 256)]
    pub cpus: u32,
    pub memory: ByteSize,
    /// The size of the disk; a VM's own affair where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<ByteSize>,
    /// A VM's own affair where there are none.
    #[serde(default, skip_serializing_if = "DiskLimits::is_default")]
    pub disk_limits: DiskLimits,
    /// Of each of its interfaces. A VM's own affair where there are none.
    #[serde(default, skip_serializing_if = "NicLimits::is_default")]
    pub nic_limits: NicLimits,
    /// A VM's own affair where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 10000)]
    pub cpu_shares: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct FlavorStatus {
    #[serde(flatten)]
    pub common: StatusCommon,
}

/// Those that are there without being asked for, until somebody deletes them. They are in the project `default`, whose
/// flavors VMs of every project can be made of, where their own has none of that name.
pub fn shipped() -> [(&'static str, FlavorSpec); 3] {
    let size = |cpus, memory, disk| FlavorSpec {
        cpus,
        memory,
        disk: Some(disk),
        disk_limits: DiskLimits::default(),
        nic_limits: NicLimits::default(),
        cpu_shares: None,
    };
    [
        ("small", size(1, ByteSize::mib(512), ByteSize::gib(10))),
        ("medium", size(2, ByteSize::gib(2), ByteSize::gib(20))),
        ("large", size(4, ByteSize::gib(8), ByteSize::gib(40))),
    ]
}

impl Kind for Flavor {
    type Spec = FlavorSpec;
    type Status = FlavorStatus;

    const DEF: &'static KindDef = &KindDef {
        kind: "flavor",
        plural: "flavors",
        summary: "A size of VMs, by a name",
        states: &[State::Pending, State::Ready, State::Deleting],
        columns: &[
            ColumnDef::text("NAME", "/name"),
            ColumnDef::text("PROJECT", "/project"),
            ColumnDef::text("CPUS", "/spec/cpus"),
            ColumnDef::text("MEMORY", "/spec/memory"),
            ColumnDef::text("DISK", "/spec/disk"),
            ColumnDef::age("AGE", "/created_at"),
        ],
        fields: &[FieldDef { name: "state", path: "/status/state" }],
        actions: &[RECONCILE, RETRY],
        subs: &[],
    };

    fn check(spec: &FlavorSpec) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let mut wrong =
            |field: &str, message: String| errors.push(FieldError::new(format!("spec.{field}"), message));
        if !(1..=CPUS_MAX).contains(&spec.cpus) {
            wrong("cpus", format!("must be 1 to {CPUS_MAX}, not {}", spec.cpus));
        }
        if spec.memory < MEMORY_MIN || !spec.memory.bytes().is_multiple_of(ByteSize::mib(1).bytes()) {
            wrong("memory", format!("must be at least {MEMORY_MIN}, in whole MiB, not {}", spec.memory));
        }
        if let Some(disk) = spec.disk
            && (!(DISK_MIN..=DISK_MAX).contains(&disk) || !disk.bytes().is_multiple_of(512))
        {
            wrong("disk", format!("must be {DISK_MIN} to {DISK_MAX}, a multiple of 512 bytes, not {disk}"));
        }
        limits::check_disk("disk_limits", &spec.disk_limits, &mut wrong);
        limits::check_nic("nic_limits", &spec.nic_limits, &mut wrong);
        limits::check_shares(spec.cpu_shares, &mut wrong);
        errors
    }
    fn common(status: &FlavorStatus) -> &StatusCommon {
        &status.common
    }
    fn common_mut(status: &mut FlavorStatus) -> &mut StatusCommon {
        &mut status.common
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_are_shipped_are_right_and_each_bad_field_is_named() {
        for (name, spec) in shipped() {
            assert_eq!(Flavor::check(&spec), [], "{name}");
        }
        let limits = DiskLimits { read_iops: Some(0), ..DiskLimits::default() };
        let bad = FlavorSpec {
            cpus: 0,
            memory: ByteSize(1),
            disk: Some(ByteSize(1)),
            disk_limits: limits,
            nic_limits: NicLimits { inbound: Some(ByteSize(0)), outbound: None },
            cpu_shares: Some(0),
        };
        let fields: Vec<String> = Flavor::check(&bad).into_iter().map(|e| e.field).collect();
        let wanted = ["cpus", "memory", "disk", "disk_limits.read_iops", "nic_limits.inbound", "cpu_shares"];
        assert_eq!(fields, wanted.map(|f| format!("spec.{f}")));
    }
}
