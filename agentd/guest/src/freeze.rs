//! Freezes the guest's file systems for the moment in which its disk is copied.
//!
//! Nothing here writes to a file system, so nothing here waits for itself. Whoever froze and went away is forgotten: they
//! thaw with the connection, and after [`MOST`].

use std::fs::File;
use std::os::fd::AsFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;

use crate::facts::{Mount, mounts};
use crate::ioctl;

/// As agentd promises it.
const MOST: Duration = Duration::from_secs(120);

struct State {
    /// Opened before they were frozen, in the order in which they were.
    frozen: Vec<File>,
    /// Which freeze it was.
    time: u64,
}

static STATE: Mutex<State> = Mutex::new(State { frozen: Vec::new(), time: 0 });

fn lock() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Freezes all that is on disks; gives how many. What is frozen already stays so.
pub fn freeze() -> Result<u64, String> {
    let mut state = lock();
    if !state.frozen.is_empty() {
        return Ok(state.frozen.len() as u64);
    }
    // Inner ones first: they may be files of outer ones.
    for Mount { path, .. } in mounts().into_iter().rev() {
        let Ok(folder) = File::open(&path) else { continue };
        match ioctl::freeze(folder.as_fd()) {
            Ok(()) => state.frozen.push(folder),
            // It cannot be, or somebody else did.
            Err(Errno::EOPNOTSUPP | Errno::EBUSY | Errno::EINVAL | Errno::ENOTTY | Errno::EROFS) => {}
            Err(error) => {
                release(&mut state);
                return Err(format!("{path} cannot be frozen: {error}"));
            }
        }
    }
    state.time += 1;
    let (time, count) = (state.time, state.frozen.len() as u64);
    let watch = move || {
        thread::sleep(MOST);
        let mut state = lock();
        if state.time == time {
            release(&mut state);
        }
    };
    if thread::Builder::new().stack_size(64 << 10).spawn(watch).is_err() {
        release(&mut state);
        return Err("nothing could watch over it".to_owned());
    }
    Ok(count)
}

/// Thaws what was frozen here; gives how many.
pub fn thaw() -> u64 {
    release(&mut lock())
}

fn release(state: &mut State) -> u64 {
    let thawed = state.frozen.drain(..).rev().filter(|folder| ioctl::thaw(folder.as_fd()).is_ok());
    thawed.count() as u64
}
