//! What can go wrong between a caller and the daemon.

use std::error::Error as StdError;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use agentd_api::{ErrorCode, Problem};

use crate::address::Address;
use crate::trouble::{Distrust, Refusal};

/// `request` is the method and path, as in `GET /v1/vms/web`.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nothing listens there, there is no socket, or no such machine.
    #[error("no daemon answers on {at}")]
    NoDaemon { at: Address, source: io::Error },
    /// The socket is there and this user may not open it.
    #[error("may not open {}", path.display())]
    SocketForbidden { path: PathBuf, source: io::Error },
    /// Another machine's daemon does not take this client's certificate. Nothing was asked of it.
    #[error("{at} does not let this client in: {why}")]
    Refused { at: Address, why: Refusal },
    /// What answers there does not prove that it is the daemon that was meant. Nothing was asked of it.
    #[error("what answers on {at} is not trusted: {why}")]
    Untrusted { at: Address, why: Distrust },
    /// The daemon answered that it will not, or cannot.
    #[error("{0}")]
    Problem(Box<Problem>),
    /// The connection broke before the whole answer was there. What was asked for may or may not have been done.
    #[error("{request}: the connection broke before the answer was there (request {request_id})")]
    Transport { request: String, request_id: String, source: Box<dyn StdError + Send + Sync> },
    #[error("{request}: no answer after {}s (request {request_id})", after.as_secs())]
    TimedOut { request: String, request_id: String, after: Duration },
    /// The answer is not what this version of the client understands.
    #[error("{request}: the answer is not one that this client understands")]
    Decode { request: String, source: serde_json::Error },
    /// An answer that is neither a success nor a problem, as of something else that listens on the socket.
    #[error("{request}: unexpected answer {status}: {body}")]
    Unexpected { request: String, status: u16, body: String },
    /// The request cannot be sent as it is.
    #[error("{request}: cannot be sent: {why}")]
    Unsendable { request: String, why: String },
}

impl ClientError {
    /// The daemon's code, where the daemon answered.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Problem(problem) => Some(problem.code),
            _ => None,
        }
    }
    pub fn is_not_found(&self) -> bool {
        self.code() == Some(ErrorCode::NotFound)
    }
    /// Whether waiting and asking again can help: the daemon is away, or said so itself.
    pub fn passes(&self) -> bool {
        match self {
            Self::NoDaemon { .. } | Self::Transport { .. } | Self::TimedOut { .. } => true,
            Self::Problem(problem) => problem.retryable,
            _ => false,
        }
    }
}

impl From<Problem> for ClientError {
    fn from(problem: Problem) -> Self {
        Self::Problem(Box::new(problem))
    }
}
