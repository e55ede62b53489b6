//! `agentctl flavor`: sizes of VMs, by name.

use std::time::Duration;

use agentd_api::{Kind, KindDef, flavor};
use clap::{Args, Subcommand};
use serde_json::{Map, json};

use crate::app::App;
use crate::failure::Failure;
use crate::noun::vm::{Limits, disk_limits, nic_limits, put};
use crate::verb::create::{self, Create, Until};
use crate::verb::list::{List, list_with_shared};
use crate::verb::remove::Remove;
use crate::verb::show::Show;
use crate::wait::WaitArgs;
use crate::wait::goal::Goal;

const DEF: &KindDef = flavor::Flavor::DEF;
const USUAL: Duration = Duration::from_secs(30);

#[derive(Debug, Subcommand)]
pub enum Flavor {
    /// Keep a size under a name; VMs are made of it with `vm run --flavor`
    Create(CreateFlavor),
    /// List flavors: the project's, and those of the project default, which serve all projects
    #[command(visible_alias = "ls")]
    List(List),
    /// Show all about flavors
    Show(Show),
    /// Delete flavors that no VM is of
    Rm(Remove),
}

#[derive(Debug, Args)]
pub struct CreateFlavor {
    #[arg(value_name = "NAME")]
    name: String,
    /// How many CPUs a VM of it has
    #[arg(long, value_name = "N")]
    cpus: u32,
    /// How much memory, as in 1GiB
    #[arg(long, value_name = "SIZE")]
    memory: String,
    /// The size of its disk [default: the VM's own affair]
    #[arg(long, value_name = "SIZE")]
    disk: Option<String>,
    /// What its disk may do in a second, as with `vm run` [default: the VM's own affair]
    #[arg(long, value_name = "LIMITS", value_parser = disk_limits)]
    disk_limit: Option<Limits>,
    /// What each of its interfaces may carry in a second: in=1MiB,out=1MiB [default: the VM's own affair]
    #[arg(long, value_name = "LIMITS", value_parser = nic_limits)]
    nic_limit: Option<Limits>,
    /// Its weight where guests compete for processors [default: the VM's own affair]
    #[arg(long, value_name = "N")]
    cpu_shares: Option<u32>,
    /// Check everything, change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    wait: WaitArgs,
}

impl Flavor {
    pub async fn run(self, app: &App) -> Result<(), Failure> {
        match self {
            Self::Create(create) => create.run(app).await,
            Self::List(list) => list_with_shared(app, DEF, &list.select).await,
            Self::Show(show) => show.run(app, DEF).await,
            Self::Rm(remove) => remove.run(app, DEF).await,
        }
    }
}

impl CreateFlavor {
    async fn run(self, app: &App) -> Result<(), Failure> {
        let mut spec = Map::new();
        spec.insert("cpus".to_owned(), json!(self.cpus));
        spec.insert("memory".to_owned(), json!(self.memory));
        spec.extend(self.disk.iter().map(|disk| ("disk".to_owned(), json!(disk))));
        put(&mut spec, "disk_limits", self.disk_limit.as_ref().map(|limits| &limits.0));
        put(&mut spec, "nic_limits", self.nic_limit.as_ref().map(|limits| &limits.0));
        spec.extend(self.cpu_shares.map(|shares| ("cpu_shares".to_owned(), json!(shares))));
        let draft = json!({"name": self.name, "spec": spec});
        let create = Create { def: DEF, name: &self.name, draft, dry_run: self.dry_run };
        let Some(object) = create.send(app).await? else { return Ok(()) };
        let until = Until { goal: Goal::Ready, wait: &self.wait, usual: USUAL, beside: None };
        create::finish(app, DEF, object, until).await
    }
}
