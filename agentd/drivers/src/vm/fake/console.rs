//! The serial ports of the fake's guests: real terminals. A guest echoes what is typed into its console's log, and hangs
//! up when it ends.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::openpty;
use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};
use parking_lot::Mutex;
use uuid::Uuid;

use super::{FakeVm, Inner};
use crate::vm::{GuestConsole, Power, VmError};

/// Milliseconds. How soon a guest that has ended hangs up.
const LOOK: u8 = 20;

/// The terminal of each guest whose console was asked for, and in which run of the guest.
#[derive(Debug, Default)]
pub(super) struct Consoles {
    open: Mutex<BTreeMap<Uuid, (u64, PathBuf)>>,
}

impl Inner {
    /// The guest's run, where it is on.
    pub(super) fn run_if_on(&self, vm: Uuid) -> Result<u64, VmError> {
        match self.domains.observe(vm).ok_or(VmError::Missing(vm))?.power {
            Power::Off => Err(VmError::Off(vm)),
            Power::Running | Power::Paused => Ok(self.domains.run_of(vm)),
        }
    }
}

impl FakeVm {
    /// The guest says this on its console.
    pub fn guest_says(&self, vm: Uuid, text: &str) {
        let spec = self.defined(vm).expect("a defined guest speaks");
        say(&spec.console_log, text.as_bytes()).expect("the folder of its log is there");
    }
}

fn say(log: &Path, bytes: &[u8]) -> io::Result<()> {
    OpenOptions::new().create(true).append(true).open(log)?.write_all(bytes)
}

#[async_trait]
impl GuestConsole for FakeVm {
    async fn console_terminal(&self, vm: Uuid) -> Result<PathBuf, VmError> {
        let fake = self.clone();
        self.call("console_terminal", move |inner| {
            let run = inner.run_if_on(vm)?;
            let mut open = inner.consoles.open.lock();
            if let Some((then, terminal)) = open.get(&vm)
                && *then == run
            {
                return Ok(terminal.clone());
            }
            let failed =
                |error: io::Error| VmError::Failed { call: "open a terminal", detail: error.to_string() };
            let (guest, terminal, name) = terminal().map_err(failed)?;
            std::thread::spawn(move || fake.echo(vm, run, &guest, &terminal));
            open.insert(vm, (run, name.clone()));
            Ok(name)
        })
        .await
    }
}

/// The guest's end, the end that is typed into, and the name of that.
fn terminal() -> io::Result<(OwnedFd, OwnedFd, PathBuf)> {
    let pair = openpty(None, None)?;
    let mut raw = tcgetattr(&pair.slave)?;
    cfmakeraw(&mut raw);
    tcsetattr(&pair.slave, SetArg::TCSANOW, &raw)?;
    fcntl(&pair.master, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    let name = nix::unistd::ttyname(&pair.slave)?;
    Ok((pair.master, pair.slave, name))
}

impl FakeVm {
    /// Until the guest's run is over. `_terminal` is held, or the guest would see a hang-up between two that type.
    fn echo(&self, vm: Uuid, run: u64, guest: &OwnedFd, _terminal: &OwnedFd) {
        let mut buffer = [0; 4096];
        while self.inner.run_if_on(vm).is_ok_and(|now| now == run) {
            let _ = poll(&mut [PollFd::new(guest.as_fd(), PollFlags::POLLIN)], PollTimeout::from(LOOK));
            if let Ok(read) = nix::unistd::read(guest, &mut buffer)
                && let (Some(spec), Some(typed)) = (self.defined(vm), buffer.get(..read))
            {
                // A log whose folder is gone is a guest whose VM is being removed.
                let _ = say(&spec.console_log, typed);
            }
        }
    }
}
