//! The API's Unix socket: one daemon at a time, a stale file removed only where nobody answers, 0660 for the group.
//!
//! A lock file beside it is held for as long as the daemon lives, so that two that start at once do not both find the
//! other's file stale. The file is made so that only its owner can connect, and opened to the group afterwards.
//!
//! Where systemd passed a socket (`agentd.socket`) that one is served as it is: its file, mode and group are systemd's,
//! it stays when agentd ends, and who connects meanwhile waits for the next one.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use nix::unistd::{Gid, Group, chown};

#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    #[error("another agentd serves at {}; give this one a --socket of its own", path.display())]
    Taken { path: PathBuf },
    #[error("{} is there and is no socket; it was left as it is", path.display())]
    NotASocket { path: PathBuf },
    #[error(
        "systemd passed {passed}, and daemon.socket is {}; set ListenStream= of agentd.socket and daemon.socket alike",
        path.display()
    )]
    Passed { path: PathBuf, passed: String },
    #[error("the socket {} cannot be made ({step})", path.display())]
    Io { path: PathBuf, step: &'static str, source: std::io::Error },
}

/// The bound socket. Removes its file when dropped, where it is ours.
#[derive(Debug)]
pub struct Bound {
    path: PathBuf,
    passed: bool,
    _lock: Flock<File>,
}

impl Bound {
    /// Whether systemd keeps it.
    pub fn is_passed(&self) -> bool {
        self.passed
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        if self.passed {
            return;
        }
        // The lock is still held: the file is ours. It may be gone with its folder, which is what was wanted.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The socket that systemd passed, else one of our own at `path`, for `group`.
pub fn open(path: &Path, group: &str) -> Result<(Bound, UnixListener), SocketError> {
    let io = |step| move |source| SocketError::Io { path: path.to_owned(), step, source };
    let passed = sd_notify::listen_fds().map_err(io("what systemd passed"))?.collect::<Vec<_>>();
    match passed.as_slice() {
        [] => bind(path, group),
        [fd] => adopt(take(*fd), path),
        several => {
            let passed = format!("{} sockets", several.len());
            Err(SocketError::Passed { path: path.to_owned(), passed })
        }
    }
}

#[expect(unsafe_code, reason = "a descriptor that was passed has no other way into a type that owns it")]
fn take(fd: RawFd) -> OwnedFd {
    // SAFETY: systemd opened it for this process and says so in the environment, nothing else here knows its number, and
    // a process has one daemon, which takes it once.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Serves a socket that somebody else made and keeps.
fn adopt(fd: OwnedFd, path: &Path) -> Result<(Bound, UnixListener), SocketError> {
    let io = |step| move |source| SocketError::Io { path: path.to_owned(), step, source };
    let other = |passed: String| SocketError::Passed { path: path.to_owned(), passed };
    let listens = nix::sys::socket::getsockopt(&fd, nix::sys::socket::sockopt::AcceptConn);
    if !listens.is_ok_and(|listens| listens) {
        return Err(other("what is no listening socket".to_owned()));
    }
    let listener = UnixListener::from(fd);
    let address = listener.local_addr().map_err(io("its address"))?;
    if address.as_pathname() != Some(path) {
        return Err(other(format!("{address:?}")));
    }
    listener.set_nonblocking(true).map_err(io("non-blocking"))?;
    Ok((Bound { path: path.to_owned(), passed: true, _lock: lock(path)? }, listener))
}

fn bind(path: &Path, group: &str) -> Result<(Bound, UnixListener), SocketError> {
    let io = |step| move |source| SocketError::Io { path: path.to_owned(), step, source };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(io("its folder"))?;
    }
    let lock = lock(path)?;
    remove_stale(path)?;
    let listener = UnixListener::bind(path).map_err(io("bind"))?;
    let bound = Bound { path: path.to_owned(), passed: false, _lock: lock };
    // Until here the mode is what the umask left: without a w for others, only this user can connect.
    give_to(path, group).map_err(io("its group"))?;
    listener.set_nonblocking(true).map_err(io("non-blocking"))?;
    Ok((bound, listener))
}

fn lock(path: &Path) -> Result<Flock<File>, SocketError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let io = |source| SocketError::Io { path: path.to_owned(), step: "its lock", source };
    let file =
        OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&name).map_err(io)?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        nix::Error::EWOULDBLOCK => SocketError::Taken { path: path.to_owned() },
        other => io(other.into()),
    })
}

