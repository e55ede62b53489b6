//! The virtio-serial port: where it is, and writing whole frames to it.
//!
//! Reading gives nothing while agentd is not connected; writing waits until it is.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use agentd_guest_wire::{Message, PORT, Side, greeting};

/// Its driver may be loaded later, and udev may not be there to make a link to it.
const CLASS: &str = "/sys/class/virtio-ports";
const LOOK_AGAIN: Duration = Duration::from_millis(100);
const LOOK_AGAIN_LATER: Duration = Duration::from_secs(2);
const SOON: usize = 600;

#[derive(Debug)]
pub struct Port {
    /// The nonce of the connection, 0 where there is none, and what is written to.
    out: Mutex<(u32, File)>,
}

/// Waits for the port; gives what is read from and what is written to.
pub fn open() -> io::Result<(File, Port)> {
    let mut looks = 0;
    let path = loop {
        if let Some(path) = find() {
            break path;
        }
        looks += 1;
        thread::sleep(if looks < SOON { LOOK_AGAIN } else { LOOK_AGAIN_LATER });
    };
    let file = OpenOptions::new().read(true).write(true).open(&path)?;
    let out = file.try_clone()?;
    Ok((file, Port { out: Mutex::new((0, out)) }))
}

fn find() -> Option<PathBuf> {
    let ports = fs::read_dir(CLASS).ok()?.filter_map(Result::ok);
    let ours = |path: &PathBuf| fs::read_to_string(path.join("name")).is_ok_and(|name| name.trim() == PORT);
    let port = ports.map(|entry| entry.path()).find(ours)?;
    Some(PathBuf::from("/dev").join(port.file_name()?))
}

impl Port {
    /// Greets, and from then on sends as of that connection. With 0 it asks to be greeted.
    pub fn greet(&self, nonce: u32) -> io::Result<()> {
        let mut out = self.lock();
        out.0 = nonce;
        out.1.write_all(&greeting(Side::Guest, nonce))
    }

    /// The connection is over: what is still sent of it goes nowhere.
    pub fn hang_up(&self) {
        // A writer that waits for agentd has the lock; what it writes is skipped by the next connection.
        if let Ok(mut out) = self.out.try_lock() {
            out.0 = 0;
        }
    }

    /// False where that connection is over.
    pub fn send(&self, nonce: u32, message: &Message) -> bool {
        let frame = message.encode(nonce);
        let mut out = self.lock();
        out.0 == nonce && out.1.write_all(&frame).is_ok()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, (u32, File)> {
        self.out.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
