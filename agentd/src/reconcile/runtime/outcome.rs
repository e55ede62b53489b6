//! What a pass ends in.

use std::time::Duration;

use agentd_api::event::Outcome as EventOutcome;

use super::Fault;

/// Something that happened, for the events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// One word: started, stopped, created, ...
    pub verb: &'static str,
    pub message: String,
    pub outcome: EventOutcome,
}

impl Note {
    pub fn done(verb: &'static str, message: impl Into<String>) -> Self {
        Self { verb, message: message.into(), outcome: EventOutcome::Done }
    }
    /// Nobody asked agentd for it.
    pub fn seen(verb: &'static str, message: impl Into<String>) -> Self {
        Self { verb, message: message.into(), outcome: EventOutcome::Seen }
    }
    pub fn failed(message: impl Into<String>) -> Self {
        Self { verb: "failed", message: message.into(), outcome: EventOutcome::Failed }
    }
}

/// How a pass ended. The runtime adds to `status` what all kinds have: the generation, the attempts, and with a fault
/// the reason, and `failed` where it gives up.
#[derive(Debug)]
pub struct Outcome<S> {
    /// All of the status, as it was seen. Equal to the object's: nothing is written.
    pub status: S,
    pub fault: Option<Fault>,
    /// When to come again even if nothing wakes it. With a fault the runtime decides.
    pub again: Option<Duration>,
    pub notes: Vec<Note>,
    /// Marks the object for deletion.
    pub delete: bool,
}

impl<S> Outcome<S> {
    pub fn settled(status: S) -> Self {
        Self { status, fault: None, again: None, notes: Vec::new(), delete: false }
    }
    pub fn failed(status: S, fault: Fault) -> Self {
        Self { fault: Some(fault), ..Self::settled(status) }
    }
    pub fn again(self, after: Duration) -> Self {
        Self { again: Some(after), ..self }
    }
    pub fn note(mut self, note: Note) -> Self {
        self.notes.push(note);
        self
    }
}
