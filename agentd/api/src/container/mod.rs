//! The kind `container`: a container of the host's engine, Docker or what speaks its API. What is wanted is in [`spec`],
//! what was seen in [`status`], what can be said of a spec without knowing the host in `check`.
//!
//! Where a field means the same as a VM's it has the same name and the same type.

mod check;
pub mod foreign;
pub mod health;
pub mod limits;
pub mod mount;
pub mod reference;
pub mod spec;
pub mod status;
mod subs;
#[cfg(test)]
mod tests;

use crate::error::FieldError;
use crate::kind::{ActionDef, ColumnDef, FieldDef, Kind, KindDef, RECONCILE, RETRY};
use crate::status::{State, StatusCommon};

pub use foreign::{AdoptWish, ContainerAdopted, ForeignContainer, ForeignList, ForeignState};
pub use health::{HealthCheck, HealthState};
pub use limits::{Cpus, Ulimit};
pub use mount::{ContainerMount, MountSource, TmpfsMount};
pub use reference::ImageRef;
pub use spec::{After, ContainerDesired, ContainerSpec};
pub use status::{
    ContainerChange, ContainerChangeKind, ContainerCommit, ContainerCommitted, ContainerEnd, ContainerHealth,
    ContainerStarting, ContainerStatus, ContainerStop, ContainerTop, ContainerWaited,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Container;

impl Kind for Container {
    type Spec = ContainerSpec;
    type Status = ContainerStatus;

    const DEF: &'static KindDef = &KindDef {
        kind: "container",
        plural: "containers",
        summary: "A container of the host's engine",
        states: &[
            State::Pending,
            State::Provisioning,
            State::Running,
            State::Stopped,
            State::Paused,
            State::Failed,
            State::Deleting,
        ],
        columns: &[
            ColumnDef::text("NAME", "/name"),
            ColumnDef::text("STATE", "/status/state"),
            ColumnDef::text("HEALTH", "/status/health/state"),
            ColumnDef::text("ADDRESS", "/status/addresses/*/ip"),
            ColumnDef::text("IMAGE", "/spec/image"),
            ColumnDef::text("PRIVILEGED", "/spec/privileged"),
            ColumnDef::age("AGE", "/created_at"),
            ColumnDef::text("COMMAND", "/spec/command/*").wide(),
            ColumnDef::text("CPUS", "/spec/cpus").wide(),
            ColumnDef::text("MEMORY", "/spec/memory").wide(),
            ColumnDef::text("EXIT", "/status/exit_code").wide(),
            ColumnDef::text("EXPIRES", "/spec/expires_at").wide(),
            ColumnDef::text("REASON", "/status/reason").wide(),
        ],
        fields: &[
            FieldDef { name: "state", path: "/status/state" },
            FieldDef { name: "health", path: "/status/health/state" },
            FieldDef { name: "image", path: "/spec/image" },
            FieldDef { name: "network", path: "/spec/networks/*/network" },
            FieldDef { name: "publish", path: "/spec/publish/*/host" },
            FieldDef { name: "volume", path: "/spec/mounts/*/source/volume" },
            FieldDef { name: "privileged", path: "/spec/privileged" },
            FieldDef { name: "adopted", path: "/status/adopted/engine_id" },
            FieldDef { name: "after", path: "/spec/after/*/container" },
            FieldDef { name: "after_vm", path: "/spec/after/*/vm" },
        ],
        actions: &[
            ActionDef { name: "start", summary: "Start it" },
            ActionDef {
                name: "stop",
                summary: "Send it its stop signal, and kill it once its grace is over",
            },
            ActionDef {
                name: "stop-until-boot",
                summary: "As stop, for the host's own shutdown: after its next boot it is started again",
            },
            ActionDef { name: "restart", summary: "Stop it and start it again" },
            ActionDef { name: "pause", summary: "Freeze its processes" },
            ActionDef { name: "resume", summary: "Let its processes run on" },
            ActionDef {
                name: "rename",
                summary: "Give it another name: the body's `name`. Its id, its addresses and what it holds stay",
            },
            RECONCILE,
            RETRY,
        ],
        subs: subs::SUBS,
    };

    fn check(spec: &ContainerSpec) -> Vec<FieldError> {
        check::check(spec)
    }
    fn common(status: &ContainerStatus) -> &StatusCommon {
        &status.common
    }
    fn common_mut(status: &mut ContainerStatus) -> &mut StatusCommon {
        &mut status.common
    }
}
