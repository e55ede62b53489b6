//! The daemon's command line. clap reads the environment for a flag that is not given. It knows nothing else of the
//! daemon, so that its manual page can be made without building one.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Turns this host into a cloud: VMs, images and networks as an API on a Unix socket.
#[derive(Debug, Parser)]
#[command(name = "agentd", version, max_term_width = 100)]
pub struct Arguments {
    #[command(flatten)]
    pub flags: Flags,
    #[command(subcommand)]
    pub command: Option<Command>,
}

#[derive(Debug, Clone, Default, Args)]
pub struct Flags {
    /// The configuration [default: /etc/agentd/agentd.toml, where it exists, and /etc/agentd/conf.d/*.toml]
    #[arg(long, env = "AGENTD_CONFIG", value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// Where objects, images and disks are kept
    #[arg(long, env = "AGENTD_STATE_DIR", value_name = "DIR", global = true)]
    pub state_dir: Option<PathBuf>,
    /// The Unix socket of the API
    #[arg(long, env = "AGENTD_SOCKET", value_name = "PATH", global = true)]
    pub socket: Option<PathBuf>,
}

#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Read the configuration, print it with all defaults filled in, and end
    CheckConfig,
    /// Make the store of a state directory that has none out of a backup, and end
    Restore {
        /// What `agentctl backup` wrote
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Give a container's link its MAC, and end: what agentd-mac@.service runs
    #[command(hide = true)]
    SetMac {
        #[arg(value_name = "NAMESPACE/INDEX/FROM/TO")]
        what: PathBuf,
    },
}
