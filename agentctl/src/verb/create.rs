//! Creating: the wish is sent, then waited for, then what came of it is printed.

use std::time::Duration;

use agentd_api::KindDef;
use agentd_client::AnyObject;
use bytes::Bytes;
use serde_json::Value;

use crate::app::App;
use crate::failure::Failure;
use crate::output::{self, undecodable};
use crate::target::label;
use crate::wait::goal::Goal;
use crate::wait::{Beside, Wait, WaitArgs};

pub struct Create<'a> {
    pub def: &'static KindDef,
    pub name: &'a str,
    /// `{"name","labels","spec"}`
    pub draft: Value,
    pub dry_run: bool,
}

impl Create<'_> {
    /// Sends it. Nothing where it was a dry run, of which everything is said here.
    pub async fn send(&self, app: &App) -> Result<Option<AnyObject>, Failure> {
        let about = label(self.def, self.name);
        let sent = app.client.kind(self.def).create(&self.draft, &app.write(self.dry_run)).await;
        let body = sent.map_err(|e| Failure::from(e).about(about))?;
        if self.dry_run {
            output::print_objects(self.def, &[body], app.output)?;
            app.say("dry run: nothing was changed");
            return Ok(None);
        }
        serde_json::from_slice(&body).map(Some).map_err(|e| undecodable(&e))
    }
}

/// How a created object is waited for.
pub struct Until<'a> {
    pub goal: Goal,
    pub wait: &'a WaitArgs,
    pub usual: Duration,
    pub beside: Option<Beside>,
}

/// Waits for a created object and prints it as it is then.
pub async fn finish(
    app: &App,
    def: &'static KindDef,
    object: AnyObject,
    until: Until<'_>,
) -> Result<(), Failure> {
    let object = if until.wait.no_wait {
        object
    } else {
        let limit = until.wait.limit(until.usual);
        let wait = Wait { app, def, goal: until.goal, limit, beside: until.beside };
        wait.one(object).await?
    };
    print(app, def, &object).await
}

/// Prints an object as it is now, or as it was where it has gone.
pub async fn print(app: &App, def: &'static KindDef, object: &AnyObject) -> Result<(), Failure> {
    let name = object.meta.name.as_str();
    let body = match app.client.kind(def).get(Some(&app.project), name).await {
        Ok(body) => body,
        Err(error) if error.is_not_found() => {
            Bytes::from(serde_json::to_vec(object).map_err(|e| undecodable(&e))?)
        }
        Err(error) => return Err(error.into()),
    };
    output::print_objects(def, &[body], app.output)
}
