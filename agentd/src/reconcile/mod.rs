//! Makes the host as the store says.

pub mod runtime;

pub use runtime::Trigger;
