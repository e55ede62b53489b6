//! What went wrong, as a person reads it: what about, why, which fields, what to try, and the exit status.

use std::fmt::Display;
use std::io::{self, Write};

use agentd_api::{ErrorCode, FieldError, Problem, paths};
use agentd_client::{Address, ClientError, Distrust, Refusal};

/// The exit statuses of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    Done = 0,
    Failed = 1,
    /// A flag that is none, or input that was refused as invalid.
    Usage = 2,
    NotFound = 3,
    Conflict = 4,
    Unsupported = 5,
    Forbidden = 6,
    NoDaemon = 7,
    TimedOut = 8,
    Interrupted = 130,
}

#[derive(Debug)]
pub struct Failure {
    pub exit: Exit,
    /// The object that it is about, as in `vm/web`.
    about: Option<String>,
    message: String,
    fields: Vec<FieldError>,
    hint: Option<String>,
    /// Said already, or not worth saying.
    silent: bool,
}

impl Failure {
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, about: None, message: message.into(), fields: Vec::new(), hint: None, silent: false }
    }
    /// Bad input, found before it was sent. `field` is the API's, or the flag's where it has none.
    pub fn field(field: impl Into<String>, message: impl Into<String>) -> Self {
        let error = FieldError::new(field, message);
        Self { fields: vec![error], ..Self::new(Exit::Usage, INVALID) }
    }
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
    pub fn about(mut self, about: impl Into<String>) -> Self {
        self.about.get_or_insert(about.into());
        self
    }
    /// An exit status for which everything has been said.
    pub fn silent(exit: Exit) -> Self {
        Self { silent: true, ..Self::new(exit, "") }
    }

    pub fn report(&self) {
        if !self.silent {
            let _ = io::stderr().lock().write_all(self.text().as_bytes());
        }
    }

    /// `error:`, then each field on a line of its own, then one `hint:` where there is something to try.
    pub fn text(&self) -> String {
        let mut out = String::from("error: ");
        if let Some(about) = &self.about {
            out.push_str(about);
            out.push_str(": ");
        }
        match &self.fields[..] {
            // One field whose message is all there is to say needs no line of its own.
            [one] if self.message == INVALID || self.message == one.message => {
                out.push_str(&format!("{one}\n"));
            }
            fields => {
                out.push_str(&self.message);
                out.push('\n');
                for field in fields {
                    out.push_str(&format!("  {field}\n"));
                }
            }
        }
        if let Some(hint) = &self.hint {
            out.push_str(&format!("hint: {hint}\n"));
        }
        out
    }
}

const INVALID: &str = "the input is not valid";

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Problem(problem) => (*problem).into(),
            ClientError::NoDaemon { at: Address::Remote(ref at), .. } => {
                Self::new(Exit::NoDaemon, caused(&error)).hint(format!(
                    "agentd there needs [remote] listen in its configuration (`agentctl doctor` there tells), and port {} \
                     to be reached from here",
                    at.port()
                ))
            }
            ClientError::NoDaemon { .. } => {
                Self::new(Exit::NoDaemon, caused(&error)).hint(format!(
                    "start it with `systemctl start agentd`, or say where it listens with --socket or AGENTD_SOCKET \
                     (usually {})",
                    paths::SOCKET
                ))
            }
            ClientError::SocketForbidden { .. } => {
                Self::new(Exit::Forbidden, caused(&error)).hint(MAY_NOT)
            }
            ClientError::Refused { ref why, .. } => {
                Self::new(Exit::Forbidden, caused(&error)).hint(refusal_hint(why))
            }
            ClientError::Untrusted { ref at, ref why } => {
                Self::new(Exit::Failed, caused(&error)).hint(distrust_hint(at, why))
            }
            ClientError::TimedOut { .. } => Self::new(Exit::TimedOut, caused(&error))
                .hint("the daemon's log says more: `journalctl -u agentd`"),
            ClientError::Transport { ref request_id, .. } => {
                let hint = format!(
                    "whether it was done is not known; `agentctl events --request {request_id}` tells what became of it"
                );
                Self::new(Exit::Failed, caused(&error)).hint(hint)
            }
            ClientError::Decode { .. } | ClientError::Unexpected { .. } => {
                Self::new(Exit::Failed, caused(&error))
                    .hint("`agentctl version` shows whether agentctl and the daemon are of one version")
            }
            ClientError::Unsendable { .. } => Self::new(Exit::Usage, caused(&error)),
        }
    }
}

const JOIN_AGAIN: &str = "`agentctl remote add-client` there, then `agentctl remote forget` and `join` here";

