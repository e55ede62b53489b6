//! `agentctl adopt`: containers that somebody else made become objects, as they are and while they run.

use std::time::Duration;

use agentd_api::container::{AdoptWish, Container};
use agentd_api::nic::NicSpec;
use agentd_api::{Kind, KindDef, ObjectName};
use agentd_client::AnyObject;
use clap::Args;
use serde_json::json;

use crate::app::App;
use crate::failure::{Exit, Failure, Failures};
use crate::noun::container::FOREIGN;
use crate::noun::vm::{Nic, nic};
use crate::output::{self, undecodable};
use crate::target::label;
use crate::verb::create::{self, Until};
use crate::wait::WaitArgs;
use crate::wait::goal::Goal;

const DEF: &KindDef = Container::DEF;
const USUAL: Duration = Duration::from_secs(120);

#[derive(Debug, Args)]
pub struct Adopt {
    /// Containers of the engine's, by name or by the engine's id: container/web, web
    #[arg(value_name = "[container/]NAME", required = true)]
    what: Vec<String>,
    /// What it is called from now on [default: as the engine calls it]
    #[arg(long, value_name = "NEW")]
    name: Option<ObjectName>,
    /// A network for it, in place of the engine's own [default: default]
    #[arg(long = "network", value_name = "NET[,ip=A][,mac=M]", value_parser = nic)]
    networks: Vec<Nic>,
    /// Also where it is privileged: as good as root of the host
    #[arg(long)]
    privileged: bool,
    /// Check everything, change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    wait: WaitArgs,
}

impl Adopt {
    pub async fn run(self, app: &App) -> Result<(), Failure> {
        if self.name.is_some() && self.what.len() > 1 {
            return Err(Failure::new(Exit::Usage, "several containers cannot have one --name"));
        }
        let mut failures = Failures::default();
        for what in &self.what {
            let outcome = self.adopt(app, what).await;
            failures.take(label(DEF, bare(what)?), outcome);
        }
        failures.end()
    }

    async fn adopt(&self, app: &App, what: &str) -> Result<(), Failure> {
        let networks =
            (!self.networks.is_empty()).then(|| self.networks.iter().map(|nic| json!(nic.fields())));
        let networks =
            networks.map(|all| all.map(serde_json::from_value::<NicSpec>).collect::<Result<_, _>>());
        let wish = AdoptWish {
            container: bare(what)?.to_owned(),
            name: self.name.clone(),
            networks: networks.transpose().map_err(|error| Failure::new(Exit::Usage, error.to_string()))?,
            privileged: self.privileged,
        };
        let body = app.client.adopt(&wish, &app.write(self.dry_run)).await?;
        if self.dry_run {
            output::print_objects(DEF, &[body], app.output)?;
            app.say("dry run: nothing was changed");
            return Ok(());
        }
        let object: AnyObject = serde_json::from_slice(&body).map_err(|error| undecodable(&error))?;
        let goal = match object.spec["desired"].as_str() {
            Some("stopped") => Goal::Stopped,
            Some("paused") => Goal::Paused,
            _ => Goal::Running,
        };
        create::finish(app, DEF, object, Until { goal, wait: &self.wait, usual: USUAL, beside: None }).await
    }
}

/// Without the kind, which is the only one that can be adopted.
fn bare(what: &str) -> Result<&str, Failure> {
    match what.split_once('/') {
        None => Ok(what),
        Some((kind, name)) if !name.is_empty() && [DEF.kind, DEF.plural, FOREIGN].contains(&kind) => Ok(name),
        Some((kind, _)) => {
            Err(Failure::new(Exit::Usage, format!("only containers can be adopted, and '{kind}' are none"))
                .hint("agentctl adopt container/NAME"))
        }
    }
}
