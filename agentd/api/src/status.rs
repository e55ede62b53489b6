//! What every kind's status has in common. A kind's own status flattens [`StatusCommon`] into itself.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::ErrorCode;
use crate::time::Timestamp;

/// The state of an object. One set of words for all kinds; each kind's declaration lists the ones it uses.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Written down; nothing has been done about it yet.
    #[default]
    Pending,
    /// Being made, or being changed to what is wanted.
    Provisioning,
    Running,
    Stopped,
    Paused,
    /// Off, with its memory on disk.
    Suspended,
    /// For things that are there rather than run: images, networks, keys.
    Ready,
    /// For volumes: a VM has it.
    Attached,
    /// Given up until the spec changes or `agentctl retry`; the reason says why.
    Failed,
    /// Marked for deletion; gone once the host is clean.
    Deleting,
}

impl State {
    pub const ALL: [Self; 10] = [
        Self::Pending,
        Self::Provisioning,
        Self::Running,
        Self::Stopped,
        Self::Paused,
        Self::Suspended,
        Self::Ready,
        Self::Attached,
        Self::Failed,
        Self::Deleting,
    ];
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Provisioning => "provisioning",
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Paused => "paused",
            Self::Suspended => "suspended",
            Self::Ready => "ready",
            Self::Attached => "attached",
            Self::Failed => "failed",
            Self::Deleting => "deleting",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How far long work has come: `done` of `total` in `unit` ("bytes", "steps", "packages"); `total` is absent where it
/// is not known.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct Progress {
    pub step: String,
    pub done: u64,
    #[serde(default)]
    pub total: Option<u64>,
    pub unit: String,
    /// What it is made of, where that comes in parts: the layers of a container's image that is pulled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 128)]
    pub layers: Vec<LayerProgress>,
}

impl Progress {
    pub fn of_bytes(step: impl Into<String>, done: u64, total: Option<u64>) -> Self {
        Self { step: step.into(), done, total, unit: "bytes".to_owned(), layers: Vec::new() }
    }

    pub fn of_steps(step: impl Into<String>, done: u64, total: Option<u64>) -> Self {
        Self { unit: "steps".to_owned(), ..Self::of_bytes(step, done, total) }
    }
}

impl Progress {
    /// How many layers are told of at most.
    pub const LAYERS_MAX: usize = 128;
}

/// How far one layer of a container's image is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct LayerProgress {
    /// The first twelve digits of its digest in the registry.
    pub id: String,
    pub state: LayerState,
    /// In bytes as they come: of what is downloaded, and then of what is extracted.
    pub done: u64,
    /// Absent where it is not known yet. One that was there already has none to come.
    #[serde(default)]
    pub total: Option<u64>,
}

#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum LayerState {
    /// For its turn.
    #[default]
    Waiting,
    Downloading,
    /// And checked, or about to be; it waits for those below it.
    Downloaded,
    Extracting,
    Done,
}

impl LayerState {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Downloading => "downloading",
            Self::Downloaded => "downloaded",
            Self::Extracting => "extracting",
            Self::Done => "done",
        }
    }
}

/// A fact about an object beside its state, such as `backend_available` or `network_ready`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Condition {
    #[serde(rename = "type")]
    pub kind: String,
    pub status: bool,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// When `status` last changed.
    pub since: Timestamp,
}

/// Failed tries of what the object waits for. Gone with the first success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Attempts {
    pub count: u32,
    pub last_error: String,
    pub code: ErrorCode,
    /// When the next try is due; absent where none is (state `failed`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_at: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct StatusCommon {
    pub state: State,
    /// Why it is in this state, in a sentence for a person; null where the state says it all.
    pub reason: Option<String>,
    /// The generation of the spec that this status speaks of.
    pub observed_generation: u64,
    pub progress: Option<Progress>,
    pub conditions: Vec<Condition>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts: Option<Attempts>,
}

impl StatusCommon {
    /// Sets a condition; `since` moves only when its status changes.
    pub fn set_condition(&mut self, kind: &str, status: bool, reason: impl Into<String>) {
        let reason = reason.into();
        match self.conditions.iter_mut().find(|c| c.kind == kind) {
            Some(known) => {
                if known.status != status {
                    known.since = Timestamp::now();
                }
                known.status = status;
                known.reason = reason;
            }
            None => {
                self.conditions.push(Condition {
                    kind: kind.to_owned(),
                    status,
                    reason,
                    since: Timestamp::now(),
                });
            }
        }
    }
    pub fn condition(&self, kind: &str) -> Option<&Condition> {
        self.conditions.iter().find(|c| c.kind == kind)
    }
    pub fn clear_condition(&mut self, kind: &str) {
        self.conditions.retain(|c| c.kind != kind);
    }
}
