//! `rm` and `delete`: marked for deletion one by one, going on past a failure, then waited for until the host is clean.

use std::time::Duration;

use agentd_api::KindDef;
use agentd_client::AnyObject;
use clap::Args;

use crate::app::App;
use crate::failure::{Failure, Failures};
use crate::output::undecodable;
use crate::target::{self, Which, label, not_found_hint};
use crate::verb::create;
use crate::wait::goal::Goal;
use crate::wait::{Wait, WaitArgs};

/// A guest's grace is at most an hour; that much is asked for with --timeout.
const USUAL: Duration = Duration::from_secs(300);

#[derive(Debug, Args)]
pub struct Remove {
    #[command(flatten)]
    pub which: Which,
    /// Check everything, change nothing
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub wait: WaitArgs,
}

impl Remove {
    pub async fn run(self, app: &App, def: &'static KindDef) -> Result<(), Failure> {
        let names = self.which.names(app, def).await?;
        let mut failures = Failures::default();
        remove(app, def, names, (self.dry_run, &self.wait), &mut failures).await?;
        failures.end()
    }
}

pub async fn remove(
    app: &App,
    def: &'static KindDef,
    names: Vec<String>,
    (dry_run, wait): (bool, &WaitArgs),
    failures: &mut Failures,
) -> Result<(), Failure> {
    let mut marked = Vec::new();
    for name in names {
        let outcome = mark(app, def, &name, dry_run).await;
        marked.extend(failures.take(label(def, &name), outcome));
    }
    if dry_run {
        for object in &marked {
            app.say(format_args!("{}: would be deleted", label(def, &object.meta.name)));
        }
        app.say("dry run: nothing was changed");
        return Ok(());
    }
    let gone = if wait.no_wait {
        for object in &marked {
            app.say(format_args!("{}: marked for deletion", label(def, &object.meta.name)));
        }
        marked
    } else if marked.is_empty() {
        marked
    } else {
        let wait = Wait { app, def, goal: Goal::Gone, limit: wait.limit(USUAL), beside: None };
        let outcomes = wait.all(marked).await;
        outcomes.into_iter().filter_map(|outcome| failures.take(def.kind, outcome)).collect()
    };
    if !app.output.is_table() {
        for object in &gone {
            create::print(app, def, object).await?;
        }
    }
    Ok(())
}

async fn mark(app: &App, def: &'static KindDef, name: &str, dry_run: bool) -> Result<AnyObject, Failure> {
    let name = target::name_of(app, def, name).await?;
    let body =
        app.client.kind(def).delete(&name, &app.write(dry_run)).await.map_err(|e| not_found_hint(e, def))?;
    serde_json::from_slice(&body).map_err(|e| undecodable(&e))
}
