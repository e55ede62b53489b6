//! `container run` and `container create`: wish, wait, address.

use clap::Args;

use super::spec::SpecArgs;
use super::{DEF, MINUTE, attach};
use crate::app::App;
use crate::failure::Failure;
use crate::verb::create::{self, Create, Until};
use crate::wait::goal::Goal;
use crate::wait::{Wait, WaitArgs};

#[derive(Debug, Args)]
pub struct Run {
    /// The container's name; also its host name
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    spec: SpecArgs,
    /// With --interactive: leave it alone once it runs, and do not sit at its input and output
    #[arg(short, long)]
    detach: bool,
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
        let sits = started && self.spec.interactive() && !self.detach && !self.wait.no_wait;
        let draft = self.spec.draft(&self.name, &self.command, started && !sits);
        let create = Create { def: DEF, name: &self.name, draft, dry_run: self.dry_run };
        let Some(object) = create.send(app).await? else { return Ok(()) };
        if sits {
            // Made first, so that nothing of what it says is missed.
            let (goal, limit) = (Goal::Stopped, self.wait.limit(5 * MINUTE));
            let object = Wait { app, def: DEF, goal, limit, beside: None }.one(object).await?;
            return attach::sit(app, &object, false, true).await;
        }
        let until = Until {
            goal: if started { Goal::Running } else { Goal::Stopped },
            wait: &self.wait,
            usual: 5 * MINUTE,
            beside: None,
        };
        create::finish(app, DEF, object, until).await
    }
}
