//! `vm console`: a person at a VM's serial console.

use std::io::{self, IsTerminal, Read, Write};

use agentd_api::frame::Frame;
use agentd_client::{FrameReader, FrameWriter, SubPath, failed};
use clap::Args;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use super::{DEF, sub};
use crate::app::App;
use crate::failure::{Exit, Failure};
use crate::target::{self, label};
use crate::terminal::{Escape, Raw, columns_and_rows, escape};

#[derive(Debug, Args)]
pub struct Console {
    /// The VM's name or id
    #[arg(value_name = "NAME")]
    name: String,
    /// The key that ends it: ^] and the like, one character, or none
    #[arg(long, value_name = "KEY", default_value = "^]", value_parser = escape)]
    escape: Escape,
    /// Type nothing, only watch
    #[arg(long, conflicts_with = "force")]
    watch: bool,
    /// Take over from whoever types now
    #[arg(long)]
    force: bool,
    /// How many lines of what was said before come first [default: 64 KiB]
    #[arg(short = 'n', long, value_name = "LINES")]
    tail: Option<u64>,
}

/// How it ended, where it did not fail.
enum Ended {
    /// By the escape key.
    Left,
    /// The VM is gone.
    Gone,
    Signal(i32),
    /// Nobody reads our output.
    Unread,
}

impl Console {
    pub async fn run(self, app: &App) -> Result<(), Failure> {
        let name = target::name_of(app, DEF, &self.name).await?;
        let about = label(DEF, &name);
        let tail = self.tail.map(|lines| lines.to_string());
        let mut params = Vec::new();
        params.extend(self.watch.then_some(("watch", "true")));
        params.extend(self.force.then_some(("force", "true")));
        params.extend(tail.as_deref().map(|lines| ("tail", lines)));
        let path = SubPath {
            def: DEF,
            project: Some(&app.project),
            name: &name,
            sub: sub("console"),
            params: &params,
        };
        let opened = app.client.frames(path).await;
        let (from, to) = opened.map_err(|e| target::not_found_hint(e, DEF).about(about.clone()))?;
        if io::stdin().is_terminal() {
            let leave = self.escape.name().map(|key| format!(", {key} leaves")).unwrap_or_default();
            app.say(format_args!("the console of {about}{leave}"));
        }
        let signals = Signals::new()?;
        let raw = Raw::begin()?;
        let ended = Sitting { escape: self.escape, raw: raw.is_some() }.run(from, to, signals).await;
        drop(raw);
        if io::stdout().is_terminal() {
            // The guest's last line need not have ended.
            app.say("");
        }
        match ended.map_err(|failure| failure.about(about.clone()))? {
            Ended::Left | Ended::Unread => Ok(()),
            Ended::Gone => {
                app.say(format_args!("{about} is gone"));
                Ok(())
            }
            // As a shell would say it of a program that the signal ended.
            Ended::Signal(number) => std::process::exit(128 + number),
        }
    }
}

/// Those that end it. Each has its number.
struct Signals {
    ends: [(i32, Signal); 4],
    resized: Signal,
}

impl Signals {
    fn new() -> Result<Self, Failure> {
        let on = |kind: SignalKind| {
            signal(kind).map_err(|e| Failure::new(Exit::Failed, format!("signals cannot be caught: {e}")))
        };
        let end = |kind: SignalKind| Ok::<_, Failure>((kind.as_raw_value(), on(kind)?));
        let ends = [
            end(SignalKind::interrupt())?,
            end(SignalKind::terminate())?,
            end(SignalKind::hangup())?,
            end(SignalKind::quit())?,
        ];
        Ok(Self { ends, resized: on(SignalKind::window_change())? })
    }
}

/// The number of the first that comes.
async fn any([a, b, c, d]: &mut [(i32, Signal); 4]) -> i32 {
    // Cancel-safe: a signal that was received is not lost with the other arms.
    tokio::select! {
        _ = a.1.recv() => a.0,
        _ = b.1.recv() => b.0,
        _ = c.1.recv() => c.0,
        _ = d.1.recv() => d.0,
    }
}

/// What is typed, as it comes; closed at its end. Read by a thread, which the process does not wait for.
fn keys() -> mpsc::Receiver<Vec<u8>> {
    let (keys, typed) = mpsc::channel(16);
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        loop {
            match io::stdin().lock().read(&mut buffer) {
                Ok(0) => return,
                Ok(read) => {
                    if keys.blocking_send(buffer.get(..read).unwrap_or_default().to_vec()).is_err() {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    });
    typed
}

struct Sitting {
    escape: Escape,
    raw: bool,
}

impl Sitting {
    async fn run(
        &self,
        mut from: FrameReader<impl AsyncRead + Unpin>,
        mut to: FrameWriter<impl AsyncWrite + Unpin>,
        mut signals: Signals,
    ) -> Result<Ended, Failure> {
        let mut keys = keys();
        let mut typing = true;
        tell_size(&mut to).await.map_err(cut)?;
        loop {
            // Cancel safety: a frame's bytes stay with its reader, keys with their channel, signals are kept.
            tokio::select! {
                frame = from.next() => match frame.map_err(cut)? {
                    Some(frame) => if let Some(ended) = self.show(frame)? { return Ok(ended) },
                    None => return Err(cut(io::ErrorKind::UnexpectedEof.into())),
                },
                read = keys.recv(), if typing => {
                    let (typed, left) = self.escape.split(read.as_deref().unwrap_or_default());
                    if !typed.is_empty() {
                        to.send(&Frame::In(typed.to_vec())).await.map_err(cut)?;
                    }
                    if left && self.raw {
                        return Ok(Ended::Left);
                    }
                    if read.is_none() {
                        typing = false;
                        to.send(&Frame::InEnd).await.map_err(cut)?;
                    }
                }
                _ = signals.resized.recv() => tell_size(&mut to).await.map_err(cut)?,
                number = any(&mut signals.ends) => return Ok(Ended::Signal(number)),
            }
        }
    }

    fn show(&self, frame: Frame) -> Result<Option<Ended>, Failure> {
        match frame {
            Frame::Out(bytes) => {
                let mut out = io::stdout().lock();
                match out.write_all(&bytes).and_then(|()| out.flush()) {
                    Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                        return Ok(Some(Ended::Unread));
                    }
                    other => other?,
                }
            }
            Frame::Note(note) => {
                // A raw terminal goes to the line's begin only when told to.
                let end = if self.raw { "\r\n" } else { "\n" };
                let _ = write!(io::stderr(), "{end}[{note}]{end}");
            }
            Frame::Failed(text) => return Err(failed(&text).into()),
            Frame::End => return Ok(Some(Ended::Gone)),
            _ => {}
        }
        Ok(None)
    }
}

async fn tell_size(to: &mut FrameWriter<impl AsyncWrite + Unpin>) -> io::Result<()> {
    match columns_and_rows() {
        Some((columns, rows)) => to.send(&Frame::Resize { columns, rows }).await,
        None => Ok(()),
    }
}

fn cut(error: io::Error) -> Failure {
    let text = match error.kind() {
        io::ErrorKind::InvalidData => format!("the daemon sent what is no console: {error}"),
        _ => "the daemon went away; the guest goes on".to_owned(),
    };
    Failure::new(Exit::Failed, text).hint("open the console again once the daemon is back")
}
