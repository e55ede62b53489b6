//! `agentctl vm`: virtual machines.

mod logs;
mod run;
mod set;
mod spec;
mod stop;

use std::time::Duration;

use agentd_api::{Kind, KindDef, vm};
use clap::Subcommand;

use crate::app::App;
use crate::failure::Failure;
use crate::noun::stats::Stats;
use crate::verb::act::{Act, Action};
use crate::verb::list::List;
use crate::verb::remove::Remove;
use crate::verb::show::Show;
use crate::wait::goal::Goal;

pub use spec::read_bounded;

const DEF: &KindDef = vm::Vm::DEF;
const MINUTE: Duration = Duration::from_secs(60);

#[derive(Debug, Subcommand)]
pub enum Vm {
    /// Make a VM, start it and wait until it runs and has its address
    Run(Box<run::Run>),
    /// Make a VM without starting it
    Create(Box<run::Run>),
    /// Start VMs
    Start(Act),
    /// Power VMs off: by ACPI, and by force once their grace is over
    Stop(stop::Stop),
    /// Stop VMs and start them again
    Restart(Act),
    /// Halt VMs' CPUs
    Pause(Act),
    /// Let paused VMs' CPUs run on
    Resume(Act),
    /// Change VMs' policies and limits
    Set(Box<set::Set>),
    /// List VMs
    #[command(visible_alias = "ls")]
    List(List),
    /// Show all about VMs
    Show(Show),
    /// Print what VMs use: CPU, memory, disk, network
    Stats(Stats),
    /// Print what a VM's guest said on its serial console
    Logs(logs::Logs),
    /// Stop VMs and delete them with their disks
    Rm(Remove),
}

impl Vm {
    pub async fn run(self, app: &App) -> Result<(), Failure> {
        let action = |name, goal| Action { name, goal, usual: 5 * MINUTE };
        match self {
            Self::Run(run) => run.run(app, run::Begin::Started).await,
            Self::Create(run) => run.run(app, run::Begin::Stopped).await,
            Self::Start(act) => act.run(app, DEF, action("start", Goal::Running)).await,
            Self::Stop(stop) => stop.run(app).await,
            Self::Restart(act) => act.run(app, DEF, action("restart", Goal::Running)).await,
            Self::Pause(act) => act.run(app, DEF, action("pause", Goal::Paused)).await,
            Self::Resume(act) => act.run(app, DEF, action("resume", Goal::Running)).await,
            Self::Set(set) => set.run(app).await,
            Self::List(list) => list.run(app, DEF).await,
            Self::Show(show) => show.run(app, DEF).await,
            Self::Stats(stats) => stats.run(app, Some(DEF)).await,
            Self::Logs(logs) => logs.run(app).await,
            Self::Rm(remove) => remove.run(app, DEF).await,
        }
    }
}
