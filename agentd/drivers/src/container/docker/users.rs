//! Whose root a container's root is.
//!
//! Docker gives user ids of their own to all containers (`userns-remap` in its configuration) or to none. Where it does, what
//! the host's root owns is nobody's in a container: also the empty file system of a new volume, which is given to the
//! container's root here, before the container is made.

use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

use super::Inner;
use crate::container::{ContainerDef, ContainerError, MountSource, Userns};
use crate::engine::{EngineError, Flavor};

const CALL: &str = "make a volume a container's";
/// Where a volume is mounted for a moment, in a mount namespace of its own.
const MEANWHILE: &str = "/run";

impl Inner {
    /// Refuses what the engine cannot give, and gives the container's root what is to be its.
    pub(super) async fn settle_users(
        &self,
        def: &ContainerDef,
        flavor: Flavor,
    ) -> Result<(), ContainerError> {
        let own = def.security.userns == Userns::Own;
        if own && flavor == Flavor::Podman {
            // Neither its sysfs could be mounted nor its switches be set: its namespace of network is the host's root's.
            return Err(ContainerError::Unsupported(
                "spec.userns: a container of Podman's is wired by agentd, and such a one cannot have user ids of its own"
                    .to_owned(),
            ));
        }
        let volumes = def.mounts.iter().filter_map(|mount| match &mount.source {
            MountSource::Volume(volume) => Some(volume.device.clone()),
            MountSource::Bind(_) | MountSource::Tmpfs { .. } => None,
        });
        let devices: Vec<PathBuf> = volumes.collect();
        let is_hosts = def.security.userns == Userns::Host || def.security.privileged;
        if flavor != Flavor::Docker || is_hosts || (!own && devices.is_empty()) {
            return Ok(());
        }
        let probe = self.engine.probe().await?;
        if !probe.security.iter().any(|option| option == "userns") {
            return if own { Err(without_remap()) } else { Ok(()) };
        }
        for device in devices {
            let root = root_of(&probe.root).ok_or_else(|| {
                ContainerError::Unsupported(format!(
                    "spec.mounts: a volume cannot be given to users that are not known: Docker keeps all in {}",
                    probe.root.display()
                ))
            })?;
            let (tell, told) = tokio::sync::oneshot::channel();
            let thread = std::thread::Builder::new().name("agentd-users".to_owned());
            // Nobody waits for it any more where telling fails.
            let started = thread.spawn(move || drop(tell.send(give(&device, root))));
            let failed = |detail: String| EngineError::Failed { call: CALL, detail };
            started.map_err(|error| failed(error.to_string()))?;
            told.await
                .map_err(|error| failed(error.to_string()))?
                .map_err(|error| failed(error.to_string()))?;
        }
        Ok(())
    }
}

fn without_remap() -> ContainerError {
    ContainerError::Unsupported(
        "spec.userns: Docker gives user ids of their own to all containers (userns-remap in its configuration) or \
         none, and here it is none"
            .to_owned(),
    )
}

/// With `userns-remap`, Docker's folder is called by whom root is: `/var/lib/docker/165536.165536`.
fn root_of(folder: &Path) -> Option<(u32, u32)> {
    let (uid, gid) = folder.file_name()?.to_str()?.split_once('.')?;
    Some((uid.parse().ok()?, gid.parse().ok()?))
}

/// Blocks, and leaves the thread in a mount namespace of its own.
fn give(device: &Path, (uid, gid): (u32, u32)) -> std::io::Result<()> {
    unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS)?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    let flags = MsFlags::MS_NODEV | MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    mount(Some(device), MEANWHILE, Some("ext4"), flags, none)?;
    let given = give_if_new(Path::new(MEANWHILE), uid, gid);
    umount2(MEANWHILE, MntFlags::empty())?;
    given
}

/// A folder that has been used is as it was used.
fn give_if_new(folder: &Path, uid: u32, gid: u32) -> std::io::Result<()> {
    let metadata = std::fs::metadata(folder)?;
    let mut names = std::fs::read_dir(folder)?.map(|entry| Ok::<_, std::io::Error>(entry?.file_name()));
    let used = names.any(|name| name.map_or(true, |name| name != "lost+found"));
    if used || (metadata.uid(), metadata.gid()) != (0, 0) {
        return Ok(());
    }
    chown(folder, Some(uid), Some(gid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whom_root_is_tells_dockers_folder() {
        assert_eq!(root_of(Path::new("/var/lib/docker/165536.165537")), Some((165_536, 165_537)));
        assert_eq!(root_of(Path::new("/var/lib/docker")), None);
    }
}
