//! Actions: start, stop, restart, pause, resume, retry. Sent to each object, going on past a failure, then waited for
//! together.

use std::time::Duration;

use agentd_api::KindDef;
use agentd_client::AnyObject;
use clap::Args;
use serde_json::{Value, json};

use crate::app::App;
use crate::failure::{Failure, Failures};
use crate::output::undecodable;
use crate::target::{self, Which, label, not_found_hint};
use crate::verb::create;
use crate::wait::goal::Goal;
use crate::wait::{Wait, WaitArgs};

#[derive(Debug, Args)]
pub struct Act {
    #[command(flatten)]
    pub which: Which,
    /// Check everything, change nothing
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub wait: WaitArgs,
}

/// What an action is called and when it is done.
#[derive(Debug, Clone, Copy)]
pub struct Action {
    pub name: &'static str,
    pub goal: Goal,
    pub usual: Duration,
}

impl Act {
    pub async fn run(self, app: &App, def: &'static KindDef, action: Action) -> Result<(), Failure> {
        let mut failures = Failures::default();
        let mut sent = Vec::new();
        for name in self.which.names(app, def).await? {
            let outcome = send(app, def, &name, action.name, self.dry_run).await;
            sent.extend(failures.take(label(def, &name), outcome));
        }
        if self.dry_run {
            app.say("dry run: nothing was changed");
        }
        let waits = !self.wait.no_wait && !self.dry_run;
        let done: Vec<AnyObject> = if waits && !sent.is_empty() {
            let limit = self.wait.limit(action.usual + longest_grace(&sent));
            let wait = Wait { app, def, goal: action.goal, limit, beside: None };
            let outcomes = wait.all(sent).await;
            outcomes.into_iter().filter_map(|outcome| failures.take(def.kind, outcome)).collect()
        } else {
            sent
        };
        if !app.output.is_table() {
            for object in &done {
                create::print(app, def, object).await?;
            }
        } else if !waits && !self.dry_run {
            for object in &done {
                app.say(format_args!("{}: {} taken on", label(def, &object.meta.name), action.name));
            }
        }
        failures.end()
    }
}

pub async fn send(
    app: &App,
    def: &'static KindDef,
    name: &str,
    action: &str,
    dry_run: bool,
) -> Result<AnyObject, Failure> {
    send_with(app, (def, name), (action, json!({})), dry_run).await
}

/// As [`send`], with what the action is to know.
pub async fn send_with(
    app: &App,
    (def, name): (&'static KindDef, &str),
    (action, options): (&str, Value),
    dry_run: bool,
) -> Result<AnyObject, Failure> {
    let name = target::name_of(app, def, name).await?;
    let body = app
        .client
        .kind(def)
        .act(&name, action, &options, &app.write(dry_run))
        .await
        .map_err(|e| not_found_hint(e, def))?;
    serde_json::from_slice(&body).map_err(|e| undecodable(&e))
}

/// What a guest is given to power off comes on top of the usual wait.
pub fn longest_grace(objects: &[AnyObject]) -> Duration {
    let grace = |o: &AnyObject| o.spec["grace"].as_str()?.parse::<agentd_api::Span>().ok();
    objects.iter().filter_map(grace).map(agentd_api::Span::duration).max().unwrap_or_default()
}
