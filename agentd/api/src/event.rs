//! What happened: who did what to which object, why, and how it ended. Kept across restarts, bounded in number.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::time::Timestamp;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Written down; the host has still to follow.
    Accepted,
    Done,
    Failed,
    /// Seen on the host; nobody asked agentd for it.
    Seen,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// Counts up from 1 and is never used again: where a follower resumes.
    pub seq: u64,
    pub at: Timestamp,
    pub kind: String,
    pub project: String,
    pub name: String,
    pub id: Uuid,
    /// Who: `uid:1000` of the caller, or `agentd` for its own passes.
    pub actor: String,
    /// What, in one word: created, changed, deleted, started, stopped, start, failed, ...
    pub verb: String,
    /// Why or how, in a sentence.
    pub message: String,
    pub outcome: Outcome,
    /// The request that caused it, where one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EventList {
    pub items: Vec<Event>,
    /// Where to resume: `GET /v1/events?since=NEXT`.
    pub next: u64,
}
