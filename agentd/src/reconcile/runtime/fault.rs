//! Why a pass did not get where it should, and how the runtime must take that.

use agentd_api::ErrorCode;
use agentd_drivers::{Class, Classed};

/// The longest reason that is kept on an object.
const MESSAGE_MAX: usize = 2000;

/// A failure of a pass: its class decides what comes next, its message is what a person reads.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    pub class: Class,
    pub code: ErrorCode,
    pub message: String,
}

impl Fault {
    pub fn new(class: Class, code: ErrorCode, message: impl Into<String>) -> Self {
        let mut message = message.into();
        if message.len() > MESSAGE_MAX {
            let end = (0..=MESSAGE_MAX).rev().find(|n| message.is_char_boundary(*n)).unwrap_or(0);
            message.truncate(end);
            message.push_str(" ...");
        }
        Self { class, code, message }
    }
    /// May pass by itself.
    pub fn transient(message: impl Into<String>) -> Self {
        Self::new(Class::Transient, ErrorCode::BackendUnavailable, message)
    }
    /// Something of somebody else's stands in the way.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(Class::Conflict, ErrorCode::Conflict, message)
    }
    /// Does not pass until the spec changes or somebody says `retry`.
    pub fn permanent(code: ErrorCode, message: impl Into<String>) -> Self {
        Self::new(Class::Permanent, code, message)
    }
    /// A defect of agentd's own.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Class::Transient, ErrorCode::Internal, message)
    }
    /// Whether trying again is pointless.
    pub fn gives_up(&self) -> bool {
        match self.class {
            Class::Transient | Class::Conflict | Class::Capacity => false,
            Class::Permanent | Class::Unsupported => true,
        }
    }
}

impl<E: Classed> From<E> for Fault {
    fn from(error: E) -> Self {
        Self::new(error.class(), error.code(), agentd_drivers::fault::chain(&error))
    }
}
