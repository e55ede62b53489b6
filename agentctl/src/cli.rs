//! What can be typed: the global flags and the nouns.

use std::path::PathBuf;

use agentd_api::ObjectName;
use agentd_api::name::DEFAULT_PROJECT;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::app::App;
use crate::failure::Failure;
use crate::noun;
use crate::output::Output;

const EXIT_STATUSES: &str = "\
Exit status:
  0 done         3 not found           6 forbidden
  1 failed       4 conflict or exists  7 no daemon
  2 bad input    5 unsupported         8 timed out";

/// Says what should exist on this host; agentd makes it so.
#[derive(Debug, Parser)]
#[command(name = "agentctl", version, max_term_width = 100, arg_required_else_help = true)]
#[command(infer_long_args = false, subcommand_required = true, disable_help_subcommand = true)]
#[command(after_help = EXIT_STATUSES)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub noun: Noun,
}

#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// The daemon's socket [default: /run/agentd/agentd.sock]
    #[arg(long, global = true, value_name = "PATH", env = "AGENTD_SOCKET", hide_env_values = true)]
    pub socket: Option<PathBuf>,
    /// Another machine's daemon, by the name that `remote join` gave it
    #[arg(long, global = true, value_name = "NAME", env = "AGENTD_HOST", hide_env_values = true)]
    pub host: Option<String>,
    /// The project to work in
    #[arg(long, global = true, value_name = "PROJECT", default_value = DEFAULT_PROJECT)]
    pub project: ObjectName,
    /// How to print what is asked for
    #[arg(short, long, global = true, value_enum, value_name = "FORMAT", default_value_t = Output::Table)]
    pub output: Output,
}

#[derive(Debug, Subcommand)]
pub enum Noun {
    /// Virtual machines: run, create, start, stop, restart, pause, resume, suspend, snapshot, restore,
    /// list, show, stats, console, logs, vnc, screenshot, rm
    #[command(subcommand)]
    Vm(noun::vm::Vm),
    /// Containers: run, list, show, exec, logs, stop, rm, ...
    #[command(subcommand)]
    Container(noun::container::Container),
    /// What VMs' disks start as: build, import, pull, list, show, rm
    #[command(subcommand)]
    Image(noun::image::Image),
    /// Disks that outlive VMs: create, attach, detach, resize, list, show, rm
    #[command(subcommand)]
    Volume(noun::volume::Volume),
    /// Sizes of VMs, by name: create, list, show, rm
    #[command(subcommand)]
    Flavor(noun::flavor::Flavor),
    /// Networks of this host: list, show
    #[command(subcommand)]
    Network(noun::network::Network),
    /// What VMs' disks held at a moment: create, list, show, restore, rm
    #[command(subcommand)]
    Snapshot(noun::snapshot::Snapshot),
    /// Public keys that VMs are given: create, list, show, rm
    #[command(subcommand)]
    SshKey(noun::ssh_key::SshKey),
    /// Print objects of any kind
    Get(noun::get::Get),
    /// Print all about objects of any kind, with what happened to them
    Describe(noun::describe::Describe),
    /// Delete objects of any kind
    Delete(noun::delete::Delete),
    /// Print changes of a kind as they come
    Watch(noun::watch::Watch),
    /// Print what happened: who did what, why, and how it ended
    Events(noun::events::Events),
    /// Take over containers that somebody else made, as they are and while they run
    Adopt(noun::adopt::Adopt),
    /// Forget failed attempts at objects and try again now
    Retry(noun::retry::Retry),
    /// Stop all VMs and containers for the host's shutdown: the next boot starts them again
    Shutdown(noun::shutdown::Shutdown),
    /// Show what guests use, the busiest first, until Ctrl-C
    Top(noun::top::Top),
    /// Print what the daemon says of itself, its host and its backends
    Info(noun::info::Info),
    /// Write all that the daemon knows into a file, for `agentd restore`; contents of disks are not in it
    Backup(noun::backup::Backup),
    /// Other machines: init, add-client, revoke, list-clients on the host that is called; join, list, forget
    /// where it is called from
    #[command(subcommand)]
    Remote(noun::remote::Remote),
    /// Check what agentd needs of this host, and what on it belongs to nobody or is gone; mend what is safe
    Doctor(noun::doctor::Doctor),
    /// Print a completion script for a shell
    Completion(noun::completion::Completion),
    /// Print the versions of agentctl and of the daemon
    Version(noun::version::Version),
}

impl Global {
    /// What is typed wins over the environment; of two that are equal neither does.
    fn settle(&mut self, given: &ArgMatches) -> Result<(), clap::Error> {
        let typed = |id| given.value_source(id) == Some(ValueSource::CommandLine);
        self.host.take_if(|host| host.is_empty());
        if self.host.is_none() || self.socket.is_none() {
            return Ok(());
        }
        match (typed("socket"), typed("host")) {
            (true, false) => self.host = None,
            (false, true) => self.socket = None,
            _ => {
                let message =
                    "--socket and --host (AGENTD_SOCKET and AGENTD_HOST) name two daemons; give one of them";
                return Err(Cli::command().error(ErrorKind::ArgumentConflict, message));
            }
        }
        Ok(())
    }
}

impl Cli {
    /// What the process was told. Ends it where that is nothing that can be done.
    pub fn of_process() -> Self {
        Self::of(std::env::args_os()).unwrap_or_else(|error| error.exit())
    }

    fn of(
        arguments: impl IntoIterator<Item = impl Into<std::ffi::OsString> + Clone>,
    ) -> Result<Self, clap::Error> {
        let given = Self::command().try_get_matches_from(arguments)?;
        let mut cli = Self::from_arg_matches(&given).map_err(|error| error.format(&mut Self::command()))?;
        cli.global.settle(&given)?;
        Ok(cli)
    }

    pub async fn run(self) -> Result<(), Failure> {
        let app = match &self.noun {
            Noun::Remote(_) | Noun::Completion(_) => App::asking_nobody(self.global),
            _ => App::new(self.global)?,
        };
        match self.noun {
            Noun::Vm(noun) => noun.run(&app).await,
            Noun::Container(noun) => noun.run(&app).await,
            Noun::Image(noun) => noun.run(&app).await,
            Noun::Volume(noun) => noun.run(&app).await,
            Noun::Flavor(noun) => noun.run(&app).await,
            Noun::Network(noun) => noun.run(&app).await,
            Noun::Snapshot(noun) => noun.run(&app).await,
            Noun::SshKey(noun) => noun.run(&app).await,
            Noun::Get(noun) => noun.run(&app).await,
            Noun::Describe(noun) => noun.run(&app).await,
            Noun::Delete(noun) => noun.run(&app).await,
            Noun::Watch(noun) => noun.run(&app).await,
            Noun::Events(noun) => noun.run(&app).await,
            Noun::Adopt(noun) => noun.run(&app).await,
            Noun::Retry(noun) => noun.run(&app).await,
            Noun::Shutdown(noun) => noun.run(&app).await,
            Noun::Top(noun) => noun.run(&app).await,
            Noun::Info(noun) => noun.run(&app).await,
            Noun::Backup(noun) => noun.run(&app).await,
            Noun::Remote(noun) => noun.run(&app).await,
            Noun::Doctor(noun) => noun.run(&app).await,
            Noun::Completion(noun) => noun.run(),
            Noun::Version(noun) => noun.run(&app).await,
        }
    }
}

#[cfg(test)]
mod tests;
