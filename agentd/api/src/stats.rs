//! Figures of what runs: counters and sizes at one moment. Rates are the difference of two of them over the time between.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::error::ErrorCode;
use crate::name::ObjectName;
use crate::time::Timestamp;

/// `GET /v1/stats`: all guests that run, of all kinds, ordered by kind, project and name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StatsList {
    /// When they were taken: after the request had come.
    pub at: Timestamp,
    pub items: Vec<Figures>,
    /// Kinds whose figures were asked for and cannot be had now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<StatsMissing>,
}

/// Why a kind's figures cannot be had: its backend's own error. Those of other kinds are not less for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StatsMissing {
    pub kind: String,
    pub code: ErrorCode,
    pub reason: String,
}

/// Of one guest. Counters begin with its start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Figures {
    pub kind: String,
    pub project: ObjectName,
    pub name: ObjectName,
    pub id: Uuid,
    pub cpu: CpuFigures,
    pub memory: MemoryFigures,
    pub disks: Vec<DiskFigures>,
    pub networks: Vec<NetworkFigures>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CpuFigures {
    pub count: u32,
    /// What it used of the host's CPUs, the work of its emulator included.
    pub nanoseconds: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MemoryFigures {
    /// What it may have at most.
    pub limit_bytes: u64,
    /// What its balloon leaves it at present.
    pub given_bytes: u64,
    /// What of the host's memory it fills, its emulator included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resident_bytes: Option<u64>,
    /// How the guest itself sees it, where its balloon driver tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guest: Option<GuestMemory>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GuestMemory {
    pub total_bytes: u64,
    pub free_bytes: u64,
    /// What could be used without swapping, caches that can be dropped included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usable_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_bytes: Option<u64>,
    pub swap_in_bytes: u64,
    pub swap_out_bytes: u64,
    /// When the guest said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DiskFigures {
    /// As the host's definition calls it: "vda".
    pub device: String,
    pub read_bytes: u64,
    pub read_requests: u64,
    pub written_bytes: u64,
    pub write_requests: u64,
    /// How large the guest sees it.
    pub capacity_bytes: u64,
    /// What it takes of the host's disk.
    pub allocated_bytes: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NetworkFigures {
    /// The host's end of the interface.
    pub device: String,
    /// The network that it is on, where it is one of the object's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<ObjectName>,
    pub received_bytes: u64,
    pub received_packets: u64,
    pub sent_bytes: u64,
    pub sent_packets: u64,
    /// Packets that were lost on either way.
    pub dropped_packets: u64,
}
