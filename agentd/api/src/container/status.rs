//! What was seen of a container, and the documents of its subresources.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::foreign::ContainerAdopted;
use super::health::HealthState;
use crate::name::ObjectName;
use crate::nic::NicAddress;
use crate::status::{State, StatusCommon};
use crate::time::Timestamp;

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct ContainerStatus {
    #[serde(flatten)]
    pub common: StatusCommon,
    /// One for each of `spec.networks`, in that order. Allocated when the container is written down.
    pub addresses: Vec<NicAddress>,
    /// Of interfaces that are no longer in `spec.networks` and that it still has.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub leaving: Vec<NicAddress>,
    /// What the engine calls it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engine_id: Option<String>,
    /// The digest of the image that it is made of. Fixed before it is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_digest: Option<String>,
    /// Of its last end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i64>,
    /// The kernel ended it, for it had no memory left.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub oom_killed: bool,
    /// Where it has a health check and runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<ContainerHealth>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    /// How it last went from running to stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_stop: Option<ContainerStop>,
    /// How often in a row its restart policy started it again after less than a minute.
    #[serde(skip_serializing_if = "is_zero")]
    pub restarts: u32,
    /// The last generation of the spec at which it was seen running.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_generation: Option<u64>,
    /// Set while a restart that was asked for has not been done.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub restart_requested: bool,
    /// The boot of the host (its boot_id) in which it was last seen running.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_boot: Option<String>,
    /// The boot of the host until whose end it is kept off, although it is wanted to run: see the action
    /// `stop-until-boot`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_boot: Option<String>,
    /// Its earlier names, until the host has forgotten them too.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub renamed_from: Vec<ObjectName>,
    /// What the engine has still to call by its new name.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub renamed: bool,
    /// Set from before it is started until it was seen to have been.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub starting: Option<ContainerStarting>,
    /// Set while it is one that somebody else made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adopted: Option<ContainerAdopted>,
}

impl ContainerStatus {
    /// Whether it was up when it was last looked at.
    pub fn was_up(&self) -> bool {
        match (self.started_at, &self.last_stop) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(started), Some(stop)) => stop.at < started,
        }
    }
    /// Whether it may be using its interfaces at this moment.
    pub fn may_run(&self) -> bool {
        self.was_up() || matches!(self.common.state, State::Running | State::Paused | State::Provisioning)
    }
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// A start that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ContainerStarting {
    /// Of the spec that it is started for.
    pub generation: u64,
    /// When its last run before that began, as the engine has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ContainerHealth {
    pub state: HealthState,
    /// How many checks in a row have failed.
    pub failing: u32,
    /// What the last check said, at most 1 KiB of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ContainerStop {
    pub how: ContainerEnd,
    pub at: Timestamp,
    /// The generation of the spec at that time: one that ended by itself stays off until that changes.
    pub generation: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ContainerEnd {
    /// agentd asked, and it ended within its grace.
    Stopped,
    /// The grace ran out, and agentd killed it.
    Killed,
    /// It ended by itself, with success.
    Exited,
    /// It ended by itself, with another exit code than 0.
    Failed,
    /// The kernel ended it for want of memory.
    OomKilled,
    /// Somebody else removed it from the engine.
    Removed,
    /// The host, or the engine with it, went down while it ran.
    HostDown,
}

/// `GET /v1/containers/{name}/wait`, once it is no longer up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerWaited {
    /// Absent where it went without one, as when it was removed.
    pub exit_code: Option<i64>,
    pub oom_killed: bool,
}

/// `GET /v1/containers/{name}/top`: its processes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerTop {
    pub titles: Vec<String>,
    pub processes: Vec<Vec<String>>,
}

/// One of `GET /v1/containers/{name}/diff`: what differs from its image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerChange {
    pub path: String,
    pub change: ContainerChangeKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContainerChangeKind {
    Modified,
    Added,
    Deleted,
}

/// The body of `POST /v1/containers/{name}/commit`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ContainerCommit {
    /// What the engine is to call the new image: NAME or NAME:TAG.
    pub image: String,
    /// It is paused meanwhile.
    pub pause: bool,
    pub message: Option<String>,
}

/// Its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerCommitted {
    pub image: String,
    pub digest: String,
}