fn remove_stale(path: &Path) -> Result<(), SocketError> {
    let io = |source| SocketError::Io { path: path.to_owned(), step: "removing a stale one", source };
    match std::fs::symlink_metadata(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(io(e)),
        Ok(there) if !there.file_type().is_socket() => {
            return Err(SocketError::NotASocket { path: path.to_owned() });
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(SocketError::Taken { path: path.to_owned() }),
        Err(e) if e.kind() == ErrorKind::ConnectionRefused => std::fs::remove_file(path).map_err(io),
        Err(e) => Err(io(e)),
    }
}

/// 0660 for root and the group; 0600 where there is no such group or it cannot be given to it.
fn give_to(path: &Path, group: &str) -> std::io::Result<()> {
    let mode = match Group::from_name(group) {
        Ok(Some(found)) => match chown(path, None, Some(Gid::from_raw(found.gid.as_raw()))) {
            Ok(()) => 0o660,
            Err(error) => {
                tracing::warn!(%error, "the socket cannot be given to the group '{group}': only this user may use it");
                0o600
            }
        },
        Ok(None) => {
            tracing::warn!("there is no group '{group}': only this user may use the socket");
            0o600
        }
        Err(error) => {
            tracing::warn!(%error, "the group '{group}' cannot be looked up: only this user may use the socket");
            0o600
        }
    };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("below").join("agentd.sock");
        (dir, path)
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let (_dir, path) = folder();
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        drop(UnixListener::bind(&path).expect("bound"));
        assert!(path.exists(), "stale");
        let (bound, _listener) = bind(&path, "no-such-group-here").expect("bound");
        assert!(UnixStream::connect(&path).is_ok());
        let again = bind(&path, "no-such-group-here").expect_err("refused");
        assert!(matches!(again, SocketError::Taken { .. }), "{again}");
        drop(bound);
        assert!(!path.exists(), "removed at the end");
    }

    #[test]
    fn a_socket_that_somebody_else_answers_is_left_alone() {
        let (_dir, path) = folder();
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        let _foreign = UnixListener::bind(&path).expect("bound");
        assert!(matches!(bind(&path, "root"), Err(SocketError::Taken { .. })));
        assert!(path.exists());
    }

    #[test]
    fn what_is_no_socket_is_left_alone() {
        let (_dir, path) = folder();
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(&path, "precious").expect("written");
        assert!(matches!(bind(&path, "root"), Err(SocketError::NotASocket { .. })));
        assert_eq!(std::fs::read_to_string(&path).expect("read"), "precious");
    }

    #[test]
    fn a_socket_that_was_passed_is_served_and_left_where_it_is() {
        let (_dir, path) = folder();
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        let passed = UnixListener::bind(&path).expect("bound");
        let elsewhere = path.with_file_name("other.sock");
        let refused =
            adopt(passed.try_clone().expect("a copy").into(), &elsewhere).expect_err("another path");
        assert!(refused.to_string().contains("daemon.socket"), "{refused}");
        let (bound, listener) = adopt(passed.try_clone().expect("a copy").into(), &path).expect("adopted");
        assert!(bound.is_passed());
        let waiting = UnixStream::connect(&path).expect("it listens");
        listener.accept().expect("the one that waits");
        drop((bound, listener, waiting));
        assert!(path.exists() && UnixStream::connect(&path).is_ok(), "it is systemd's, and stays");
        let (one, _other) = UnixStream::pair().expect("two ends");
        assert!(matches!(adopt(one.into(), &path), Err(SocketError::Passed { .. })));
    }

    #[test]
    fn the_socket_is_for_its_group_or_for_nobody_else() {
        let (_dir, path) = folder();
        let mode = |path: &Path| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
        let own = Group::from_gid(nix::unistd::getegid()).expect("looked up").expect("a group").name;
        let (bound, _listener) = bind(&path, &own).expect("bound");
        assert_eq!(mode(&path), 0o660);
        drop(bound);
        let (_bound, _listener) = bind(&path, "no-such-group-here").expect("bound");
        assert_eq!(mode(&path), 0o600);
    }
}
