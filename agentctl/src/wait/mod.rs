//! Waits until objects are what was wished, and shows how far they are. Watches; polls nothing.
//!
//! A wait ends by the goal, by failure, by its time limit (exit 8, with the last state that was seen) or by Ctrl-C
//! (exit 130). Neither of the last two undoes anything: the daemon goes on, and that is said.

pub mod follow;
pub mod goal;
pub mod progress;

use std::time::Duration;

use agentd_api::{ErrorCode, KindDef, Span, State};
use agentd_client::{AnyObject, ClientError};
use clap::Args;

use crate::app::App;
use crate::failure::{Exit, Failure};
use crate::output::table::plain;
use crate::target::label;
use crate::wait::follow::{Follow, Seen};
use crate::wait::goal::{Goal, Judged};
use crate::wait::progress::Display;

/// The flags of a command that waits.
#[derive(Debug, Clone, Args)]
pub struct WaitArgs {
    /// Return once the daemon has taken it on, without waiting until it is done
    #[arg(long)]
    pub no_wait: bool,
    /// How long to wait, as in 90s or 5m; what was begun goes on after that
    #[arg(long, value_name = "DURATION", conflicts_with = "no_wait")]
    pub timeout: Option<Span>,
}

impl WaitArgs {
    pub fn limit(&self, usual: Duration) -> Duration {
        self.timeout.map_or(usual, Span::duration)
    }
}

/// An object of another kind whose progress is worth showing, such as the image that a VM waits for.
pub struct Beside {
    pub def: &'static KindDef,
    pub name: String,
}

pub struct Wait<'a> {
    pub app: &'a App,
    pub def: &'static KindDef,
    pub goal: Goal,
    pub limit: Duration,
    pub beside: Option<Beside>,
}

/// One object that is waited for.
struct Waited {
    name: String,
    generation: u64,
    last: AnyObject,
    outcome: Option<Result<AnyObject, Failure>>,
}

/// For how long it was waited, and for what: what a time limit and Ctrl-C need to say.
enum Stopped {
    /// While the daemon was away, for this reason, or not.
    TimedOut(Option<ClientError>),
    Interrupted,
}

