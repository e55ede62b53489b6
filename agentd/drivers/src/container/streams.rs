//! What goes to a container and comes from it while it runs, and what is asked of it.
//!
//! Sessions are those of guests (`../vm/guest`), so that what carries a program's input and output, or an archive, need not
//! know which of the two it is. A container needs no agent for them: the engine is it.

use agentd_api::Timestamp;
use agentd_api::stats::{CpuFigures, DiskFigures, MemoryFigures, NetworkFigures};
use async_trait::async_trait;
use uuid::Uuid;

use super::{ContainerError, ExitSeen};
use crate::vm::guest::{ExecWish, GuestError, GuestIn, GuestOut};

/// How one sits at a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sitting {
    /// Its input is taken.
    pub input: bool,
    /// Also at one that is off, to miss nothing of what it says once it is started.
    pub early: bool,
}

/// What of its log is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Logs {
    /// Go on until it is off.
    pub follow: bool,
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
    /// The last lines only.
    pub tail: Option<u64>,
    /// Each line after its time and a space.
    pub timestamps: bool,
    pub out: bool,
    pub err: bool,
}

/// Of one container of ours that is on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerStats {
    pub id: Uuid,
    pub cpu: CpuFigures,
    pub memory: MemoryFigures,
    /// One for each of the host's disks that it used, by its numbers: "254:0".
    pub disks: Vec<DiskFigures>,
    /// By their names in the container: "eth0". Their `network` is not known here.
    pub networks: Vec<NetworkFigures>,
    pub pids: u64,
}

/// What runs in it, as `ps` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Processes {
    pub titles: Vec<String>,
    pub rows: Vec<Vec<String>>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Changed {
    pub path: String,
    pub how: ChangedHow,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ChangedHow {
    Added,
    Modified,
    Deleted,
}

/// What an image of it is called.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Commit {
    pub repository: String,
    pub tag: String,
    pub message: String,
    /// Paused meanwhile, so that nothing is half written.
    pub pause: bool,
}

/// The session traits tell more of each.
#[async_trait]
pub trait ContainerStreams: Send + Sync {
    /// Runs a program in it. Answers once it runs; a program that is not there exits with 127, one that cannot be run with
    /// 126. A session that is dropped before its end ends the program. NotRunning where the container is off or paused.
    async fn exec(&self, id: Uuid, wish: ExecWish) -> Result<(GuestIn, GuestOut), GuestError>;
    /// Its own program's input and output, from now on, ending with its exit. Dropping this leaves the program, but that one
    /// without a terminal has no more input once who sends it some has gone. Input goes nowhere where its definition has
    /// none. NotRunning where it is paused, and where it is off if that was not allowed for.
    async fn attach(&self, id: Uuid, sitting: Sitting) -> Result<(GuestIn, GuestOut), GuestError>;
    /// What it said, in pieces of any length and not in lines, ending with Done. Also of one that is off.
    async fn logs(&self, id: Uuid, logs: Logs) -> Result<GuestOut, GuestError>;
    /// What is at that path as a tar archive, also of one that is off; Missing where nothing is.
    async fn pack(&self, id: Uuid, path: String) -> Result<GuestOut, GuestError>;
    /// Unpacks a tar archive to that path, as into a guest: into a folder that is there, or under the path's last part as its
    /// name. What it is given, and how it went.
    async fn unpack(&self, id: Uuid, path: String) -> Result<(GuestIn, GuestOut), GuestError>;
    /// All of this daemon's that are on.
    async fn stats(&self) -> Result<Vec<ContainerStats>, ContainerError>;
    /// Off where it is.
    async fn top(&self, id: Uuid) -> Result<Processes, ContainerError>;
    /// What it changed of its image's files. Sorted by path.
    async fn diff(&self, id: Uuid) -> Result<Vec<Changed>, ContainerError>;
    /// Makes an image of it; gives the engine's own id of that.
    async fn commit(&self, id: Uuid, commit: &Commit) -> Result<String, ContainerError>;
    /// Waits until it is off, however long; at once where it is. Missing where it is removed meanwhile.
    async fn wait(&self, id: Uuid) -> Result<ExitSeen, ContainerError>;
}
