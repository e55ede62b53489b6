//! Changing an object's spec: a patch is sent, then waited for until the object is so, as far as it can be at this
//! moment. What waits for a restart is said.

use std::time::Duration;

use agentd_api::{ErrorCode, KindDef};
use agentd_client::AnyObject;
use clap::Args;
use serde_json::{Map, Value, json};

use crate::app::App;
use crate::failure::{Exit, Failure};
use crate::output::{self, undecodable};
use crate::target::{self, label, not_found_hint};
use crate::verb::create;
use crate::wait::goal::Goal;
use crate::wait::{Wait, WaitArgs};

const USUAL: Duration = Duration::from_secs(120);
/// How often a change is made anew because the object changed between reading and writing.
const TRIES: usize = 8;

#[derive(Debug, Args)]
pub struct ChangeArgs {
    /// Check everything, change nothing
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub wait: WaitArgs,
}

impl ChangeArgs {
    /// Sends `fields` of the spec as they are.
    pub async fn set(
        &self,
        app: &App,
        def: &'static KindDef,
        name: &str,
        fields: Map<String, Value>,
    ) -> Result<(), Failure> {
        if fields.is_empty() {
            return Err(
                Failure::new(Exit::Usage, "nothing to change was given").hint("--help shows what can be")
            );
        }
        let name = target::name_of(app, def, name).await?;
        let patch = json!({"spec": fields});
        let sent = app.client.kind(def).patch(&name, &patch, &app.write(self.dry_run)).await;
        let body = sent.map_err(|e| not_found_hint(e, def).about(label(def, &name)))?;
        self.finish(app, def, &body).await
    }

    /// Sends what `change` makes of the object as it is, anew where somebody else changed it meanwhile.
    pub async fn edit(
        &self,
        app: &App,
        def: &'static KindDef,
        name: &str,
        change: impl Fn(&AnyObject) -> Result<Map<String, Value>, Failure>,
    ) -> Result<(), Failure> {
        for last in (0..TRIES).rev() {
            let object = target::find(app, def, name).await?;
            let about = label(def, &object.meta.name);
            let patch = json!({"spec": change(&object).map_err(|f| f.about(about.clone()))?});
            let options = agentd_client::WriteOptions {
                if_match: Some(object.meta.revision),
                ..app.write(self.dry_run)
            };
            match app.client.kind(def).patch(object.meta.name.as_str(), &patch, &options).await {
                Err(error) if error.code() == Some(ErrorCode::RevisionMismatch) && last > 0 => {}
                Err(error) => return Err(Failure::from(error).about(about)),
                Ok(body) => return self.finish(app, def, &body).await,
            }
        }
        Ok(())
    }

    async fn finish(&self, app: &App, def: &'static KindDef, body: &bytes::Bytes) -> Result<(), Failure> {
        if self.dry_run {
            output::print_objects(def, std::slice::from_ref(body), app.output)?;
            app.say("dry run: nothing was changed");
            return Ok(());
        }
        let object: AnyObject = serde_json::from_slice(body).map_err(|e| undecodable(&e))?;
        let object = self.settle(app, def, object).await?;
        create::print(app, def, &object).await
    }

    /// The object once it is as its spec says, as far as it can be; at once where nothing was changed or nobody waits.
    pub async fn settle(
        &self,
        app: &App,
        def: &'static KindDef,
        object: AnyObject,
    ) -> Result<AnyObject, Failure> {
        if self.dry_run || self.wait.no_wait {
            return Ok(object);
        }
        let lacked = lacks_limits(&object);
        let wait = Wait { app, def, goal: Goal::Settled, limit: self.wait.limit(USUAL), beside: None };
        let object = wait.one(object).await?;
        say_what_waits(app, def, &object);
        // What it lacked before is not this change's doing.
        match lacks_limits(&object).filter(|why| lacked.as_ref() != Some(why)) {
            Some(why) => Err(Failure::new(Exit::Failed, why).about(label(def, &object.meta.name))),
            None => Ok(object),
        }
    }
}

/// Why it does not have all the limits that its spec asks for, where it does not.
fn lacks_limits(object: &AnyObject) -> Option<String> {
    object.common().condition("limits_applied").filter(|c| !c.status).map(|c| c.reason.clone())
}

fn say_what_waits(app: &App, def: &KindDef, object: &AnyObject) {
    let waits = object.common().condition("pending_restart").filter(|c| c.status).cloned();
    if let Some(condition) = waits {
        let name = &object.meta.name;
        app.say(format_args!("{}: {}", label(def, name), condition.reason));
        app.say(format_args!("hint: agentctl {} restart {name}", def.kind));
    }
}
