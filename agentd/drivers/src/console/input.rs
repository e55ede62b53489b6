//! What is typed into a guest's serial port: the terminal (pty) that its emulator holds the other end of.
//!
//! Measured with QEMU 10: the log of a port is exact while nobody has its terminal open, and while whoever has reads it
//! (stalls of 120 ms of a guest that prints without a pause are borne). A terminal that is open and not read fills up, and
//! then QEMU logs bytes twice. So it is open only while somebody may type and a moment longer, and a thread of its own
//! reads it away: what the guest says is taken from the log, where nothing is missing. A host that starves that thread for
//! longer can still see a byte twice in the log while somebody may type: one in 40,000 lines was, with twenty processes to
//! a core. (A socket in the terminal's place holds no more than 277 bytes, each being a message of its own, and doubled
//! 345 of 200,000 bytes under the same reader.)

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// For the guest to take what is typed: one that is paused or hangs takes nothing.
const PATIENCE: Duration = Duration::from_secs(5);
/// Milliseconds. How often it is looked whether the guest has ended while it takes nothing.
const LOOK: u8 = 100;

/// How long the terminal stays open behind what was typed last. QEMU looks once a second whether somebody has opened it,
/// then takes what was typed as its guest does, and takes nothing from one that is closed. How much it has not taken yet
/// cannot be seen from this side.
const LINGER: Duration = Duration::from_secs(2);

/// An open terminal. Closed when dropped, a while after what was typed last.
#[derive(Debug)]
pub struct Input {
    terminal: Arc<File>,
    gone: CancellationToken,
    typed: Typed,
    /// The reader ends when this closes, once it has lingered.
    _open: OwnedFd,
}

/// When something was typed last.
#[derive(Debug, Clone, Default)]
struct Typed(Arc<Mutex<Option<Instant>>>);

impl Typed {
    fn now(&self) {
        *self.0.lock() = Some(Instant::now());
    }

    /// In milliseconds; none where nothing has to be waited for.
    fn lingers(&self) -> Option<u16> {
        let rest = LINGER.checked_sub(self.0.lock().as_ref()?.elapsed())?;
        u16::try_from(rest.as_millis()).ok().filter(|rest| *rest > 0)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum InputError {
    #[error("the guest's serial port is gone: the guest has ended")]
    Gone,
    #[error("the guest does not take what is typed")]
    Stuck,
    #[error("the guest's serial port cannot be opened or written")]
    Failed(#[source] io::Error),
}

impl Input {
    /// Opens the terminal and begins to read it away.
    pub fn open(terminal: &Path) -> Result<Self, InputError> {
        let flags = (OFlag::O_NOCTTY | OFlag::O_NONBLOCK).bits();
        let opened = OpenOptions::new().read(true).write(true).custom_flags(flags).open(terminal);
        let terminal = Arc::new(opened.map_err(InputError::Failed)?);
        let (closed, open) =
            nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(|e| InputError::Failed(e.into()))?;
        let gone = CancellationToken::new();
        let typed = Typed::default();
        let (reads, tells, lingers) = (terminal.clone(), gone.clone(), typed.clone());
        std::thread::Builder::new()
            .name("agentd-console".to_owned())
            .spawn(move || {
                read_away(&reads, &closed, &lingers);
                tells.cancel();
            })
            .map_err(InputError::Failed)?;
        Ok(Self { terminal, gone, typed, _open: open })
    }

    /// Whether the guest has ended.
    pub fn is_gone(&self) -> bool {
        self.gone.is_cancelled()
    }

    /// Types all of it, or fails. Goes on to its end when its caller stops waiting.
    pub async fn write(&self, bytes: Vec<u8>) -> Result<(), InputError> {
        let (terminal, gone, typed) = (self.terminal.clone(), self.gone.clone(), self.typed.clone());
        let done = tokio::task::spawn_blocking(move || write_all(&terminal, (&gone, &typed), &bytes)).await;
        done.map_err(|error| InputError::Failed(io::Error::other(error)))?
    }
}

fn write_all(
    mut terminal: &File,
    (gone, typed): (&CancellationToken, &Typed),
    mut bytes: &[u8],
) -> Result<(), InputError> {
    let mut moved = Instant::now();
    while !bytes.is_empty() {
        if gone.is_cancelled() {
            return Err(InputError::Gone);
        }
        match terminal.write(bytes) {
            Ok(0) => return Err(InputError::Gone),
            Ok(written) => {
                bytes = bytes.get(written..).unwrap_or_default();
                moved = Instant::now();
                typed.now();
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if moved.elapsed() > PATIENCE {
                    return Err(InputError::Stuck);
                }
                // An error of poll is met again by the write.
                let _ =
                    poll(&mut [PollFd::new(terminal.as_fd(), PollFlags::POLLOUT)], PollTimeout::from(LOOK));
            }
            Err(error) if error.raw_os_error() == Some(Errno::EIO as i32) => return Err(InputError::Gone),
            Err(error) => return Err(InputError::Failed(error)),
        }
    }
    Ok(())
}

/// Until the terminal hangs up, or `closed` says that nobody types any more and what was typed had its time.
fn read_away(mut terminal: &File, closed: &OwnedFd, typed: &Typed) {
    let mut buffer = vec![0; 64 << 10];
    let mut left = false;
    loop {
        let limit = match (left, typed.lingers()) {
            (false, _) => PollTimeout::NONE,
            (true, Some(rest)) => PollTimeout::from(rest),
            (true, None) => return,
        };
        let mut both = [
            PollFd::new(terminal.as_fd(), PollFlags::POLLIN),
            PollFd::new(closed.as_fd(), PollFlags::POLLIN),
        ];
        // What is closed would be told of again and again.
        let looked_at = if left { &mut both[..1] } else { &mut both[..] };
        match poll(looked_at, limit) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return,
        }
        left |= both[1].revents().is_some_and(|events| !events.is_empty());
        match terminal.read(&mut buffer) {
            // The end, or EIO: the emulator has closed its side.
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(_) => return,
        }
    }
}
