//! What a container is made by.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use agentd_api::quantity::ByteSize;
use agentd_api::{Cidr, MacAddr, ObjectName};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::ContainerError;
use crate::Instance;

/// Goes up when equal definitions are made otherwise than before.
const VERSION: u32 = 1;

/// All that a container is made by. Two equal definitions make equal containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerDef {
    pub id: Uuid,
    pub project: ObjectName,
    pub name: ObjectName,
    /// What the engine knows the image by: `sha256:...`, or a name with a digest. A name with a tag may be another image at
    /// another time.
    pub image: String,
    /// In place of the image's own, each where given.
    pub entrypoint: Option<Vec<String>>,
    pub command: Option<Vec<String>>,
    /// Beside the image's own.
    pub env: Vec<(String, String)>,
    pub cwd: Option<String>,
    /// What it calls itself; the name that it is made under where absent.
    pub hostname: Option<String>,
    /// By name or number, also with a group, as USER:GROUP.
    pub user: Option<String>,
    /// A terminal in place of pipes.
    pub terminal: bool,
    /// Whether its input stays open for those who attach.
    pub input: bool,
    /// In place of the image's own, as "SIGINT".
    pub stop_signal: Option<String>,
    /// A small init that reaps what its program leaves.
    pub init: bool,
    pub health: HealthWish,
    /// Changed while it runs.
    pub limits: Limits,
    pub restraints: Restraints,
    pub security: Security,
    pub mounts: Vec<Mount>,
    /// Changed while it runs. None: no network but its own loopback.
    pub endpoints: Vec<Endpoint>,
    /// Whom it asks for names: the bridges' own name servers.
    pub dns: Vec<Ipv4Addr>,
    pub dns_search: Vec<String>,
    pub log: LogKeep,
}

/// What the engine finds out of its health.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum HealthWish {
    /// As the image says, if it says anything.
    #[default]
    Image,
    /// None, whatever the image says.
    Off,
    /// A program that is run in it: healthy where it exits with 0.
    Program { argv: Vec<String>, interval: Duration, timeout: Duration, start_period: Duration, retries: u32 },
}

/// Limits that can be changed while it runs. Absent is without.
#[derive(Debug, Clone, PartialEq, Eq, Default, Hash)]
pub struct Limits {
    /// Billionths of a processor.
    pub nanocpus: Option<u64>,
    /// Its share where processors are scarce: 1024 is everybody's.
    pub cpu_shares: Option<u32>,
    /// The processors that it may run on, as "0-3,7".
    pub cpuset: Option<String>,
    pub memory: Option<ByteSize>,
    /// What it may swap out beside that memory; 0 is nothing. Absent with `memory` is as much again. Without `memory` it must
    /// be absent.
    pub swap: Option<ByteSize>,
    /// What it is left where memory is scarce.
    pub memory_reserved: Option<ByteSize>,
    pub pids: Option<u32>,
    /// Its share where disks are scarce: 10 to 1000.
    pub io_weight: Option<u16>,
}

/// Limits that a container has from its making.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Restraints {
    pub ulimits: Vec<Ulimit>,
    /// Of /dev/shm. Absent: the engine's 64 MiB.
    pub shm: Option<ByteSize>,
    pub io: Vec<IoLimit>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Ulimit {
    /// As "nofile".
    pub name: String,
    pub soft: u64,
    pub hard: u64,
}

/// Of one of the host's block devices.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct IoLimit {
    pub device: PathBuf,
    /// Bytes and requests a second.
    pub read_bytes: Option<u64>,
    pub write_bytes: Option<u64>,
    pub read_requests: Option<u64>,
    pub write_requests: Option<u64>,
}

/// What a container is left of root's capabilities: what usual images need, and no more. Docker's own set has beside these
/// AUDIT_WRITE, MKNOD and NET_RAW.
pub const USUAL_CAPABILITIES: [&str; 11] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// The default is the safe one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Security {
    /// All capabilities, all devices, no seccomp: root on the host. The rest of this says nothing then.
    pub privileged: bool,
    /// Lets a program in it gain rights that its parent has not (set-id programs).
    pub new_privileges: bool,
    /// The root file system cannot be written to.
    pub read_only: bool,
    /// Beside [`USUAL_CAPABILITIES`], and less of them: as "NET_ADMIN"; "ALL" to drop all.
    pub cap_add: Vec<String>,
    pub cap_drop: Vec<String>,
    pub seccomp: Seccomp,
    pub userns: Userns,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Seccomp {
    /// The engine's own profile.
    #[default]
    Usual,
    Unconfined,
    /// A profile of one's own, as JSON.
    Profile(String),
}

/// Whose user ids it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Userns {
    /// As the engine does it: the host's own, or those that the whole engine is set up to use.
    #[default]
    Engine,
    /// The host's own, also where the engine is set up otherwise.
    Host,
    /// A range of its own. Docker can do this for all containers only (`userns-remap`): Unsupported where it is not set up so.
    Own,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Mount {
    pub source: MountSource,
    /// An absolute path in the container.
    pub target: String,
    pub read_only: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum MountSource {
    /// A file or folder of the host's. It must be there.
    Bind(PathBuf),
    /// In memory, of at most that size where given.
    Tmpfs { size: Option<ByteSize> },
    /// The file system on a block device of the host's, by the engine's volume of it ([`EngineVolume`]). What the image has
    /// at its target is copied into it while it is empty.
    Volume(EngineVolume),
}

/// A volume of ours, as the engine must know it: it mounts the device where a container that has it is started, and
/// unmounts it when the last one has ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EngineVolume {
    pub id: Uuid,
    /// An ext4 is on it when a container is started.
    pub device: PathBuf,
}

