//! The end of a pass: status, attempts and events, written together.

use std::time::Duration;

use agentd_api::{Attempts, Kind, Object, State, Timestamp};

use super::pass::{Pass, Write, WriteEnd, to_map};
use super::{Fault, Note, Outcome, backoff};

/// How long to wait when the store itself could not be written.
const STORE_WAIT: Duration = Duration::from_secs(1);

/// When the object is looked at next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// When something wakes it.
    Woken,
    After(Duration),
    /// After a failed try: what is seen on the host does not hasten it.
    Held(Duration),
    /// Never: it is gone.
    Gone,
}

/// Writes what the pass ended in.
pub(super) async fn settle<K: Kind>(pass: &Pass, object: &Object<K>, outcome: Outcome<K::Status>) -> Next {
    let Outcome { mut status, fault, again, mut notes, delete } = outcome;
    let before = K::common(&object.status).attempts.clone();
    let common = K::common_mut(&mut status);
    common.observed_generation = object.meta.generation;
    let next = match fault {
        None => {
            common.attempts = None;
            // Its own write does not wake it, and what is marked now has to be undone.
            let again = if delete { Some(Duration::ZERO) } else { again };
            again.map_or(Next::Woken, Next::After)
        }
        Some(fault) if pass.is_cut_off() => return cut_off(pass, &fault),
        Some(fault) => {
            tracing::warn!(object = %pass.key(), code = %fault.code, "a pass failed: {fault}");
            if before.as_ref().is_none_or(|b| b.last_error != fault.message) {
                notes.push(Note::failed(fault.message.clone()));
            }
            let (attempts, next) = count(before.as_ref(), &fault);
            if attempts.next_at.is_none() {
                common.state = State::Failed;
                common.progress = None;
            }
            common.reason = Some(fault.message);
            common.attempts = Some(attempts);
            next
        }
    };
    written(pass, write::<K>(pass, &status, notes, delete).await, next)
}

/// Writes that `finalizer` could not be undone. No class of failure ends a deletion: it is tried on.
pub(super) async fn refused<K: Kind>(pass: &Pass, object: &Object<K>, fault: Fault) -> Next {
    if pass.is_cut_off() {
        return cut_off(pass, &fault);
    }
    let mut status = object.status.clone();
    let before = K::common(&status).attempts.clone();
    let note = before.as_ref().is_none_or(|b| b.last_error != fault.message);
    let notes = if note { vec![Note::failed(format!("cannot be deleted yet: {fault}"))] } else { Vec::new() };
    let insistent = Fault { class: agentd_drivers::Class::Transient, ..fault };
    tracing::warn!(object = %pass.key(), code = %insistent.code, "cannot be deleted yet: {insistent}");
    let (attempts, next) = count(before.as_ref(), &insistent);
    let common = K::common_mut(&mut status);
    common.state = State::Deleting;
    common.progress = None;
    common.reason = Some(insistent.message);
    common.attempts = Some(attempts);
    written(pass, write::<K>(pass, &status, notes, false).await, next)
}

/// Of a pass that the daemon's end came upon: the object stays as it was, and the next daemon looks at it anew.
fn cut_off(pass: &Pass, fault: &Fault) -> Next {
    tracing::debug!(object = %pass.key(), code = %fault.code, "a pass was cut off: {fault}");
    Next::Woken
}

fn count(before: Option<&Attempts>, fault: &Fault) -> (Attempts, Next) {
    let count = before.map_or(0, |b| b.count).saturating_add(1);
    let wait = (!fault.gives_up()).then(|| backoff::delay(count));
    let attempts = Attempts {
        count,
        last_error: fault.message.clone(),
        code: fault.code,
        next_at: wait.map(|wait| Timestamp::now().plus(wait)),
    };
    (attempts, wait.map_or(Next::Woken, Next::Held))
}

async fn write<K: Kind>(
    pass: &Pass,
    status: &K::Status,
    notes: Vec<Note>,
    delete: bool,
) -> Result<(), WriteEnd> {
    let status = to_map::<K>(status).map_err(|fault| WriteEnd::Store(fault.message))?;
    pass.write(Write { status, notes, delete, ..Write::default() }).await
}

pub(super) fn written(pass: &Pass, end: Result<(), WriteEnd>, next: Next) -> Next {
    match end {
        Ok(()) => next,
        Err(WriteEnd::Gone) => Next::Gone,
        // What changed it wakes it.
        Err(WriteEnd::Changed) => Next::Woken,
        Err(WriteEnd::Store(detail)) => {
            tracing::error!(object = %pass.key(), "the store cannot be written: {detail}");
            Next::Held(STORE_WAIT)
        }
    }
}
