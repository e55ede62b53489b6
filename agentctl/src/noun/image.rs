//! `agentctl image`: what VMs' disks start as, and what containers are made of.

mod build;
mod ignore;
mod import;
mod pull;
mod save;
mod sending;

use std::time::Duration;

use agentd_api::{Kind, KindDef, image};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::app::App;
use crate::failure::Failure;
use crate::target::name_from;
use crate::verb::create::{self, Create, Until};
use crate::verb::list::List;
use crate::verb::remove::Remove;
use crate::verb::show::Show;
use crate::wait::WaitArgs;
use crate::wait::goal::Goal;

const DEF: &KindDef = image::Image::DEF;
/// A Debian takes minutes on a slow host, a pull what its line gives.
const USUAL: Duration = Duration::from_secs(1800);

#[derive(Debug, Subcommand)]
pub enum Image {
    /// Build an image on this host: from the distribution's packages, or by a Dockerfile
    Build(build::Build),
    /// Take an image from a file: qcow2, raw, vmdk or vhdx
    Import(import::Import),
    /// Take an image for containers from an archive
    Load(import::Load),
    /// Fetch an image: for containers from a registry, a disk from a URL
    Pull(pull::Pull),
    /// Write an image for containers to an archive
    Save(save::Save),
    /// List images
    #[command(visible_alias = "ls")]
    List(List),
    /// Show all about images
    Show(Show),
    /// Delete images that no VM and no container stands on
    Rm(Remove),
}

/// What building, importing and pulling have in common.
#[derive(Debug, Args)]
pub struct Making {
    /// The image's name [default: the recipe's or the file's]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Check everything, change nothing
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub wait: WaitArgs,
}

impl Image {
    pub async fn run(self, app: &App) -> Result<(), Failure> {
        match self {
            Self::Build(build) => build.run(app).await,
            Self::Import(import) => import.run(app).await,
            Self::Load(load) => load.run(app).await,
            Self::Pull(pull) => pull.run(app).await,
            Self::Save(save) => save.run(app).await,
            Self::List(list) => list.run(app, DEF).await,
            Self::Show(show) => show.run(app, DEF).await,
            Self::Rm(remove) => remove.run(app, DEF).await,
        }
    }
}

impl Making {
    /// The name that was given, or what the file or URL would be called.
    fn named(&self, from: &str) -> Result<String, Failure> {
        let made = || name_from(from).map(|name| name.to_string());
        self.name.clone().or_else(made).ok_or_else(|| {
            Failure::field("name", format!("none can be made of '{from}'")).hint("give one with --name")
        })
    }
}

async fn make(app: &App, name: &str, spec: Value, making: &Making) -> Result<(), Failure> {
    let create = Create { def: DEF, name, draft: draft(name, spec), dry_run: making.dry_run };
    let Some(object) = create.send(app).await? else { return Ok(()) };
    let until = Until { goal: Goal::Ready, wait: &making.wait, usual: USUAL, beside: None };
    create::finish(app, DEF, object, until).await
}

fn draft(name: &str, spec: Value) -> Value {
    json!({"name": name, "spec": spec})
}
