//! `container attach`: a container's own input and output, as if it ran here. Leaving does not end it.

use std::time::Duration;

use agentd_client::{AnyObject, SubPath};
use clap::Args;
use tokio::sync::mpsc;

use super::{DEF, sub};
use crate::app::App;
use crate::failure::{Exit, Failure};
use crate::noun::exec::{Signals, hear, input, send};
use crate::target::{self, label};
use crate::terminal::Raw;
use crate::verb::act;
use crate::wait::follow::{Follow, Seen};
use crate::wait::goal::{Goal, Judged};

/// Ctrl-P Ctrl-Q, as Docker has it.
const LEAVE: [u8; 2] = [0x10, 0x11];
/// How long what was said last may be on its way.
const TELLING: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
pub struct Attach {
    /// The container's name or id
    #[arg(value_name = "NAME")]
    name: String,
    /// Only watch: what is typed goes nowhere, and Ctrl-C leaves
    #[arg(long)]
    watch: bool,
}

impl Attach {
    pub async fn run(self, app: &App) -> Result<(), Failure> {
        let object = target::find(app, DEF, &self.name).await?;
        sit(app, &object, self.watch, false).await
    }
}

/// Sits at it until it ends or is left, which ends this program. Where it is to be `started`, that is done once all that it
/// says will be heard.
pub async fn sit(app: &App, object: &AnyObject, watch: bool, started: bool) -> Result<(), Failure> {
    let (name, tty) = (object.meta.name.to_string(), object.spec["tty"] == true);
    let typed = object.spec["stdin_open"] == true && !watch;
    let about = label(DEF, &name);
    let flags = [("watch", watch), ("early", started)];
    let params: Vec<_> = flags.into_iter().filter(|(_, on)| *on).map(|(flag, _)| (flag, "true")).collect();
    let path =
        SubPath { def: DEF, project: Some(&app.project), name: &name, sub: sub("attach"), params: &params };
    let opened = app.client.frames(path).await;
    let (from, to) = opened.map_err(|e| target::not_found_hint(e, DEF).about(about.clone()))?;
    let raw = if tty && typed { Raw::begin()? } else { None };
    let (leave, mut left) = mpsc::channel(1);
    let pieces = typed.then(|| if tty { leaving(input(), leave.clone()) } else { input() });
    let sender = match watch {
        true => tokio::spawn(async move {
            let _open = to;
            std::future::pending().await
        }),
        false => tokio::spawn(send(to, pieces, Signals::new(tty)?)),
    };
    // Cancel safety: each ends the sitting.
    let ended = tokio::select! {
        ended = hear(from) => Some(ended),
        Some(()) = left.recv() => None,
        _ = tokio::signal::ctrl_c(), if watch => None,
        failure = never_up(app, &name), if started => Some(Err(failure)),
    };
    sender.abort();
    drop(raw);
    match ended {
        Some(ended) => std::process::exit(ended.map_err(|failure| failure.about(about))? & 0xff),
        None => {
            app.say(format_args!("left {about}; it goes on"));
            // A thread may still wait for what is typed.
            std::process::exit(Exit::Done as i32)
        }
    }
}

/// Starts it, and ends only where it does not come up.
async fn never_up(app: &App, name: &str) -> Failure {
    let object = match act::send(app, DEF, name, "start", false).await {
        Ok(object) => object,
        Err(failure) => return failure,
    };
    let generation = object.meta.generation;
    let mut follow = Follow::known(app, DEF, &[object]);
    loop {
        match follow.next().await {
            Ok(Seen::Object(_, now)) => match Goal::Running.judge(&now, generation) {
                Judged::NotYet => {}
                Judged::Reached => return std::future::pending().await,
                Judged::Failed(why) => {
                    // One that was up, if only for a moment, tells its end itself.
                    tokio::time::sleep(TELLING).await;
                    return Failure::new(Exit::Failed, why);
                }
            },
            Ok(Seen::Gone(_)) => return std::future::pending().await,
            Ok(Seen::Away(_)) => {}
            Err(error) => return error.into(),
        }
    }
}

/// What is typed, up to the keys that leave.
fn leaving(mut typed: mpsc::Receiver<Vec<u8>>, leave: mpsc::Sender<()>) -> mpsc::Receiver<Vec<u8>> {
    let (pieces, read) = mpsc::channel(4);
    tokio::spawn(async move {
        let mut last = 0;
        while let Some(piece) = typed.recv().await {
            let leaves = piece.windows(2).any(|two| two == LEAVE)
                || (last, piece.first()) == (LEAVE[0], Some(&LEAVE[1]));
            if leaves {
                let _ = leave.send(()).await;
                return;
            }
            last = piece.last().copied().unwrap_or(last);
            if pieces.send(piece).await.is_err() {
                return;
            }
        }
    });
    read
}
