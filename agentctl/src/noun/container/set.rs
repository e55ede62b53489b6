//! `container set`: changes the policies of containers. They hold at once.

use agentd_client::AnyObject;
use clap::Args;
use serde_json::{Map, json};

use super::DEF;
use super::spec::LifeArgs;
use crate::app::App;
use crate::failure::{Exit, Failure, Failures};
use crate::output::undecodable;
use crate::target::{self, Which, label, not_found_hint};
use crate::verb::create;

#[derive(Debug, Args)]
pub struct Set {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    life: LifeArgs,
    /// Check everything, change nothing
    #[arg(long)]
    dry_run: bool,
}

impl Set {
    pub async fn run(self, app: &App) -> Result<(), Failure> {
        let mut change = Map::new();
        self.life.fill(&mut change);
        if change.is_empty() {
            return Err(Failure::new(Exit::Usage, "nothing to set was given")
                .hint("`agentctl container set --help` shows what can be"));
        }
        let patch = json!({"spec": change});
        let mut failures = Failures::default();
        for name in self.which.names(app, DEF).await? {
            let changed = async {
                let name = target::name_of(app, DEF, &name).await?;
                let body = app.client.kind(DEF).patch(&name, &patch, &app.write(self.dry_run)).await;
                let body = body.map_err(|e| not_found_hint(e, DEF))?;
                serde_json::from_slice::<AnyObject>(&body).map_err(|e| undecodable(&e))
            };
            let Some(object) = failures.take(label(DEF, &name), changed.await) else { continue };
            if app.output.is_table() {
                let done = if self.dry_run { "would be changed" } else { "changed" };
                app.say(format_args!("{}: {done}", label(DEF, &object.meta.name)));
            } else {
                create::print(app, DEF, &object).await?;
            }
        }
        failures.end()
    }
}
