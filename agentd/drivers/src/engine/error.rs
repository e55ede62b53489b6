//! How a call to the engine fails.

use std::time::Duration;

use agentd_api::ErrorCode;
use bollard::errors::Error as Bollard;

use crate::fault::{Class, Classed, code_of};

#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error("no container engine answers at {socket}: {detail}")]
    Unavailable { socket: String, detail: String },
    #[error("the container engine gave no answer within {seconds} s to '{call}'")]
    Deadline { call: &'static str, seconds: u64 },
    /// The engine said no: what HTTP says of it, and the engine's own words.
    #[error("the container engine cannot {call}: {message}")]
    Status { call: &'static str, status: u16, message: String },
    #[error("the container engine failed to {call}: {detail}")]
    Failed { call: &'static str, detail: String },
    #[error("{0}")]
    Unsupported(String),
}

impl EngineError {
    pub(crate) fn of(call: &'static str, limit: Duration, error: Bollard) -> Self {
        match error {
            Bollard::DockerResponseServerError { status_code, message } => {
                Self::Status { call, status: status_code, message: message.trim().to_owned() }
            }
            Bollard::RequestTimeoutError => Self::Deadline { call, seconds: limit.as_secs() },
            Bollard::SocketNotFoundError(socket) => {
                Self::Unavailable { socket, detail: "there is no such file".to_owned() }
            }
            // The client could not connect, or the connection broke before the answer came.
            error @ (Bollard::HyperLegacyError { .. }
            | Bollard::HyperResponseError { .. }
            | Bollard::IOError { .. }) => {
                Self::Unavailable { socket: "its socket".to_owned(), detail: crate::fault::chain(&error) }
            }
            error => Self::Failed { call, detail: crate::fault::chain(&error) },
        }
    }

    /// The engine's answer in HTTP's numbers, where it gave one.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Status { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Whether the engine knows nothing of that name.
    pub fn is_missing(&self) -> bool {
        self.status() == Some(404)
    }

    /// The engine's own words, where it said any.
    pub fn message(&self) -> &str {
        match self {
            Self::Status { message, .. } => message,
            _ => "",
        }
    }
}

impl Classed for EngineError {
    fn class(&self) -> Class {
        match self {
            Self::Unavailable { .. } | Self::Deadline { .. } | Self::Failed { .. } => Class::Transient,
            Self::Status { status: 400 | 404, .. } => Class::Permanent,
            Self::Status { status: 409, .. } => Class::Conflict,
            Self::Status { status: 501, .. } | Self::Unsupported(_) => Class::Unsupported,
            Self::Status { .. } => Class::Transient,
        }
    }

    fn code(&self) -> ErrorCode {
        match self {
            Self::Status { status: 404, .. } => ErrorCode::NotFound,
            other => code_of(other.class()),
        }
    }
}
