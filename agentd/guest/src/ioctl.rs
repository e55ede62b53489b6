//! The three calls to the kernel for which there is no safe interface: a terminal's size, and freezing a file system.
//!
//! What makes it sound: each passes a descriptor that is borrowed, and so open, and what the kernel reads (a plain struct
//! of the right shape, or a number that it ignores) lives until the call returns.

#![expect(unsafe_code, reason = "these are reached only through ioctl")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::libc;

nix::ioctl_write_ptr_bad!(tiocswinsz, libc::TIOCSWINSZ, libc::winsize);
// _IOWR('X', 119, int) and _IOWR('X', 120, int); the int is not looked at.
nix::ioctl_readwrite!(fifreeze, b'X', 119, libc::c_int);
nix::ioctl_readwrite!(fithaw, b'X', 120, libc::c_int);

pub fn set_size(terminal: BorrowedFd<'_>, columns: u16, rows: u16) -> io::Result<()> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: see above.
    unsafe { tiocswinsz(terminal.as_raw_fd(), &raw const size) }?;
    Ok(())
}

pub fn freeze(filesystem: BorrowedFd<'_>) -> nix::Result<()> {
    let mut ignored = 0;
    // SAFETY: see above.
    unsafe { fifreeze(filesystem.as_raw_fd(), &raw mut ignored) }.map(drop)
}

pub fn thaw(filesystem: BorrowedFd<'_>) -> nix::Result<()> {
    let mut ignored = 0;
    // SAFETY: see above.
    unsafe { fithaw(filesystem.as_raw_fd(), &raw mut ignored) }.map(drop)
}
