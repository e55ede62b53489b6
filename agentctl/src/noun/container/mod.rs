//! `agentctl container`: containers. What means the same as of a VM is called the same.

mod attach;
mod commit;
mod list;
mod logs;
mod look;
mod rename;
mod resize;
mod run;
mod set;
mod spec;
mod wait;

use std::time::Duration;

use agentd_api::{Kind, KindDef, SubDef, container};
use clap::Subcommand;

use crate::app::App;
use crate::failure::Failure;
use crate::noun::cp::Cp;
use crate::noun::exec::Exec;
use crate::noun::stats::Stats;
use crate::verb::act::{Act, Action};
use crate::verb::remove::Remove;
use crate::verb::show::Show;
use crate::verb::stop::Stop;
use crate::wait::goal::Goal;

const DEF: &KindDef = container::Container::DEF;
/// What the engine's containers are called that are none of agentd's.
pub const FOREIGN: &str = "foreign";
const MINUTE: Duration = Duration::from_secs(60);

/// What a container has beside its object.
fn sub(name: &str) -> &'static SubDef {
    DEF.sub(name).expect("a subresource that is declared")
}

#[derive(Debug, Subcommand)]
pub enum Container {
    /// Make a container, start it and wait until it runs and has its address; with -i, sit at it until it ends
    Run(Box<run::Run>),
    /// Make a container without starting it
    Create(Box<run::Run>),
    /// Start containers
    Start(Act),
    /// Send containers their stop signal, and kill them once their grace is over
    Stop(Stop),
    /// Stop containers and start them again
    Restart(Act),
    /// Freeze containers' processes
    Pause(Act),
    /// Let paused containers' processes run on
    Resume(Act),
    /// Give a container another name; its id, its addresses and what it holds stay
    Rename(rename::Rename),
    /// Change containers' policies
    Set(Box<set::Set>),
    /// Change what a container may use, also while it runs
    Resize(Box<resize::Resize>),
    /// List containers
    #[command(visible_alias = "ls")]
    List(list::ListAll),
    /// Show all about containers
    Show(Show),
    /// Print what containers use: CPU, memory, disk, network
    Stats(Stats),
    /// Print a container's processes
    Top(look::Top),
    /// Print what of a container's files differs from its image: A added, C changed, D deleted
    Diff(look::Diff),
    /// Run a program in a container
    Exec(Exec),
    /// Sit at a container's own input and output
    Attach(attach::Attach),
    /// Print what a container said
    Logs(logs::Logs),
    /// Copy files and folders into a container, or out of it
    Cp(Cp),
    /// Make an image of what a container holds now
    Commit(commit::Commit),
    /// Wait until containers are no longer up, and print their exit codes
    Wait(wait::WaitFor),
    /// Delete containers with what they hold, killing those that run
    Rm(Remove),
}

impl Container {
    pub async fn run(self, app: &App) -> Result<(), Failure> {
        let action = |name, goal| Action { name, goal, usual: 5 * MINUTE };
        match self {
            Self::Run(run) => run.run(app, true).await,
            Self::Create(run) => run.run(app, false).await,
            Self::Start(act) => act.run(app, DEF, action("start", Goal::Running)).await,
            Self::Stop(stop) => stop.run(app, DEF).await,
            Self::Restart(act) => act.run(app, DEF, action("restart", Goal::Running)).await,
            Self::Pause(act) => act.run(app, DEF, action("pause", Goal::Paused)).await,
            Self::Resume(act) => act.run(app, DEF, action("resume", Goal::Running)).await,
            Self::Rename(rename) => rename.run(app).await,
            Self::Set(set) => set.run(app).await,
            Self::Resize(resize) => resize.run(app).await,
            Self::List(list) => list.run(app).await,
            Self::Show(show) => show.run(app, DEF).await,
            Self::Stats(stats) => stats.run(app, DEF).await,
            Self::Top(top) => top.run(app).await,
            Self::Diff(diff) => diff.run(app).await,
            Self::Exec(exec) => exec.run(app, DEF).await,
            Self::Attach(attach) => attach.run(app).await,
            Self::Logs(logs) => logs.run(app).await,
            Self::Cp(cp) => cp.run(app, DEF).await,
            Self::Commit(commit) => commit.run(app).await,
            Self::Wait(wait) => wait.run(app).await,
            Self::Rm(remove) => remove.run(app, DEF).await,
        }
    }
}
