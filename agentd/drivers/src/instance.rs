//! Which daemon this is. Two daemons with different state directories can share a host: all they make on it carries
//! their own tag, and neither sees the other's.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use uuid::Uuid;

/// The longest path of a Unix socket (`sun_path`, less its NUL).
const SOCKET_PATH_MAX: usize = 107;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    tag: String,
    state_dir: PathBuf,
}

impl Instance {
    /// `state_dir` must be absolute; the tag is derived from it and so is the same at every start.
    pub fn new(state_dir: &Path) -> Self {
        Self { tag: short_hash(state_dir.as_os_str().as_encoded_bytes()), state_dir: state_dir.to_owned() }
    }
    /// Eight hexadecimal digits.
    pub fn tag(&self) -> &str {
        &self.tag
    }
    pub fn state_dir(&self) -> &Path {
        &self.state_dir
    }
    pub fn images_dir(&self) -> PathBuf {
        self.state_dir.join("images")
    }
    /// Where an image's content is put together before it has a digest.
    pub fn incoming_dir(&self, image: Uuid) -> PathBuf {
        self.state_dir.join("incoming").join(image.to_string())
    }
    /// Where it is noted what builds of the container engine's make, until that is an image or taken away.
    pub fn builds_dir(&self) -> PathBuf {
        self.state_dir.join("builds")
    }
    pub fn vms_dir(&self) -> PathBuf {
        self.state_dir.join("vms")
    }
    /// The folder of one VM: its disk, its seed, its console log.
    pub fn vm_dir(&self, vm: Uuid) -> PathBuf {
        self.vms_dir().join(vm.to_string())
    }
    /// Where sets of disks are that belong to no VM alone.
    pub fn disk_sets_dir(&self) -> PathBuf {
        self.state_dir.join("disk-sets")
    }
    pub fn volumes_dir(&self) -> PathBuf {
        self.state_dir.join("volumes")
    }
    /// The folder of one volume.
    pub fn volume_dir(&self, volume: Uuid) -> PathBuf {
        self.volumes_dir().join(volume.to_string())
    }
    /// Where the block devices of volumes are found. A boot of the host takes it away, as it does the devices; an end of the
    /// daemon does not.
    pub fn devices_dir(&self) -> PathBuf {
        Path::new("/run/agentd/devices").join(&self.tag)
    }
    /// Where the agent in a VM's guest is reached. None where the path is longer than a socket's may be.
    pub fn agent_socket(&self, vm: Uuid) -> Option<PathBuf> {
        let path = self.vm_dir(vm).join("agent.sock");
        (path.as_os_str().len() <= SOCKET_PATH_MAX).then_some(path)
    }
    pub fn networks_dir(&self) -> PathBuf {
        self.state_dir.join("networks")
    }
    pub fn network_dir(&self, network: Uuid) -> PathBuf {
        self.networks_dir().join(network.to_string())
    }
    /// The name of a network's bridge: at most 15 characters, the same at every start.
    pub fn bridge(&self, network: Uuid) -> String {
        format!("agb{}", short_hash(format!("{}/{network}", self.tag).as_bytes()))
    }
    /// The name of the host's end of a container's link to a network, where agentd makes that link itself.
    pub fn plug(&self, container: Uuid, network: Uuid) -> String {
        format!("agc{}", short_hash(format!("{}/{container}/{network}", self.tag).as_bytes()))
    }
    /// Where a container's namespace of network is found that agentd made itself. A boot of the host takes it away; an end of
    /// the daemon does not.
    pub fn netns(&self, container: Uuid) -> PathBuf {
        Path::new("/run/agentd/netns").join(&self.tag).join(container.to_string())
    }
    /// The name of the tap of a VM's n-th interface.
    pub fn tap(&self, vm: Uuid, nic: usize) -> String {
        format!("agt{}-{nic}", short_hash(format!("{}/{vm}", self.tag).as_bytes()))
    }
}

/// Enough of a hash that two of a host's few thousand things do not meet.
fn short_hash(bytes: &[u8]) -> String {
    hex::encode(&Sha256::digest(bytes)[..4])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_the_kernel_and_differ_between_daemons() {
        let (one, two) =
            (Instance::new(Path::new("/var/lib/agentd")), Instance::new(Path::new("/var/lib/agentd-2")));
        let id = Uuid::now_v7();
        assert_ne!(one.tag(), two.tag());
        assert_ne!(one.bridge(id), two.bridge(id));
        assert!(one.bridge(id).len() <= 15 && one.tap(id, 63).len() <= 15);
    }
}
