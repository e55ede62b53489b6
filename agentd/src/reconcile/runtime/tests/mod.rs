//! What the runtime promises, whatever the kind.

mod failures;
mod queue;
mod stage;
mod wakes;
