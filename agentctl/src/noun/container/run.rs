//! `container run` and `container create`: wish, wait, address.

use clap::Args;

use super::spec::SpecArgs;
use super::{DEF, MINUTE};
use crate::app::App;
use crate::failure::Failure;
use crate::verb::create::{self, Create, Until};
use crate::wait::WaitArgs;
use crate::wait::goal::Goal;

#[derive(Debug, Args)]
pub struct Run {
    /// The container's name; also its host name
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    spec: SpecArgs,
    /// Check everything, change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    wait: WaitArgs,
    /// What it runs, or what its entry point is given [default: the image's own]
    #[arg(value_name = "CMD", last = true)]
    command: Vec<String>,
}

impl Run {
    pub async fn run(self, app: &App, started: bool) -> Result<(), Failure> {
        let draft = self.spec.draft(&self.name, &self.command, started);
        let create = Create { def: DEF, name: &self.name, draft, dry_run: self.dry_run };
        let Some(object) = create.send(app).await? else { return Ok(()) };
        let until = Until {
            goal: if started { Goal::Running } else { Goal::Stopped },
            wait: &self.wait,
            usual: 5 * MINUTE,
            beside: None,
        };
        create::finish(app, DEF, object, until).await
    }
}
