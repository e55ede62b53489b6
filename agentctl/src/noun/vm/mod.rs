//! `agentctl vm`: virtual machines.

mod clone;
mod console;
mod export;
mod import;
mod iso;
pub mod logs;
mod network;
mod resize;
mod run;
mod screenshot;
mod set;
mod spec;
mod ssh;
mod vnc;

use std::time::Duration;

use agentd_api::{Kind, KindDef, State, SubDef, vm};
use clap::{Args, Subcommand};

use crate::app::App;
use crate::failure::{Exit, Failure};
use crate::noun::cp::Cp;
use crate::noun::exec::Exec;
use crate::noun::snapshot::{RestoreVm, Take};
use crate::noun::stats::Stats;
use crate::target;
use crate::verb::act::{Act, Action};
use crate::verb::list::List;
use crate::verb::remove::Remove;
use crate::verb::show::Show;
use crate::verb::stop::Stop;
use crate::wait::goal::Goal;

pub use spec::{
    Attached, Expiry, Limits, NetworkArgs, Nic, autostart, disk_limits, drafted, expiry, label, nic,
    nic_limits, put, read_bounded,
};

const DEF: &KindDef = vm::Vm::DEF;
const MINUTE: Duration = Duration::from_secs(60);

/// What a VM has beside its object.
fn sub(name: &str) -> &'static SubDef {
    DEF.sub(name).expect("a subresource that is declared")
}

#[derive(Debug, Subcommand)]
pub enum Vm {
    /// Make a VM, start it and wait until it runs and has its address
    Run(Box<run::Run>),
    /// Make a VM without starting it
    Create(Box<run::Run>),
    /// Make a VM of another one's disks, with an identity of its own; the other one may run
    Clone(Box<clone::Clone>),
    /// Write a VM's spec and disks into one file, from which it can be made again on any host
    Export(export::Export),
    /// Make a VM of a file that `vm export` wrote
    Import(Box<import::Import>),
    /// Start VMs
    Start(Start),
    /// Power VMs off: by ACPI, and by force once their grace is over
    Stop(Stop),
    /// Stop VMs and start them again
    Restart(Act),
    /// Halt VMs' CPUs
    Pause(Act),
    /// Let paused VMs' CPUs run on, and suspended VMs from their memory on disk
    Resume(Resume),
    /// Write VMs' memory to disk and end them, to go on from there
    Suspend(Act),
    /// Take a snapshot of a VM; `agentctl snapshot` lists and deletes them
    Snapshot(Take),
    /// Take a VM back to a snapshot of it; what its disks hold now is lost
    Restore(RestoreVm),
    /// Change VMs' policies and limits
    Set(Box<set::Set>),
    /// Change how large a VM is; what cannot be changed while it runs waits for its restart
    Resize(resize::Resize),
    /// Change any fields of a VM's spec
    Patch(resize::Patch),
    /// Plug interfaces in and out
    #[command(subcommand)]
    Network(network::Network),
    /// Let ports of the host lead to ports of a VM's guest
    Publish(network::Publish),
    /// Take published ports back
    Unpublish(network::Publish),
    /// List VMs
    #[command(visible_alias = "ls")]
    List(List),
    /// Show all about VMs
    Show(Show),
    /// Print what VMs use: CPU, memory, disk, network
    Stats(Stats),
    /// Run a program in a VM's guest
    Exec(Exec),
    /// Copy files and folders into a VM's guest, or out of it
    Cp(Cp),
    /// Log in to a VM over ssh
    Ssh(ssh::Ssh),
    /// Sit at a VM's serial console
    Console(console::Console),
    /// Put an ISO into a VM's CD-ROM drive, or take it out
    Iso(iso::Iso),
    /// Print what a VM's guest said on its serial console
    Logs(logs::Logs),
    /// Open a port of this machine that leads one VNC viewer to a VM's screen
    Vnc(vnc::Vnc),
    /// Take a picture of a VM's screen
    Screenshot(screenshot::Screenshot),
    /// Stop VMs and delete them with their disks
    Rm(RemoveVm),
}

#[derive(Debug, Args)]
pub struct Start {
    #[command(flatten)]
    act: Act,
    /// Throw away the memory of a suspended VM, and start it anew
    #[arg(long)]
    fresh: bool,
}

#[derive(Debug, Args)]
pub struct Resume {
    #[command(flatten)]
    act: Act,
    /// Only VMs that are suspended to disk
    #[arg(long)]
    from_disk: bool,
}

#[derive(Debug, Args)]
pub struct RemoveVm {
    #[command(flatten)]
    remove: Remove,
    /// Also delete their snapshots
    #[arg(long)]
    snapshots: bool,
}

impl Vm {
    pub async fn run(self, app: &App) -> Result<(), Failure> {
        let action = |name, goal| Action { name, goal, usual: 5 * MINUTE };
        match self {
            Self::Run(run) => run.run(app, run::Begin::Started).await,
            Self::Create(run) => run.run(app, run::Begin::Stopped).await,
            Self::Clone(clone) => clone.run(app).await,
            Self::Export(export) => export.run(app).await,
            Self::Import(import) => import.run(app).await,
            Self::Start(Start { act, fresh }) => {
                let name = if fresh { "start-fresh" } else { "start" };
                act.run(app, DEF, action(name, Goal::Running)).await
            }
            Self::Stop(stop) => stop.run(app, DEF).await,
            Self::Restart(act) => act.run(app, DEF, action("restart", Goal::Running)).await,
            Self::Pause(act) => act.run(app, DEF, action("pause", Goal::Paused)).await,
            Self::Resume(Resume { act, from_disk }) => {
                if from_disk {
                    all_suspended(app, &act).await?;
                }
                act.run(app, DEF, action("resume", Goal::Running)).await
            }
            Self::Suspend(act) => act.run(app, DEF, action("suspend", Goal::Suspended)).await,
            Self::Snapshot(take) => take.run(app).await,
            Self::Restore(restore) => restore.run(app).await,
            Self::Set(set) => set.run(app).await,
            Self::Resize(resize) => resize.run(app).await,
            Self::Patch(patch) => patch.run(app).await,
            Self::Network(network) => network.run(app).await,
            Self::Publish(publish) => publish.publish(app).await,
            Self::Unpublish(publish) => publish.unpublish(app).await,
            Self::List(list) => list.run(app, DEF).await,
            Self::Show(show) => show.run(app, DEF).await,
            Self::Stats(stats) => stats.run(app, DEF).await,
            Self::Exec(exec) => exec.run(app, DEF).await,
            Self::Cp(cp) => cp.run(app, DEF).await,
            Self::Ssh(ssh) => ssh.run(app).await,
            Self::Console(console) => console.run(app).await,
            Self::Iso(iso) => iso.run(app).await,
            Self::Logs(logs) => logs.run(app).await,
            Self::Vnc(vnc) => vnc.run(app).await,
            Self::Screenshot(screenshot) => screenshot.run(app).await,
            Self::Rm(RemoveVm { remove, snapshots }) => remove.run_with(app, DEF, snapshots).await,
        }
    }
}

/// Before anything is sent: a VM that is only paused has no memory on disk.
async fn all_suspended(app: &App, act: &Act) -> Result<(), Failure> {
    for name in act.which.names(app, DEF).await? {
        let vm = target::find(app, DEF, &name).await?;
        let state = vm.common().state;
        if state != State::Suspended {
            let text = format!("is {state}, and has no memory on disk to go on from");
            return Err(Failure::new(Exit::Conflict, text).about(target::label(DEF, &name)));
        }
    }
    Ok(())
}