/// Its place on one of our networks.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    pub network: Uuid,
    pub ip: Ipv4Addr,
    pub mac: MacAddr,
}

/// One of our networks, as the engine must know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineNetwork {
    pub id: Uuid,
    /// The bridge that is there, with `gateway` as its address.
    pub bridge: String,
    pub cidr: Cidr,
    pub gateway: Ipv4Addr,
}

/// A network that a container is on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Wired {
    Ours(Uuid),
    /// One of the engine's that is none of this daemon's, by its name.
    Foreign(String),
}

/// How much of what it says is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LogKeep {
    /// Of one file.
    pub size: ByteSize,
    pub files: u32,
}

impl Default for LogKeep {
    fn default() -> Self {
        Self { size: ByteSize::mib(10), files: 4 }
    }
}

impl Limits {
    /// As they hold: with memory and no word of swap, as much again may be swapped out.
    pub fn settled(&self) -> Self {
        Self { swap: self.swap.or(self.memory), ..self.clone() }
    }

    /// What is wrong with them on any host.
    pub fn check(&self) -> Result<(), ContainerError> {
        let refused = |why: &str| Err(ContainerError::Refused(why.to_owned()));
        if self.swap.is_some() && self.memory.is_none() {
            return refused("swap is limited with memory only");
        }
        if self.memory_reserved > self.memory && self.memory.is_some() {
            return refused("more memory is reserved than it may have");
        }
        if self.nanocpus == Some(0) || self.pids == Some(0) || self.memory == Some(ByteSize(0)) {
            return refused("a limit of 0 lets nothing run");
        }
        if self.io_weight.is_some_and(|weight| !(10..=1000).contains(&weight)) {
            return refused("its share of disks must be of 10 to 1000");
        }
        Ok(())
    }
}

impl ContainerDef {
    /// One of that image, as that says and with nothing beside.
    pub fn new(id: Uuid, (project, name): (ObjectName, ObjectName), image: &str) -> Self {
        Self {
            id,
            project,
            name,
            image: image.to_owned(),
            entrypoint: None,
            command: None,
            env: Vec::new(),
            cwd: None,
            hostname: None,
            user: None,
            terminal: false,
            input: false,
            stop_signal: None,
            init: false,
            health: HealthWish::Image,
            limits: Limits::default(),
            restraints: Restraints::default(),
            security: Security::default(),
            mounts: Vec::new(),
            endpoints: Vec::new(),
            dns: Vec::new(),
            dns_search: Vec::new(),
            log: LogKeep::default(),
        }
    }

    /// What the engine calls it: unique on the host, since no two of a daemon share project and name; a name holds no '.'.
    pub fn engine_name(&self, instance: &Instance) -> String {
        format!("agentd-{}-{}.{}", instance.tag(), self.project, self.name)
    }

    /// What is wrong with it on any host.
    pub fn check(&self) -> Result<(), ContainerError> {
        let refused = |why: String| Err(ContainerError::Refused(why));
        let texts = [&self.entrypoint, &self.command].into_iter().flatten().flatten();
        let texts = texts.chain(self.env.iter().flat_map(|(key, value)| [key, value]));
        let texts = texts.chain(self.mounts.iter().map(|mount| &mount.target));
        let texts = texts.chain([&self.cwd, &self.user, &self.stop_signal].into_iter().flatten());
        if let Some(text) = texts.into_iter().find(|text| text.contains('\0')) {
            return refused(format!("'{}' holds a NUL", text.escape_debug()));
        }
        if let Some((key, _)) = self.env.iter().find(|(key, _)| key.is_empty() || key.contains('=')) {
            return refused(format!("'{key}' is no name of a variable"));
        }
        let odd = |mount: &&Mount| {
            let bound = match &mount.source {
                MountSource::Bind(path) | MountSource::Volume(EngineVolume { device: path, .. }) => {
                    !path.is_absolute() || path.to_str().is_none()
                }
                MountSource::Tmpfs { .. } => false,
            };
            bound || !mount.target.starts_with('/') || mount.target.trim_end_matches('/').is_empty()
        };
        if let Some(mount) = self.mounts.iter().find(odd) {
            return refused(format!("what is mounted at '{}' needs absolute paths", mount.target));
        }
        self.limits.check()
    }
}

/// Of all that is fixed once it is made.
pub(super) fn digest(def: &ContainerDef) -> String {
    let ContainerDef { id, project: _, name: _, limits: _, endpoints: _, image, entrypoint, command, .. } =
        def;
    let ContainerDef { env, cwd, user, terminal, input, stop_signal, init, health, .. } = def;
    let ContainerDef { restraints, security, mounts, dns, dns_search, log, .. } = def;
    let program = (id, image, entrypoint, command, env, cwd, user, terminal, input, stop_signal, init);
    let around = (health, restraints, security, mounts, dns, dns_search, log);
    // Debug quotes every text, so that no two definitions read alike.
    let text = format!("{VERSION} {program:?} {around:?}");
    hex::encode(&Sha256::digest(text.as_bytes())[..16])
}
