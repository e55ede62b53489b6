//! Containers of the host's engine that are none of agentd's, and how one is taken over.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::name::ObjectName;
use crate::nic::NicSpec;
use crate::time::Timestamp;

/// `GET /v1/foreign`: what the host's engine has and this daemon has not, ordered by name. They belong to no project, and are
/// never touched.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct ForeignList {
    pub items: Vec<ForeignContainer>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ForeignContainer {
    /// `container`.
    pub kind: String,
    /// As the engine has it, which takes names that agentd does not.
    pub name: String,
    pub engine_id: String,
    /// As it was named when it was made.
    pub image: String,
    pub command: String,
    pub state: ForeignState,
    /// Which is as good as root of the host. Left out where the engine did not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub privileged: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Timestamp>,
    /// The tag of another daemon of agentd's that made it: it cannot be adopted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub daemon: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ForeignState {
    /// It never ran.
    Created,
    Running,
    Paused,
    Stopped,
    /// The engine is at removing it, or failed to.
    Removing,
}

impl ForeignState {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
            Self::Removing => "removing",
        }
    }
}

/// The body of `POST /v1/adopt`: which foreign container is to be an object from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AdoptWish {
    /// Its name in the engine, or its id there, which may be cut.
    pub container: String,
    /// Of the object; the engine's name of it where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<ObjectName>,
    /// Where it is put in place of the engine's own networks, of which it is taken off. `default` where absent; none for
    /// one that has no network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_items = 64)]
    pub networks: Option<Vec<NicSpec>>,
    /// Also one that is privileged, which is as good as root of the host.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub privileged: bool,
}

/// Of a container that somebody else made and that was adopted, for as long as it is that one: what is made anew in its
/// place is agentd's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ContainerAdopted {
    /// What it is known by: an engine gives marks only to what it makes.
    pub engine_id: String,
    /// What the engine called it then.
    pub name: String,
    pub at: Timestamp,
}
