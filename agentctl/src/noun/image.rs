//! `agentctl image`: what VMs' disks start as.

mod import;

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
    /// Build an image on this host from the distribution's packages
    Build(Build),
    /// Take an image from a file: qcow2, raw, vmdk or vhdx
    Import(import::Import),
    /// Fetch an image and check its digest
    Pull(Pull),
    /// List images
    #[command(visible_alias = "ls")]
    List(List),
    /// Show all about images
    Show(Show),
    /// Delete images that no VM stands on
    Rm(Remove),
}

#[derive(Debug, Args)]
pub struct Build {
    /// What to build: micro or debian-12
    #[arg(value_name = "RECIPE")]
    recipe: String,
    #[command(flatten)]
    making: Making,
}

#[derive(Debug, Args)]
pub struct Pull {
    /// http:// or https://
    #[arg(value_name = "URL")]
    url: String,
    /// SHA-256 of what the URL leads to
    #[arg(long, value_name = "DIGEST")]
    sha256: String,
    #[command(flatten)]
    making: Making,
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
            Self::Pull(pull) => pull.run(app).await,
            Self::List(list) => list.run(app, DEF).await,
            Self::Show(show) => show.run(app, DEF).await,
            Self::Rm(remove) => remove.run(app, DEF).await,
        }
    }
}

impl Build {
    async fn run(self, app: &App) -> Result<(), Failure> {
        let name = self.making.name.clone().unwrap_or_else(|| self.recipe.clone());
        make(app, &name, json!({"recipe": self.recipe}), &self.making).await
    }
}

impl Pull {
    async fn run(self, app: &App) -> Result<(), Failure> {
        let name = self.making.named(&self.url)?;
        make(app, &name, json!({"url": {"url": self.url, "sha256": self.sha256}}), &self.making).await
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

async fn make(app: &App, name: &str, source: Value, making: &Making) -> Result<(), Failure> {
    let create = Create { def: DEF, name, draft: draft(name, source), dry_run: making.dry_run };
    let Some(object) = create.send(app).await? else { return Ok(()) };
    let until = Until { goal: Goal::Ready, wait: &making.wait, usual: USUAL, beside: None };
    create::finish(app, DEF, object, until).await
}

fn draft(name: &str, source: Value) -> Value {
    json!({"name": name, "spec": {"source": source}})
}
