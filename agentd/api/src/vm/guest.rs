//! What a VM's guest says of itself, by its agent. Believed no further than a person believes it: nothing here decides
//! anything.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::quantity::ByteSize;

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct VmGuest {
    /// The version of agentd's program in it.
    pub agent: String,
    pub hostname: String,
    pub os: GuestOs,
    pub kernel: String,
    /// All but the loopback.
    pub interfaces: Vec<GuestInterface>,
    /// Those on disks.
    pub filesystems: Vec<GuestFilesystem>,
}

/// As /etc/os-release has it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct GuestOs {
    pub id: String,
    pub name: String,
    pub version: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GuestInterface {
    pub name: String,
    pub mac: String,
    /// With their prefix, as 10.77.0.2/24.
    pub addresses: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GuestFilesystem {
    pub path: String,
    pub device: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub size: ByteSize,
    /// To a hundredth of the size.
    pub used: ByteSize,
}
