//! The part of reconciling that is the same for every kind.

mod backoff;
mod fault;
mod queue;
mod trigger;

pub use fault::Fault;
pub use trigger::Trigger;
