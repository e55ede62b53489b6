//! How it is told whether what runs in a container does its work.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::quantity::Span;

/// A program that is run in the container now and then. In place of the image's own check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HealthCheck {
    /// The program and its arguments; 0 is healthy. Empty turns off the image's own check.
    pub command: Vec<String>,
    /// How long after one check the next begins.
    #[serde(default = "thirty")]
    pub interval: Span,
    /// A check that takes longer has failed.
    #[serde(default = "thirty")]
    pub timeout: Span,
    /// So many in a row that fail make it unhealthy.
    #[serde(default = "three")]
    #[schema(minimum = 1, maximum = 100)]
    pub retries: u32,
    /// What fails so early after its start is not counted.
    #[serde(default)]
    pub start_period: Span,
}

fn thirty() -> Span {
    Span::seconds(30)
}
fn three() -> u32 {
    3
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum HealthState {
    /// No check has succeeded yet, and it has not failed for long enough.
    Starting,
    Healthy,
    Unhealthy,
}

impl HealthState {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}
