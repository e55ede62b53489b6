//! Terminals: those that programs are given, and the guest's own console.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;

use nix::fcntl::OFlag;
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};

use crate::ioctl;

const NO_CONTROL: i32 = OFlag::O_NOCTTY.bits();

/// A pseudo terminal.
pub struct Terminal {
    pub master: File,
    /// Where the program finds its end of it.
    pub path: String,
    /// Held so that the master does not see a hang-up before the program has opened it.
    _held: File,
}

impl Terminal {
    pub fn new((columns, rows): (u16, u16)) -> io::Result<Self> {
        let master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let path = ptsname_r(&master)?;
        let held = OpenOptions::new().read(true).write(true).custom_flags(NO_CONTROL).open(&path)?;
        let master = File::from(master.as_fd().try_clone_to_owned()?);
        resize(&master, columns, rows)?;
        Ok(Self { master, path, _held: held })
    }

    /// What typed means that nothing more will be.
    pub fn end_of_input(&self) -> u8 {
        4
    }
}

pub fn resize(terminal: &File, columns: u16, rows: u16) -> io::Result<()> {
    ioctl::set_size(terminal.as_fd(), columns, rows)
}

/// The serial console's size, told to its driver, which tells the program in its foreground.
pub fn size_console(columns: u16, rows: u16) -> io::Result<()> {
    let active = fs::read_to_string("/sys/class/tty/console/active")?;
    let name = active.split_whitespace().next_back().ok_or_else(|| io::Error::other("there is none"))?;
    let flags = (OFlag::O_NOCTTY | OFlag::O_NONBLOCK).bits();
    let console =
        OpenOptions::new().read(true).write(true).custom_flags(flags).open(format!("/dev/{name}"))?;
    ioctl::set_size(console.as_fd(), columns, rows)
}
