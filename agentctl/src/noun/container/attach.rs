//! `container attach`: a container's own input and output, as if it ran here. Leaving does not end it.

use agentd_client::SubPath;
use clap::Args;
use tokio::sync::mpsc;

use super::{DEF, sub};
use crate::app::App;
use crate::failure::{Exit, Failure};
use crate::noun::exec::{Signals, hear, input, send};
use crate::target::{self, label};
use crate::terminal::Raw;

/// Ctrl-P Ctrl-Q, as Docker has it.
const LEAVE: [u8; 2] = [0x10, 0x11];

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
        let (name, tty) = (object.meta.name.to_string(), object.spec["tty"] == true);
        let typed = object.spec["stdin_open"] == true && !self.watch;
        let about = label(DEF, &name);
        let params: &[(&str, &str)] = if self.watch { &[("watch", "true")] } else { &[] };
        let path = SubPath { def: DEF, project: Some(&app.project), name: &name, sub: sub("attach"), params };
        let opened = app.client.frames(path).await;
        let (from, to) = opened.map_err(|e| target::not_found_hint(e, DEF).about(about.clone()))?;
        let raw = if tty && typed { Raw::begin()? } else { None };
        let (leave, mut left) = mpsc::channel(1);
        let pieces = typed.then(|| if tty { leaving(input(), leave.clone()) } else { input() });
        let sender = match self.watch {
            true => tokio::spawn(async move {
                let _open = to;
                std::future::pending().await
            }),
            false => tokio::spawn(send(to, pieces, Signals::new(tty)?)),
        };
        // Cancel safety: both end the sitting.
        let ended = tokio::select! {
            ended = hear(from) => Some(ended),
            Some(()) = left.recv() => None,
            _ = tokio::signal::ctrl_c(), if self.watch => None,
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
