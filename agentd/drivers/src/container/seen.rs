//! What is seen of containers.

use std::net::Ipv4Addr;

use agentd_api::{MacAddr, Timestamp};
use uuid::Uuid;

use super::{HealthWish, Limits, Mount, Restraints, Security, Wired};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ContainerState {
    /// It never ran.
    Created,
    Running,
    Paused,
    /// It ran, and its program is over.
    Exited,
    /// The engine is at removing it, or failed to.
    Removing,
}

impl ContainerState {
    /// Whether it has processes.
    pub fn is_on(self) -> bool {
        matches!(self, Self::Running | Self::Paused)
    }
}

/// One line of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerListed {
    pub id: Uuid,
    pub engine_id: String,
    pub state: ContainerState,
    /// Of what it was made by. None for one that was adopted.
    pub digest: Option<String>,
    /// How many networks of ours it has a link on, as the kernel shows. None where it is off, and where that is not known.
    pub links: Option<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerSeen {
    pub id: Uuid,
    pub engine_id: String,
    /// As the engine has it.
    pub name: String,
    pub state: ContainerState,
    /// How its last run ended. None where it never ran or is on.
    pub exit: Option<ExitSeen>,
    /// Of its first process, on the host. None where it is off.
    pub pid: Option<u32>,
    pub created_at: Option<Timestamp>,
    pub started_at: Option<Timestamp>,
    /// Of its last run that is over.
    pub finished_at: Option<Timestamp>,
    /// None where nothing checks it.
    pub health: Option<HealthSeen>,
    /// Of what it was made by. None for one that was adopted.
    pub digest: Option<String>,
    /// The engine's own id of its image, `sha256:...`.
    pub image: String,
    pub privileged: bool,
    pub terminal: bool,
    /// The engine starts it by itself, which is not its to do.
    pub restarts: bool,
    pub limits: Limits,
    /// Sorted.
    pub endpoints: Vec<EndpointSeen>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExitSeen {
    /// Of its program, or 128 and a signal's number.
    pub code: i32,
    /// The kernel killed a process of it for want of memory.
    pub oom: bool,
    /// Why it could not be started, where it could not.
    pub error: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthSeen {
    pub state: HealthState,
    /// How often in a row it was found ill.
    pub failing: u32,
    /// What the last check said, cut where it is long.
    pub said: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HealthState {
    /// It was not found out yet.
    Starting,
    Healthy,
    Unhealthy,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct EndpointSeen {
    pub network: Wired,
    pub ip: Option<Ipv4Addr>,
    pub mac: Option<MacAddr>,
    /// False where the engine says that it is plugged in, and the kernel has no link of it on the network's bridge.
    pub linked: bool,
}

impl ContainerSeen {
    pub fn endpoint(&self, network: Uuid) -> Option<&EndpointSeen> {
        self.endpoints.iter().find(|endpoint| endpoint.network == Wired::Ours(network))
    }
}

/// A change of a container of ours. `id` is None where changes may have been missed, or where the engine went away or came
/// back: look at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContainerEvent {
    pub id: Option<Uuid>,
}

/// A container that is none of this daemon's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignSeen {
    pub engine_id: String,
    pub name: String,
    /// As it was named when it was made.
    pub image: String,
    pub command: String,
    pub state: ContainerState,
    /// None where the engine did not tell.
    pub privileged: Option<bool>,
    pub created_at: Option<Timestamp>,
    /// The tag of another daemon of ours that made it: it is not to be adopted.
    pub daemon: Option<String>,
}

/// What of a foreign container no definition can say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beyond {
    /// As the engine calls it, as `HostConfig.NetworkMode`.
    pub field: String,
    /// What it is, and what can be done about it.
    pub what: String,
}

/// What a foreign container was made by, as far as a definition can say it: all of it together with `beyond`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignDef {
    pub seen: ForeignSeen,
    /// The engine's own id of its image, `sha256:...`.
    pub image_id: String,
    /// What its image says is part of these, as the engine has them.
    pub entrypoint: Vec<String>,
    pub command: Vec<String>,
    pub env: Vec<(String, String)>,
    pub cwd: Option<String>,
    pub user: Option<String>,
    pub hostname: Option<String>,
    pub terminal: bool,
    pub input: bool,
    pub stop_signal: Option<String>,
    /// Seconds between its stop signal and its end, where that was said.
    pub grace: Option<u64>,
    pub health: HealthWish,
    pub limits: Limits,
    pub restraints: Restraints,
    pub security: Security,
    pub mounts: Vec<Mount>,
    /// The engine's networks that it is on, by name.
    pub networks: Vec<String>,
    /// When the engine starts it by itself.
    pub restart: EngineRestart,
    /// The engine removes it once it has ended.
    pub remove_when_stopped: bool,
    pub beyond: Vec<Beyond>,
}

/// When an engine starts a container again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EngineRestart {
    #[default]
    Never,
    OnFailure,
    /// Unless somebody stopped it.
    Always,
}

impl ForeignDef {
    /// A running container of that name, image and command, with nothing beside. The engine's id is still to be set.
    #[cfg(any(test, feature = "fake"))]
    pub fn plain(name: &str, image: &str, command: &[&str]) -> Self {
        Self {
            seen: ForeignSeen {
                engine_id: String::new(),
                name: name.to_owned(),
                image: image.to_owned(),
                command: command.join(" "),
                state: ContainerState::Running,
                privileged: Some(false),
                created_at: Some(Timestamp::now()),
                daemon: None,
            },
            image_id: format!("sha256:{image}"),
            entrypoint: Vec::new(),
            command: command.iter().map(|&word| word.to_owned()).collect(),
            env: Vec::new(),
            cwd: None,
            user: None,
            hostname: None,
            terminal: false,
            input: false,
            stop_signal: None,
            grace: None,
            health: HealthWish::Image,
            limits: Limits::default(),
            restraints: Restraints::default(),
            security: Security::default(),
            mounts: Vec::new(),
            networks: vec!["bridge".to_owned()],
            restart: EngineRestart::Never,
            remove_when_stopped: false,
            beyond: Vec::new(),
        }
    }
}