impl Wait<'_> {
    /// Waits for all of `objects`, given as the daemon answered the wish. Answers in their order; an object that is
    /// gone is answered with its last state.
    pub async fn all(&self, objects: Vec<AnyObject>) -> Vec<Result<AnyObject, Failure>> {
        let mut display = Display::new();
        // What has nothing on the host is gone with the answer to its deletion, which no later change follows.
        let begin = if self.goal == Goal::Gone { Follow::reread } else { Follow::known };
        let mut follow = begin(self.app, self.def, &objects);
        let mut beside = self.beside.as_ref().map(|b| (b, Follow::named(self.app, b.def, &b.name)));
        let mut waited: Vec<Waited> = objects.into_iter().map(Waited::new).collect();
        for one in &mut waited {
            let object = one.last.clone();
            self.object(one, object, &mut display);
        }
        // Why the daemon did not answer when it was last heard of.
        let mut away = None;
        let end = tokio::time::sleep(self.limit);
        tokio::pin!(end);
        let interrupt = tokio::signal::ctrl_c();
        tokio::pin!(interrupt);
        while waited.iter().any(|one| one.outcome.is_none()) {
            // Each arm may be dropped half-way: `Follow::next` is cancel-safe, the others are polled on.
            tokio::select! {
                seen = follow.next() => match seen {
                    Ok(Seen::Object(n, object)) => {
                        away = None;
                        self.object(&mut waited[n], *object, &mut display);
                    }
                    Ok(Seen::Gone(n)) => {
                        away = None;
                        self.gone(&mut waited[n], &mut display);
                    }
                    Ok(Seen::Away(error)) => {
                        display.note(&format!("{error}; waiting for it to come back"));
                        away = Some(error);
                    }
                    Err(error) => return vec![Err(error.into())],
                },
                seen = next_beside(&mut beside) => {
                    // What is beside is only shown. Its errors are the object's own reason soon enough.
                    match (seen, &self.beside) {
                        (Some(Seen::Object(_, object)), Some(b)) => {
                            let (name, status) = (label(b.def, &b.name), object.common());
                            if status.state == State::Ready {
                                display.end(&name, status.state.as_str());
                                beside = None;
                            } else {
                                display.status(&name, &status);
                            }
                        }
                        (Some(_), _) => {}
                        (None, _) => beside = None,
                    }
                },
                () = &mut end => return self.stopped(waited, &Stopped::TimedOut(away)),
                _ = &mut interrupt => return self.stopped(waited, &Stopped::Interrupted),
            }
        }
        waited.into_iter().map(|one| one.outcome.unwrap_or(Ok(one.last))).collect()
    }

    /// The same for one.
    pub async fn one(&self, object: AnyObject) -> Result<AnyObject, Failure> {
        let none = || Err(Failure::new(Exit::Failed, "nothing was waited for"));
        self.all(vec![object]).await.pop().unwrap_or_else(none)
    }

    fn object(&self, one: &mut Waited, object: AnyObject, display: &mut Display) {
        let name = label(self.def, &one.name);
        one.last = object.clone();
        if one.outcome.is_some() {
            return;
        }
        match self.goal.judge(&object, one.generation) {
            Judged::NotYet => display.status(&name, &object.common()),
            Judged::Reached => {
                display.end(&name, &reached(&object));
                one.outcome = Some(Ok(object));
            }
            Judged::Failed(reason) => {
                let hint = format!(
                    "`agentctl describe {name}` tells what happened; `agentctl retry {name}` tries again"
                );
                let failure = Failure::new(exit_of(&object), plain(&reason)).hint(hint);
                one.outcome = Some(Err(failure.about(name)));
            }
        }
    }

    fn gone(&self, one: &mut Waited, display: &mut Display) {
        let name = label(self.def, &one.name);
        if one.outcome.is_some() {
            return;
        }
        one.outcome = Some(if self.goal == Goal::Gone {
            display.end(&name, "gone");
            Ok(one.last.clone())
        } else {
            let text = format!("was deleted before it was {}", self.goal.as_str());
            Err(Failure::new(Exit::Failed, text).about(name))
        });
    }

    fn stopped(&self, waited: Vec<Waited>, why: &Stopped) -> Vec<Result<AnyObject, Failure>> {
        waited
            .into_iter()
            .map(|one| one.outcome.unwrap_or_else(|| Err(self.unfinished(&one.name, &one.last, why))))
            .collect()
    }

    fn unfinished(&self, name: &str, last: &AnyObject, why: &Stopped) -> Failure {
        let status = last.common();
        let mut state = status.state.to_string();
        if let Some(reason) = &status.reason {
            state = format!("{state} ({})", plain(reason));
        }
        let name = label(self.def, name);
        let wanted = self.goal.as_str();
        let failure = match why {
            Stopped::TimedOut(None) => {
                let limit = Span(self.limit);
                Failure::new(Exit::TimedOut, format!("not {wanted} after {limit}; it is {state}"))
            }
            Stopped::TimedOut(Some(error)) => {
                let limit = Span(self.limit);
                let text =
                    format!("not {wanted} after {limit}; it was {state} when agentd was last heard: {error}");
                return Failure::new(Exit::TimedOut, text)
                    .hint(format!(
                        "once agentd is back it goes on: `agentctl get {name}` shows how far it is"
                    ))
                    .about(name);
            }
            Stopped::Interrupted => Failure::new(
                Exit::Interrupted,
                format!("interrupted; it is {state}, and agentd goes on with it"),
            ),
        };
        failure.hint(format!("it goes on: `agentctl get {name}` shows how far it is")).about(name)
    }
}

impl Waited {
    fn new(object: AnyObject) -> Self {
        let (name, generation) = (object.meta.name.to_string(), object.meta.generation);
        Self { name, generation, last: object, outcome: None }
    }
}

/// What a backend cannot do has an exit status of its own, also where that was found out late.
fn exit_of(object: &AnyObject) -> Exit {
    let code = object.common().attempts.map(|attempts| attempts.code);
    if code == Some(ErrorCode::Unsupported) { Exit::Unsupported } else { Exit::Failed }
}

fn reached(object: &AnyObject) -> String {
    object.common().state.to_string()
}

async fn next_beside(beside: &mut Option<(&Beside, Follow<'_>)>) -> Option<Seen> {
    match beside {
        Some((_, follow)) => follow.next().await.ok(),
        None => std::future::pending().await,
    }
}
