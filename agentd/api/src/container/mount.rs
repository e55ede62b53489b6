//! What of outside is mounted into a container.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::name::ObjectName;
use crate::quantity::ByteSize;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ContainerMount {
    /// Where in the container: an absolute path, not its root.
    pub path: String,
    pub source: MountSource,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
}

/// What is there. Exactly one of these.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum MountSource {
    /// A folder or file of the host, below one of those that the daemon's configuration allows (`[containers] bind_mounts`).
    Bind(String),
    /// Memory, which is gone with the container's end.
    Tmpfs(TmpfsMount),
    /// A volume of the mode `filesystem`, whose content outlives the container. Several may have one at once.
    Volume(ObjectName),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TmpfsMount {
    /// Half of the host's memory where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<ByteSize>,
}
