//! `vm exec` and `container exec`: a program in a guest, as if it ran here: its output, its input, its signals, its exit
//! status.

use std::io::{self, Read, Write};

use agentd_api::exec::{ExecWish, TerminalSize};
use agentd_api::frame::Frame;
use agentd_api::{KindDef, Problem};
use agentd_client::{FrameReader, FrameWriter, SubPath, failed};
use clap::Args;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::app::App;
use crate::failure::{Exit, Failure};
use crate::target::{self, label};
use crate::terminal::{Raw, columns_and_rows};

#[derive(Debug, Args)]
pub struct Exec {
    /// Its name or id
    #[arg(value_name = "NAME")]
    name: String,
    /// Pass stdin on
    #[arg(short, long)]
    interactive: bool,
    /// Give it a terminal
    #[arg(short, long)]
    tty: bool,
    /// Set a variable of its environment
    #[arg(short, long = "env", value_name = "K=V", value_parser = variable)]
    env: Vec<(String, String)>,
    /// The folder in it that the program is run in [default: its user's home]
    #[arg(short = 'w', long, value_name = "DIR")]
    cwd: Option<String>,
    /// The user in it that runs the program, also as USER:GROUP [default: root]
    #[arg(short, long, value_name = "USER")]
    user: Option<String>,
    /// The program and its arguments
    #[arg(value_name = "CMD", required = true, last = true)]
    argv: Vec<String>,
}

pub fn variable(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write it as NAME=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// How many times a signal is passed on before it ends this program too.
const PATIENCE: usize = 2;

impl Exec {
    pub async fn run(self, app: &App, def: &'static KindDef) -> Result<(), Failure> {
        let name = target::name_of(app, def, &self.name).await?;
        let about = label(def, &name);
        let wish = self.wish();
        let errors = wish.check();
        if !errors.is_empty() {
            return Err(Failure::from(Problem::invalid(errors)).about(about));
        }
        let sub = def.sub("exec").expect("a subresource that is declared");
        let path = SubPath { def, project: Some(&app.project), name: &name, sub, params: &[] };
        let opened = app.client.frames(path).await;
        let (from, mut to) = opened.map_err(|e| target::not_found_hint(e, def).about(about.clone()))?;
        let text = serde_json::to_vec(&wish).map_err(|e| Failure::new(Exit::Failed, e.to_string()))?;
        to.send(&Frame::In(text)).await.map_err(cut)?;
        to.send(&Frame::InEnd).await.map_err(cut)?;
        let raw = if self.tty && self.interactive { Raw::begin()? } else { None };
        let typed = self.interactive.then(input);
        // Ends with the program, or with this one.
        let sender = tokio::spawn(send(to, typed, Signals::new(self.tty)?));
        let ended = hear(from).await;
        sender.abort();
        drop(raw);
        let status = ended.map_err(|failure| failure.about(about))?;
        // Whatever it is: statuses of this program's own are below that of a program that could not be run.
        std::process::exit(status & 0xff)
    }

    fn wish(&self) -> ExecWish {
        let mut env: std::collections::BTreeMap<String, String> = self.env.iter().cloned().collect();
        let terminal = self.tty.then(|| columns_and_rows().unwrap_or((80, 24)));
        if let (true, Ok(term)) = (self.tty, std::env::var("TERM")) {
            env.entry("TERM".to_owned()).or_insert(term);
        }
        ExecWish {
            argv: self.argv.clone(),
            env,
            cwd: self.cwd.clone(),
            user: self.user.clone(),
            terminal: terminal.map(|(columns, rows)| TerminalSize { columns, rows }),
            input: self.interactive,
        }
    }
}

/// Those that are passed on.
pub struct Signals {
    all: [(i32, Signal); 4],
    resized: Signal,
    terminal: bool,
}

impl Signals {
    pub fn new(terminal: bool) -> Result<Self, Failure> {
        let on = |kind: SignalKind| {
            signal(kind).map_err(|e| Failure::new(Exit::Failed, format!("signals cannot be caught: {e}")))
        };
        let one = |kind: SignalKind| Ok::<_, Failure>((kind.as_raw_value(), on(kind)?));
        let all = [
            one(SignalKind::interrupt())?,
            one(SignalKind::terminate())?,
            one(SignalKind::hangup())?,
            one(SignalKind::quit())?,
        ];
        Ok(Self { all, resized: on(SignalKind::window_change())?, terminal })
    }
}

/// The number of the next.
async fn next([a, b, c, d]: &mut [(i32, Signal); 4]) -> i32 {
    // Cancel-safe: a signal that was received is not lost with the other arms.
    tokio::select! {
        _ = a.1.recv() => a.0,
        _ = b.1.recv() => b.0,
        _ = c.1.recv() => c.0,
        _ = d.1.recv() => d.0,
    }
}

/// Stdin, as it comes; closed at its end. Read by a thread, which the process does not wait for.
pub fn input() -> mpsc::Receiver<Vec<u8>> {
    let (pieces, read) = mpsc::channel(4);
    std::thread::spawn(move || {
        let mut buffer = vec![0; 32 << 10];
        loop {
            match io::stdin().lock().read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => {
                    if pieces.blocking_send(buffer[..count].to_vec()).is_err() {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    });
    read
}

/// What goes to the program. By itself, so that what comes from it is never held up by it.
pub async fn send(
    mut to: FrameWriter<impl AsyncWrite + Unpin>,
    mut typed: Option<mpsc::Receiver<Vec<u8>>>,
    mut signals: Signals,
) -> io::Result<()> {
    let mut passed = 0;
    loop {
        let pieces = async {
            match &mut typed {
                Some(typed) => typed.recv().await,
                None => std::future::pending().await,
            }
        };
        // Cancel safety: pieces stay with their channel, signals are kept.
        let frame = tokio::select! {
            piece = pieces => match piece {
                Some(bytes) => Frame::In(bytes),
                None => {
                    typed = None;
                    Frame::InEnd
                }
            },
            _ = signals.resized.recv() => match columns_and_rows() {
                Some((columns, rows)) if signals.terminal => Frame::Resize { columns, rows },
                _ => continue,
            },
            number = next(&mut signals.all) => {
                passed += 1;
                if passed > PATIENCE {
                    std::process::exit(128 + number);
                }
                Frame::Signal(number)
            }
        };
        to.send(&frame).await?;
    }
}

/// What comes from the program, up to its status.
pub async fn hear(mut from: FrameReader<impl AsyncRead + Unpin>) -> Result<i32, Failure> {
    loop {
        let frame = from.next().await.map_err(cut)?;
        let written = match frame {
            Some(Frame::Out(bytes)) => put(&mut io::stdout().lock(), &bytes),
            Some(Frame::Err(bytes)) => put(&mut io::stderr().lock(), &bytes),
            Some(Frame::Exit(status)) => return Ok(status),
            Some(Frame::Failed(text)) => return Err(failed(&text).into()),
            Some(_) => Ok(()),
            None => return Err(cut(io::ErrorKind::UnexpectedEof.into())),
        };
        match written {
            // As a shell would say it of a program that SIGPIPE ended; the one in the guest is ended by our going.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(141),
            other => other?,
        }
    }
}

pub fn put(to: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes).and_then(|()| to.flush())
}

pub fn cut(error: io::Error) -> Failure {
    let text = match error.kind() {
        io::ErrorKind::InvalidData => format!("the daemon sent what is no program's output: {error}"),
        _ => "the daemon went away, and the program was ended".to_owned(),
    };
    Failure::new(Exit::Failed, text)
}
