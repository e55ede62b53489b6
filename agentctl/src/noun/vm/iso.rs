//! `vm iso`: the disc in a VM's CD-ROM drive, changed and taken out also while it runs.

use std::time::Duration;

use agentd_client::AnyObject;
use clap::Args;
use serde_json::json;

use crate::app::App;
use crate::failure::Failure;
use crate::output::{self, undecodable};
use crate::target::{name_of, not_found_hint};
use crate::verb::create::{self, Until};
use crate::wait::WaitArgs;
use crate::wait::goal::Goal;

const USUAL: Duration = Duration::from_secs(60);

#[derive(Debug, Args)]
pub struct Iso {
    #[arg(value_name = "NAME")]
    name: String,
    /// The image of the format iso that is put in
    #[arg(value_name = "IMAGE", required_unless_present = "eject")]
    image: Option<String>,
    /// Take out what is in it
    #[arg(long, conflicts_with = "image")]
    eject: bool,
    /// Check everything, change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    wait: WaitArgs,
}

impl Iso {
    pub async fn run(self, app: &App) -> Result<(), Failure> {
        let name = name_of(app, super::DEF, &self.name).await?;
        let patch = json!({"spec": {"iso": self.image}});
        let sent = app.client.kind(super::DEF).patch(&name, &patch, &app.write(self.dry_run)).await;
        let body = sent.map_err(|e| not_found_hint(e, super::DEF))?;
        if self.dry_run {
            app.say("dry run: nothing was changed");
            return output::print_objects(super::DEF, &[body], app.output);
        }
        let object: AnyObject = serde_json::from_slice(&body).map_err(|e| undecodable(&e))?;
        let until = Until { goal: Goal::Plugged, wait: &self.wait, usual: USUAL, beside: None };
        create::finish(app, super::DEF, object, until).await
    }
}
