//! One caller at one console.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use agentd_api::frame::Frame;
use agentd_api::{ErrorCode, Problem};
use agentd_drivers::console::{Input, InputError, Piece, Reader, Watched};
use agentd_drivers::fault::chain;
use agentd_drivers::vm::{VmDriver, VmError};
use agentd_store::Store;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::desks::{Seat, Terminal};
use crate::daemon::subs::frames::{FrameSink, FrameSource, frames};
use crate::daemon::subs::log::read_piece;
use crate::http::Channel;

/// How often it is looked whether the VM is still there, and in which state. That is a look into memory.
const LOOK: Duration = Duration::from_secs(1);

/// For what somebody typed before it left.
const LAST_WORDS: Duration = Duration::from_secs(2);

pub struct Sitting {
    pub vm: Uuid,
    pub store: Store,
    pub driver: Arc<dyn VmDriver>,
    pub seat: Arc<Seat>,
    pub only_watches: bool,
    pub stop: CancellationToken,
}

/// How the daemon's side ended.
enum Ended {
    /// The VM is gone.
    Gone,
    Stopped,
    Failed(io::Error),
}

impl Sitting {
    pub async fn run(
        self,
        channel: Channel,
        reader: Reader,
        watched: Watched,
        mut notes: mpsc::Receiver<String>,
    ) {
        let (mut from, mut to) = frames(channel);
        let mut taking = std::pin::pin!(self.take(&mut from));
        // Cancel safety: each half only lasts as long as the stream, and what was typed is taken to its end below.
        let ended = tokio::select! {
            ended = self.show(&mut to, reader, watched, &mut notes) => ended,
            taken = &mut taking => match taken {
                Ok(()) => return,
                Err(error) => Ok(Ended::Failed(error)),
            },
        };
        // A caller that is gone hears nothing of it.
        let _ = match ended {
            Err(_) => {
                // That it hears nothing more may be found before what it typed as the last has been read.
                let _ = tokio::time::timeout(LAST_WORDS, taking).await;
                return;
            }
            Ok(Ended::Gone) => to.end().await,
            Ok(Ended::Stopped) => {
                let problem = Problem::new(ErrorCode::BackendUnavailable, "agentd stops; the guest goes on");
                to.fail(&problem).await
            }
            Ok(Ended::Failed(error)) => to.fail(&Problem::new(ErrorCode::Invalid, error.to_string())).await,
        };
    }

    /// Sends what the guest says and what is to be told, until the VM or the caller is gone.
    async fn show(
        &self,
        to: &mut FrameSink<impl AsyncWrite + Unpin>,
        mut reader: Reader,
        mut watched: Watched,
        notes: &mut mpsc::Receiver<String>,
    ) -> io::Result<Ended> {
        let mut look = tokio::time::interval(LOOK);
        let mut state = None;
        loop {
            let (back, piece) = match read_piece(reader, u64::MAX).await {
                Ok(read) => read,
                Err(error) => return Ok(Ended::Failed(error)),
            };
            reader = back;
            match piece {
                (Piece::Data(_), bytes) => {
                    to.send(&Frame::Out(bytes)).await?;
                    continue;
                }
                (Piece::Gap, _) => {
                    to.send(&Frame::Note("some of what it said is not kept any more".to_owned())).await?;
                    continue;
                }
                (Piece::Nothing, _) => {}
            }
            // Cancel safety: each arm loses nothing when another is taken.
            tokio::select! {
                () = watched.changed() => {}
                () = self.stop.cancelled() => return Ok(Ended::Stopped),
                Some(note) = notes.recv() => to.send(&Frame::Note(note)).await?,
                _ = look.tick() => {
                    let Some(object) = self.store.by_id(self.vm) else { return Ok(Ended::Gone) };
                    let now = object.field("state").next().map(str::to_owned);
                    if state != now {
                        if let (Some(_), Some(now)) = (&state, &now) {
                            to.send(&Frame::Note(format!("the VM is {now}"))).await?;
                        }
                        state = now;
                    }
                }
            }
        }
    }

    /// Takes what the caller sends, until it leaves.
    async fn take(&self, from: &mut FrameSource<impl AsyncRead + Unpin>) -> io::Result<()> {
        if let Some(terminal) = self.seat.held() {
            // QEMU looks once a second whether somebody has opened it: by the first key it has.
            let _ = self.open(&terminal).await;
        }
        let mut refused = false;
        while let Some(frame) = from.next().await? {
            match frame {
                Frame::In(bytes) => {
                    let told = match self.terminal() {
                        Some(terminal) => self.type_in(&terminal, bytes).await,
                        None => Err("you watch; what you type goes nowhere".to_owned()),
                    };
                    match told {
                        Ok(()) => refused = false,
                        // Once, and not at each key.
                        Err(why) if !std::mem::replace(&mut refused, true) => self.seat.tell(&why),
                        Err(_) => {}
                    }
                }
                Frame::Resize { columns, rows } => self.resize(columns, rows),
                Frame::InEnd => {}
                Frame::End => return Ok(()),
                other => {
                    let text = format!("a console takes no such frame: {other:.40?}");
                    return Err(io::Error::new(io::ErrorKind::InvalidData, text));
                }
            }
        }
        Ok(())
    }

    fn terminal(&self) -> Option<Terminal> {
        if self.only_watches { None } else { self.seat.terminal() }
    }

    async fn type_in(&self, terminal: &Terminal, bytes: Vec<u8>) -> Result<(), String> {
        self.open(terminal).await?;
        let mut open = terminal.lock().await;
        let Some(input) = open.as_ref() else { return Ok(()) };
        let typed = input.write(bytes).await;
        if matches!(typed, Err(InputError::Gone | InputError::Failed(_))) {
            *open = None;
        }
        typed.map_err(|error| chain(&error))
    }

    /// Opens the terminal where it is not open, and makes sure that it is this guest's.
    async fn open(&self, terminal: &Terminal) -> Result<(), String> {
        let mut open = terminal.lock().await;
        if open.as_ref().is_some_and(|input| !input.is_gone()) {
            return Ok(());
        }
        *open = None;
        let asked = async || {
            self.driver.console_terminal(self.vm).await.map_err(|error| match error {
                VmError::Off(_) => "the guest does not run; what you type goes nowhere".to_owned(),
                other => chain(&other),
            })
        };
        let path = asked().await?;
        let input = Input::open(&path).map_err(|error| chain(&error))?;
        // Had the guest ended before it was opened, the name could be anybody's. Held open it stays whose it is.
        if asked().await? != path {
            return Err("the guest was started anew just now; try again".to_owned());
        }
        *open = Some(input);
        Ok(())
    }

    /// In a task of its own: an agent that does not answer must not hold up what is typed.
    fn resize(&self, columns: u16, rows: u16) {
        if self.seat.held().is_none() {
            return;
        }
        let (driver, vm) = (self.driver.clone(), self.vm);
        tokio::spawn(async move {
            if let Err(error) = driver.set_console_size(vm, columns, rows).await {
                tracing::debug!(%vm, "the guest was not told its terminal's size: {}", chain(&error));
            }
        });
    }
}
