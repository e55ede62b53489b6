//! `rm` and `delete`: marked for deletion one by one, going on past a failure, then waited for until the host is clean.

use std::time::Duration;

use agentd_api::KindDef;
use agentd_client::{AnyObject, WriteOptions};
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
        self.run_with(app, def, false).await
    }

    /// `cascade` takes along what is of the objects alone.
    pub async fn run_with(self, app: &App, def: &'static KindDef, cascade: bool) -> Result<(), Failure> {
        let names = self.which.names(app, def).await?;
        let mut failures = Failures::default();
        let how = How { dry_run: self.dry_run, cascade, wait: &self.wait };
        remove(app, def, names, how, &mut failures).await?;
        failures.end()
    }
}

#[derive(Clone, Copy)]
pub struct How<'a> {
    pub dry_run: bool,
    pub cascade: bool,
    pub wait: &'a WaitArgs,
}

pub async fn remove(
    app: &App,
    def: &'static KindDef,
    names: Vec<String>,
    how: How<'_>,
    failures: &mut Failures,
) -> Result<(), Failure> {
    let How { dry_run, wait, .. } = how;
    let mut marked = Vec::new();
    for name in names {
        let outcome = mark(app, def, &name, how).await;
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

async fn mark(app: &App, def: &'static KindDef, name: &str, how: How<'_>) -> Result<AnyObject, Failure> {
    let name = target::name_of(app, def, name).await?;
    let options = WriteOptions { cascade: how.cascade, ..app.write(how.dry_run) };
    let body = app.client.kind(def).delete(&name, &options).await.map_err(|e| not_found_hint(e, def))?;
    serde_json::from_slice(&body).map_err(|e| undecodable(&e))
}
