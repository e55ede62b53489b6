//! Namespaces of network that outlive the daemon: kept by a mount, as `ip netns` does it.
//!
//! The mount must be where the engine sees it. agentd's own unit confines it to a mount namespace of its own; what it mounts
//! there is seen by nobody else. So a thread goes into the mounts of the host's first process for this, and ends there.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use rtnetlink::{Handle, LinkUnspec};

/// What the unit needs for this and is not given where Docker is.
const DROP_IN: &str = "/usr/lib/agentd/podman.conf";
/// The loopback's index, in each of them.
const LOOPBACK: u32 = 1;

/// Runs `work` in the namespace that is kept there, with the kernel's links of it. Made where it is not.
pub async fn within<T, F>(path: PathBuf, work: F) -> Result<T, String>
where
    T: Send + 'static,
    F: AsyncFnOnce(Handle) -> Result<T, String> + Send + 'static,
{
    aside(move || {
        let made = enter(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        with_links(async move |handle: Handle| -> Result<T, String> {
            if made {
                let up = LinkUnspec::new_with_index(LOOPBACK).up().build();
                let up = handle.link().set(up).execute().await;
                up.map_err(|error| format!("bringing its loopback up: {error}"))?;
            }
            work(handle).await
        })
    })
    .await
}

/// As `within`, in one that somebody else keeps among the mounts that this process sees. It is not made.
pub async fn inside<T, F>(path: PathBuf, work: F) -> Result<T, String>
where
    T: Send + 'static,
    F: AsyncFnOnce(Handle) -> Result<T, String> + Send + 'static,
{
    aside(move || {
        let there = File::open(&path).map_err(|error| errno(&error));
        let entered = there.and_then(|there| setns(there, CloneFlags::CLONE_NEWNET));
        entered.map_err(|error| format!("{}: {error}", path.display()))?;
        with_links(work)
    })
    .await
}

/// With the kernel's links of the namespace that this thread is in.
fn with_links<T, F>(work: F) -> Result<T, String>
where
    F: AsyncFnOnce(Handle) -> Result<T, String>,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
    runtime.map_err(|error| error.to_string())?.block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(|error| error.to_string())?;
        let task = tokio::spawn(connection);
        let done = work(handle).await;
        task.abort();
        done
    })
}

/// What is in it goes on where a process is in it; the name is gone.
pub async fn remove(path: PathBuf) -> Result<(), String> {
    aside(move || {
        let gone = || -> Result<(), Errno> {
            match umount2(&path, MntFlags::MNT_DETACH) {
                Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
                Err(error) => return Err(error),
            }
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => Err(errno(&error)),
                _ => Ok(()),
            }
        };
        among_the_hosts_mounts()?;
        gone().map_err(|error| format!("{}: {error}", path.display()))
    })
    .await
}

/// In a thread of its own: what it has become a part of, no other work may be done in.
async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    let (tell, told) = tokio::sync::oneshot::channel();
    let thread = std::thread::Builder::new().name("agentd-netns".to_owned());
    let started = thread.spawn(move || {
        // Nobody waits for it any more where this fails.
        let _ = tell.send(work());
    });
    started.map_err(|error| error.to_string())?;
    told.await.map_err(|error| error.to_string())?
}

fn among_the_hosts_mounts() -> Result<(), String> {
    let go = || -> Result<(), Errno> {
        // Needed first: its root and its folder are those of all threads of this process.
        unshare(CloneFlags::CLONE_FS)?;
        let mounts = File::open("/proc/1/ns/mnt").map_err(|error| errno(&error))?;
        setns(mounts, CloneFlags::CLONE_NEWNS)
    };
    go().map_err(|error| match error {
        Errno::EACCES | Errno::EPERM => {
            format!("agentd's unit keeps it from the host's mounts ({error}): {DROP_IN} lets it, as a drop-in of agentd.service")
        }
        error => error.to_string(),
    })
}

/// Whether it had to be made.
fn enter(path: &Path) -> Result<bool, String> {
    among_the_hosts_mounts()?;
    enter_here(path).map_err(|error| error.to_string())
}

fn enter_here(path: &Path) -> Result<bool, Errno> {
    let there = File::open(path).map_err(|error| errno(&error));
    match there.and_then(|there| setns(there, CloneFlags::CLONE_NEWNET)) {
        Ok(()) => return Ok(false),
        // No such file, or one that a daemon that was killed has not mounted anything on.
        Err(Errno::ENOENT | Errno::EINVAL) => {}
        Err(error) => return Err(error),
    }
    let folder = path.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(folder).map_err(|error| errno(&error))?;
    File::create(path).map_err(|error| errno(&error))?;
    unshare(CloneFlags::CLONE_NEWNET)?;
    // No addresses but those that it is given: guests have IPv4 from us.
    match std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1") {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(errno(&error)),
        _ => {}
    }
    let none = None::<&str>;
    mount(Some("/proc/thread-self/ns/net"), path, none, MsFlags::MS_BIND, none)?;
    Ok(true)
}

fn errno(error: &std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}
