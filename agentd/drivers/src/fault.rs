//! How a reconciler must take a driver's error, whatever driver it comes from.

use agentd_api::ErrorCode;

/// What to do about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// May pass by itself: try again, ever more slowly.
    Transient,
    /// Something that is not ours stands in the way: try again slowly, and say what it is.
    Conflict,
    /// The host has no room: try again slowly.
    Capacity,
    /// Will not pass until the spec changes.
    Permanent,
    /// This backend cannot do it.
    Unsupported,
}

/// An error that says how it must be taken. Its Display is one sentence for a person.
pub trait Classed: std::error::Error {
    fn class(&self) -> Class;
    fn code(&self) -> ErrorCode {
        code_of(self.class())
    }
}

/// The code of a class whose error has no closer one.
pub fn code_of(class: Class) -> ErrorCode {
    match class {
        Class::Transient => ErrorCode::BackendUnavailable,
        Class::Conflict => ErrorCode::Conflict,
        Class::Capacity => ErrorCode::InsufficientCapacity,
        Class::Permanent => ErrorCode::Invalid,
        Class::Unsupported => ErrorCode::Unsupported,
    }
}

/// An error with everything beneath it, for the reason that a person reads.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
