//! What is wanted of a container.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::health::HealthCheck;
use super::limits::{Cpus, Ulimit};
use super::mount::ContainerMount;
use super::reference::ImageRef;
use crate::cpu::CpuSet;
use crate::life::{self, Autostart, RestartPolicy};
use crate::limits::DiskLimits;
use crate::name::ObjectName;
use crate::net::PortMap;
use crate::nic::{NicSpec, default_networks};
use crate::quantity::{ByteSize, Span};
use crate::time::Timestamp;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ContainerSpec {
    /// The image that it is made of: an `image` object, or one that the host's engine has under that name. Cannot be changed
    /// later.
    pub image: ImageRef,
    /// What it runs, or what its entry point is given; the image's own where empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// In place of the image's own entry point, whose own command is then left out too. Empty is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// Beside what the image sets, and over it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// By name or number, also with a group, as USER:GROUP; the image's own where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// What it calls itself; its name where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<ObjectName>,
    /// Gives it a terminal, on which its output and its errors are one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tty: bool,
    /// Its input stays open for those who attach; empty where not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stdin_open: bool,
    /// How much of the host's processors it may use; all of them where absent. Changed also while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<Cpus>,
    /// Its weight where guests compete for processors; one without has 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 10000)]
    pub cpu_shares: Option<u32>,
    /// The host's processors that it may run on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_set: Option<CpuSet>,
    /// As much memory as it may have; as much as there is where absent. Changed also while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<ByteSize>,
    /// As much of the host's swap as it may have beside that. As much as memory where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swap: Option<ByteSize>,
    /// As many processes and threads as it may have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 4194304)]
    pub pids: Option<u32>,
    /// The size of its /dev/shm; 64 MiB where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shm: Option<ByteSize>,
    /// By their names as `ulimit` has them, as nofile.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ulimits: BTreeMap<String, Ulimit>,
    /// What it may do in a second on the disk that it is on.
    #[serde(default, skip_serializing_if = "DiskLimits::is_default")]
    pub disk_limits: DiskLimits,
    #[serde(default = "default_networks")]
    #[schema(max_items = 64)]
    pub networks: Vec<NicSpec>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub publish: Vec<PortMap>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 64)]
    pub mounts: Vec<ContainerMount>,
    #[serde(default)]
    pub desired: ContainerDesired,
    /// What happens when it ends by itself or by somebody else's hand.
    #[serde(default)]
    pub restart: RestartPolicy,
    /// How it is started after a boot of the host, if it was wanted to run.
    #[serde(default, skip_serializing_if = "Autostart::is_default")]
    pub autostart: Autostart,
    /// The signal that it is stopped by, by its name or number; the image's own, or SIGTERM, where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// How long it has after its stop signal, before it is killed.
    #[serde(default = "default_grace")]
    pub grace: Span,
    /// Deletes it once it has stopped.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub remove_when_stopped: bool,
    /// When it is deleted. Never where absent, null, or 1970-01-01T00:00:00Z.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// What must be up before it is started.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 64)]
    pub after: Vec<After>,
    /// The image's own where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthCheck>,
    /// What is of its image cannot be written.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
    /// Capabilities beyond the usual ones, as NET_ADMIN.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cap_add: Vec<String>,
    /// Usual capabilities that it is not to have; ALL is all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cap_drop: Vec<String>,
    /// Lets its programs gain rights that they were not started with (set-id programs, file capabilities).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub new_privileges: bool,
    /// All capabilities, all devices, no seccomp: as good as root of the host.
    #[serde(default)]
    pub privileged: bool,
    /// Its root is not the host's: in a user namespace of its own. What the engine cannot give is refused.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub userns: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ContainerDesired {
    #[default]
    Running,
    Stopped,
    Paused,
}

/// Another container or VM of the same project. One of the two names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct After {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<ObjectName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vm: Option<ObjectName>,
    /// It must be healthy, and not only run: what it is asked by its health check. A VM is when its agent answers.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub healthy: bool,
}

impl ContainerSpec {
    /// When it is deleted. A missing time and the zero of the clock (1970-01-01T00:00:00Z) are both never.
    pub fn expiry(&self) -> Option<Timestamp> {
        life::expiry(self.expires_at)
    }
}

fn default_grace() -> Span {
    Span::seconds(10)
}
