//! What the server says of itself: `GET /v1` and `/readyz`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::quantity::ByteSize;
use crate::time::Timestamp;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServerInfo {
    pub name: String,
    pub version: String,
    /// Of the store: every object and change has one.
    pub revision: u64,
    /// Tells this daemon's things on the host from another daemon's.
    pub instance: String,
    pub started_at: Timestamp,
    pub state_dir: String,
    pub host: HostInfo,
    pub backends: Vec<BackendInfo>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HostInfo {
    pub hostname: String,
    pub kernel: String,
    pub cpus: u32,
    pub memory: ByteSize,
    /// How guests run here: "kvm", "tcg", or null where it is not known yet.
    pub accel: Option<String>,
    pub accel_reason: Option<String>,
}

/// One thing that agentd works through: libvirt, dnsmasq, nftables, images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BackendInfo {
    pub name: String,
    pub available: bool,
    /// Its version, or why it is not available.
    pub detail: String,
    pub capabilities: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Readiness {
    pub ready: bool,
    /// Why it is not ready, or what it does without.
    pub reasons: Vec<String>,
}
