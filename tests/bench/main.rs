//! The figures that agentd is judged by, each taken beside the bare limit in one run (and beside Incus where asked).
//!
//!     cargo run --release -p agent-tests --bin bench [-- --peer incus] [--rows get,list,...] [--quick]
//!
//! An absolute time of one machine says little; the two ratios do. `limit` is a bare program that does only the
//! unavoidable part: axum answering prepared bytes on a Unix socket, SQLite committing prepared rows; of real guests,
//! `virsh create` and the engine's own API.

mod caller;
mod container;
mod create;
mod daemon;
mod idle;
mod incus;
mod inner;
mod limit;
mod read;
mod start;
mod table;
mod vm;
mod watch;

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Parser;

use crate::table::Table;

#[derive(Parser)]
#[command(about = "Measures agentd beside the bare limit, and beside Incus where asked")]
struct Arguments {
    /// Measures this peer too, where it is installed and runs.
    #[arg(long, value_parser = ["incus"])]
    peer: Option<String>,
    /// Only these rows.
    #[arg(long, value_delimiter = ',', default_value = "get,list,create,start,watch,idle,vm,container")]
    rows: Vec<String>,
    /// A tenth of the work, to see that it runs; its figures are worth nothing.
    #[arg(long)]
    quick: bool,
    #[command(subcommand)]
    role: Option<Role>,
}

/// What this program is when it runs itself again as the limit.
#[derive(clap::Subcommand)]
enum Role {
    #[command(hide = true)]
    LimitHttp { socket: PathBuf, body: PathBuf },
    /// Starts VMs, within a namespace of its own.
    #[command(hide = true)]
    VmStart { times: usize },
    /// Launches containers and ends them, within a namespace of its own.
    #[command(hide = true)]
    ContainerLife { times: usize },
}

/// What every row needs.
pub struct Bench {
    pub folder: tempfile::TempDir,
    pub quick: bool,
    pub peer: Option<incus::Incus>,
}

impl Bench {
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
    pub fn times(&self, n: usize) -> usize {
        if self.quick { (n / 10).max(1) } else { n }
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    match &arguments.role {
        Some(Role::LimitHttp { socket, body }) => return limit::serve(socket, body),
        Some(Role::VmStart { times }) => return vm::inside(*times),
        Some(Role::ContainerLife { times }) => return container::inside(*times),
        None => {}
    }
    let peer = match arguments.peer.as_deref() {
        Some(_) => Some(incus::Incus::find()?),
        None => None,
    };
    let folder = tempfile::Builder::new().prefix("agentd-bench-").tempdir_in(scratch())?;
    let bench = Bench { folder, quick: arguments.quick, peer };
    let mut table = Table::new();
    for row in &arguments.rows {
        eprintln!("measuring {row} ...");
        match row.as_str() {
            "get" => read::get(&bench, &mut table)?,
            "list" => read::list(&bench, &mut table)?,
            "create" => create::rows(&bench, &mut table)?,
            "start" => start::rows(&bench, &mut table)?,
            "watch" => watch::rows(&bench, &mut table)?,
            "idle" => idle::rows(&bench, &mut table)?,
            "vm" => vm::rows(&bench, &mut table)?,
            "container" => container::rows(&bench, &mut table)?,
            other => anyhow::bail!("no row '{other}'"),
        }
    }
    table.print(&bench);
    Ok(())
}

/// On a disk: a tmpfs would make every commit free.
fn scratch() -> &'static Path {
    Path::new("/var/tmp")
}
