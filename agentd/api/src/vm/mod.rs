//! The kind `vm`: a KVM or TCG guest of libvirt. What is wanted is in [`spec`], what was seen in [`status`], what can be
//! said of a spec without knowing the host in `check`.

mod check;
pub mod firmware;
pub mod guest;
pub mod memory;
pub mod origin;
pub mod spec;
pub mod status;
mod subs;
#[cfg(test)]
mod tests;
pub mod tuning;

use crate::error::FieldError;
use crate::kind::{ActionDef, ColumnDef, FieldDef, Kind, KindDef, RECONCILE, RETRY};
use crate::status::{State, StatusCommon};

pub use crate::cpu::CpuSet;
pub use crate::exec::{Copied, EXEC_ARGUMENTS_MAX, ExecWish, TerminalSize, check_guest_path};
pub use crate::life::{Autostart, GRACE_MAX, RestartPolicy};
pub use crate::limits::{CPU_SHARES_MAX, DiskLimits, NicLimits};
pub use crate::nic::{NicAddress, NicSpec};
pub use check::{CPUS_MAX, DISK_MAX, DISK_MIN, MEMORY_MIN, NETWORK_CONFIG_MAX, USER_DATA_MAX};
pub use firmware::{Firmware, FirmwareThere};
pub use memory::{
    GuestWas, KEEP_MAX, RestorePhase, SnapshotPolicy, SnapshotsTaken, VmRestore, VmRestored, VmSaved,
};
pub use origin::{CloneMode, OriginSnapshot, VmOrigin, VmSource};
pub use spec::{VmDesired, VmDisk, VmSpec, VmVolume};
pub use status::{Accel, AlarmKind, StopKind, VmAlarm, VmSeeded, VmStatus, VmStop, VmVolumeStatus};
pub use tuning::{WatchdogAction, needs_kvm};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vm;

impl Kind for Vm {
    type Spec = VmSpec;
    type Status = VmStatus;

    const DEF: &'static KindDef = &KindDef {
        kind: "vm",
        plural: "vms",
        summary: "A virtual machine",
        states: &[
            State::Pending,
            State::Provisioning,
            State::Running,
            State::Stopped,
            State::Paused,
            State::Suspended,
            State::Failed,
            State::Deleting,
        ],
        columns: &[
            ColumnDef::text("NAME", "/name"),
            ColumnDef::text("STATE", "/status/state"),
            ColumnDef::text("ADDRESS", "/status/addresses/*/ip"),
            ColumnDef::text("IMAGE", "/spec/image"),
            ColumnDef::text("CPUS", "/spec/cpus"),
            ColumnDef::text("MEMORY", "/spec/memory"),
            ColumnDef::age("AGE", "/created_at"),
            ColumnDef::text("ACCEL", "/status/accel").wide(),
            ColumnDef::text("DISK", "/spec/disk").wide(),
            ColumnDef::text("FLAVOR", "/spec/flavor").wide(),
            ColumnDef::text("EXPIRES", "/spec/expires_at").wide(),
            ColumnDef::text("VOLUMES", "/status/volumes/*/volume").wide(),
            ColumnDef::text("REASON", "/status/reason").wide(),
        ],
        fields: &[
            FieldDef { name: "state", path: "/status/state" },
            FieldDef { name: "image", path: "/spec/image" },
            FieldDef { name: "flavor", path: "/spec/flavor" },
            FieldDef { name: "network", path: "/spec/networks/*/network" },
            FieldDef { name: "ssh_key", path: "/spec/ssh_keys/*" },
            FieldDef { name: "volume", path: "/status/volumes/*/volume" },
            FieldDef { name: "iso", path: "/spec/iso" },
            FieldDef { name: "publish", path: "/spec/publish/*/host" },
            FieldDef { name: "source", path: "/spec/source/vm" },
            FieldDef { name: "base", path: "/status/origin/bases/*" },
            FieldDef { name: "snapshot_schedule", path: "/spec/snapshot_policy/schedule" },
        ],
        actions: &[
            ActionDef { name: "start", summary: "Start it" },
            ActionDef { name: "stop", summary: "Power it off by ACPI, and by force once its grace is over" },
            ActionDef {
                name: "stop-until-boot",
                summary: "As stop, for the host's own shutdown: after its next boot it is started again",
            },
            ActionDef { name: "restart", summary: "Stop it and start it again" },
            ActionDef { name: "pause", summary: "Halt its CPUs" },
            ActionDef {
                name: "resume",
                summary: "Let its CPUs run on, from its memory on disk where it is suspended",
            },
            ActionDef {
                name: "suspend",
                summary: "Write its memory to disk and end it, to go on from there",
            },
            ActionDef {
                name: "start-fresh",
                summary: "Start it, and throw away the memory of a suspended one",
            },
            RECONCILE,
            RETRY,
        ],
        subs: subs::SUBS,
    };

    fn check(spec: &VmSpec) -> Vec<FieldError> {
        check::check(spec)
    }
    fn common(status: &VmStatus) -> &StatusCommon {
        &status.common
    }
    fn common_mut(status: &mut VmStatus) -> &mut StatusCommon {
        &mut status.common
    }
}
