//! Tells when a console's log has grown, for all logs by one inotify instance: a host has few of those.
//!
//! A log is watched by its file, which is written, and by its folder, where the file appears and is renamed. The folder's
//! other files cost nothing: only names that appear are asked for. Where inotify has no room, the log is looked at every
//! half second instead, and that is said once; where its folder is gone, after half a second and then every ten minutes.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use parking_lot::Mutex;
use tokio::sync::watch;

const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// Where the log's folder is not there, it is looked at once soon and then as seldom: thousands of those must cost nothing.
const LOOK_LAST: Duration = Duration::from_secs(600);
const OF_FILE: AddWatchFlags = AddWatchFlags::IN_MODIFY.union(AddWatchFlags::IN_MOVE_SELF);
const OF_FOLDER: AddWatchFlags = AddWatchFlags::IN_CREATE.union(AddWatchFlags::IN_MOVED_TO);

/// Where logs are watched, by a thread that ends with it.
#[derive(Debug)]
pub struct Watches {
    shared: Option<Arc<Shared>>,
    _open: Option<OwnedFd>,
}

#[derive(Debug)]
struct Shared {
    inotify: Inotify,
    logs: Mutex<Logs>,
}

#[derive(Debug, Default)]
struct Logs {
    by_path: HashMap<PathBuf, Log>,
    by_watch: HashMap<WatchDescriptor, PathBuf>,
}

#[derive(Debug)]
struct Log {
    changes: watch::Sender<()>,
    watches: Vec<WatchDescriptor>,
    users: usize,
}

impl Watches {
    pub fn begin() -> Self {
        match begin() {
            Ok((shared, open)) => Self { shared: Some(shared), _open: Some(open) },
            Err(error) => {
                tracing::warn!(%error, "no inotify for consoles: their logs are looked at twice a second");
                Self { shared: None, _open: None }
            }
        }
    }

    /// Begins to watch a log, whether or not it is there yet; its folder should be.
    pub fn on(&self, log: &Path) -> Watched {
        let mut looks = Looks { next: LOOK_AGAIN, then: LOOK_AGAIN };
        let Some(shared) = &self.shared else { return Watched { watched: None, looks } };
        let watched = match shared.add(log) {
            Ok(changes) => {
                let used = Use { shared: Arc::downgrade(shared), log: log.to_owned() };
                Some((changes, used))
            }
            Err(error) => {
                tracing::debug!(%error, log = %log.display(), "a console's log is not watched");
                if error == Errno::ENOENT {
                    looks.then = LOOK_LAST;
                }
                None
            }
        };
        Watched { watched, looks }
    }
}

fn begin() -> io::Result<(Arc<Shared>, OwnedFd)> {
    let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
    let (closed, open) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    let shared = Arc::new(Shared { inotify, logs: Mutex::default() });
    let told = shared.clone();
    std::thread::Builder::new().name("agentd-logs".to_owned()).spawn(move || told.run(&closed))?;
    Ok((shared, open))
}

/// One who waits for a log to grow.
#[derive(Debug)]
pub struct Watched {
    watched: Option<(watch::Receiver<()>, Use)>,
    looks: Looks,
}

/// When a log that is not watched is looked at.
#[derive(Debug)]
struct Looks {
    next: Duration,
    then: Duration,
}

#[derive(Debug)]
struct Use {
    shared: Weak<Shared>,
    log: PathBuf,
}

impl Watched {
    /// Waits until the log may have changed since this was called last, or since it is watched. May return for nothing.
    /// Cancel-safe.
    pub async fn changed(&mut self) {
        if let Some((changes, _)) = &mut self.watched
            && changes.changed().await.is_ok()
        {
            return;
        }
        tokio::time::sleep(self.looks.next).await;
        self.looks.next = self.looks.then;
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.upgrade() {
            shared.remove(&self.log);
        }
    }
}

impl Shared {
    fn add(&self, log: &Path) -> nix::Result<watch::Receiver<()>> {
        let mut logs = self.logs.lock();
        if let Some(known) = logs.by_path.get_mut(log) {
            known.users += 1;
            return Ok(known.changes.subscribe());
        }
        let watch = self.inotify.add_watch(log.parent().ok_or(Errno::ENOENT)?, OF_FOLDER)?;
        let (changes, changed) = watch::channel(());
        logs.by_path.insert(log.to_owned(), Log { changes, watches: vec![watch], users: 1 });
        logs.by_watch.insert(watch, log.to_owned());
        self.watch_file(&mut logs, log);
        Ok(changed)
    }

    /// Watches what has the log's name now. Adding what is watched already changes nothing.
    fn watch_file(&self, logs: &mut Logs, log: &Path) {
        // One that is not there yet is met when it appears in the folder.
        let Ok(watch) = self.inotify.add_watch(log, OF_FILE) else { return };
        logs.by_watch.insert(watch, log.to_owned());
        let Some(known) = logs.by_path.get_mut(log) else { return };
        if known.watches.contains(&watch) {
            return;
        }
        // The one before is a backup now, and written to no more.
        for old in known.watches.drain(1..) {
            let _ = self.inotify.rm_watch(old);
            logs.by_watch.remove(&old);
        }
        known.watches.push(watch);
    }

    fn remove(&self, log: &Path) {
        let mut logs = self.logs.lock();
        let Some(known) = logs.by_path.get_mut(log) else { return };
        known.users -= 1;
        if known.users == 0 {
            let gone = logs.by_path.remove(log);
            for watch in gone.into_iter().flat_map(|log| log.watches) {
                let _ = self.inotify.rm_watch(watch);
                logs.by_watch.remove(&watch);
            }
        }
    }

    /// Until `closed` says that nobody watches any more.
    fn run(&self, closed: &OwnedFd) {
        loop {
            let mut both = [
                PollFd::new(self.inotify.as_fd(), PollFlags::POLLIN),
                PollFd::new(closed.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut both, PollTimeout::NONE) {
                Ok(_) if both[1].revents().is_some_and(|events| !events.is_empty()) => return,
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return tracing::error!(%error, "consoles' logs are watched no more"),
            }
            match self.read() {
                Ok(()) | Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(error) => return tracing::error!(%error, "consoles' logs are watched no more"),
            }
        }
    }

    fn read(&self) -> nix::Result<()> {
        let events = self.inotify.read_events()?;
        let mut logs = self.logs.lock();
        for event in events {
            if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
                for log in logs.by_path.values() {
                    let _ = log.changes.send(());
                }
                continue;
            }
            let Some(path) = logs.by_watch.get(&event.wd).cloned() else { continue };
            if event.mask.contains(AddWatchFlags::IN_IGNORED) {
                logs.by_watch.remove(&event.wd);
            } else if !event.mask.contains(AddWatchFlags::IN_MODIFY) {
                self.watch_file(&mut logs, &path);
            }
            if let Some(log) = logs.by_path.get(&path) {
                let _ = log.changes.send(());
            }
        }
        Ok(())
    }
}