fn refusal_hint(why: &Refusal) -> String {
    match why {
        Refusal::Expired | Refusal::Other(_) => JOIN_AGAIN.to_owned(),
        Refusal::Revoked => {
            format!("whoever runs that host took it back; if they let you in again: {JOIN_AGAIN}")
        }
        Refusal::UnknownAuthority => {
            format!("it is another machine, or its authority was made anew: {JOIN_AGAIN}")
        }
    }
}

fn distrust_hint(at: &Address, why: &Distrust) -> String {
    let host = match at {
        Address::Remote(remote) => remote.host(),
        Address::Socket(_) => "HOST",
    };
    match why {
        Distrust::WrongName => {
            format!(
                "join it by a name of its certificate, or there: `agentctl remote init --renew --name {host}`"
            )
        }
        Distrust::Expired => "there: `agentctl remote init --renew`".to_owned(),
        Distrust::UnknownAuthority => {
            format!("it is another machine, or its authority was made anew: {JOIN_AGAIN}")
        }
        Distrust::Other(_) => "see what listens there: `agentctl doctor` on that host tells".to_owned(),
    }
}

const MAY_NOT: &str =
    "only root and the group agentd may: `sudo usermod -aG agentd $USER`, then log in again";

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        let hint = problem.hint.clone().or_else(|| usual_hint(&problem));
        let message = if problem.code == ErrorCode::Invalid && !problem.errors.is_empty() {
            INVALID.to_owned()
        } else {
            problem.detail
        };
        Self { fields: problem.errors, hint, ..Self::new(exit_of(problem.code), message) }
    }
}

const fn exit_of(code: ErrorCode) -> Exit {
    match code {
        ErrorCode::Invalid | ErrorCode::TooLarge => Exit::Usage,
        ErrorCode::Unauthenticated | ErrorCode::Forbidden => Exit::Forbidden,
        ErrorCode::NotFound => Exit::NotFound,
        ErrorCode::Conflict | ErrorCode::AlreadyExists | ErrorCode::InUse | ErrorCode::RevisionMismatch => {
            Exit::Conflict
        }
        ErrorCode::Unsupported => Exit::Unsupported,
        ErrorCode::RequestTimeout => Exit::TimedOut,
        ErrorCode::MethodNotAllowed
        | ErrorCode::NotAcceptable
        | ErrorCode::UnsupportedMediaType
        | ErrorCode::RevisionCompacted
        | ErrorCode::TooManyRequests
        | ErrorCode::Internal
        | ErrorCode::BackendUnavailable
        | ErrorCode::StoreUnavailable
        | ErrorCode::InsufficientCapacity => Exit::Failed,
    }
}

/// What to try where the daemon did not say.
fn usual_hint(problem: &Problem) -> Option<String> {
    let hint = match problem.code {
        ErrorCode::Forbidden | ErrorCode::Unauthenticated => MAY_NOT,
        ErrorCode::AlreadyExists => "choose another name, or remove that one first",
        ErrorCode::InUse => "remove what uses it first",
        ErrorCode::RevisionMismatch => "somebody changed it in between; look at it and try again",
        ErrorCode::TooManyRequests => "try again in a moment",
        ErrorCode::BackendUnavailable => "`agentctl doctor` shows what is missing and what mends it",
        ErrorCode::InsufficientCapacity => "ask for less, or remove what is not needed any more",
        ErrorCode::MethodNotAllowed | ErrorCode::RevisionCompacted | ErrorCode::UnsupportedMediaType => {
            "`agentctl version` shows whether agentctl and the daemon are of one version"
        }
        ErrorCode::Internal | ErrorCode::StoreUnavailable => {
            return Some(format!(
                "the daemon's log says more: `journalctl -u agentd`, request {}",
                problem.request_id
            ));
        }
        _ => return None,
    };
    Some(hint.to_owned())
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        // `agentctl vm list | head`: the reader has what it wants.
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::silent(Exit::Done);
        }
        Self::new(Exit::Failed, format!("cannot write the output: {error}"))
    }
}

/// An error with what caused it: `a: b: c`.
pub fn caused(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        source = cause.source();
    }
    text
}

/// Failures of a command that goes on past each: all are said as they come, the first decides the exit status.
#[derive(Default)]
pub struct Failures {
    first: Option<Exit>,
}

impl Failures {
    pub fn take<T>(&mut self, about: impl Display, outcome: Result<T, Failure>) -> Option<T> {
        match outcome {
            Ok(value) => Some(value),
            Err(failure) => {
                let failure = failure.about(about.to_string());
                failure.report();
                self.first.get_or_insert(failure.exit);
                None
            }
        }
    }
    pub fn end(self) -> Result<(), Failure> {
        self.first.map_or(Ok(()), |exit| Err(Failure::silent(exit)))
    }
}

#[cfg(test)]
mod tests;
