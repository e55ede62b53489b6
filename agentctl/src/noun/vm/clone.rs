//! `vm clone`: a new VM whose disks are those of another one. What is not said here is as in that one's spec.

use std::time::Duration;

use agentd_api::{KindDef, LabelKey, LabelValue};
use clap::Args;
use serde_json::{Map, Value, json};

use crate::app::App;
use crate::failure::Failure;
use crate::noun::vm::spec::{Nic, label, nic};
use crate::target;
use crate::verb::create::{self, Create, Until};
use crate::wait::WaitArgs;
use crate::wait::goal::Goal;

const DEF: &KindDef = super::DEF;
/// Enough for large disks to be copied.
const USUAL: Duration = Duration::from_secs(3600);

#[derive(Debug, Args)]
pub struct Clone {
    /// The VM whose disks are taken; it may run, and goes on
    #[arg(value_name = "SOURCE")]
    source: String,
    /// The new VM's name; also its host name
    #[arg(value_name = "NAME")]
    name: String,
    /// Take its disks as they were at this snapshot of it, and not as they are now
    #[arg(long, value_name = "SNAPSHOT")]
    snapshot: Option<String>,
    /// Copy all of the disks, so that the new VM's stand on nothing
    #[arg(long)]
    full: bool,
    /// Leave the new VM off
    #[arg(long)]
    no_start: bool,
    /// How many CPUs it has [default: as the source]
    #[arg(long, value_name = "N")]
    cpus: Option<u32>,
    /// How much memory it has, as in 1GiB [default: as the source]
    #[arg(long, value_name = "SIZE")]
    memory: Option<String>,
    /// A network that it is on [default: those of the source, with new addresses]
    #[arg(long = "network", value_name = "NET[,ip=A][,mac=M][,in=RATE][,out=RATE]", value_parser = nic)]
    networks: Vec<Nic>,
    /// A label
    #[arg(long = "label", value_name = "K=V", value_parser = label)]
    labels: Vec<(LabelKey, LabelValue)>,
    /// Check everything, change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    wait: WaitArgs,
}

impl Clone {
    pub async fn run(self, app: &App) -> Result<(), Failure> {
        let source = target::find(app, DEF, &self.source).await?;
        let draft = self.draft(source.meta.name.as_str(), &source.spec["image"]);
        let create = Create { def: DEF, name: &self.name, draft, dry_run: self.dry_run };
        let Some(object) = create.send(app).await? else { return Ok(()) };
        let goal = if self.no_start { Goal::Stopped } else { Goal::Running };
        create::finish(app, DEF, object, Until { goal, wait: &self.wait, usual: USUAL, beside: None }).await
    }

    fn draft(&self, source: &str, image: &Value) -> Value {
        let mut from = json!({"vm": source});
        if let Some(snapshot) = &self.snapshot {
            from["snapshot"] = json!(snapshot);
        }
        if self.full {
            from["mode"] = json!("full");
        }
        let desired = if self.no_start { "stopped" } else { "running" };
        let mut spec = json!({"image": image, "source": from, "desired": desired});
        if let Some(cpus) = self.cpus {
            spec["cpus"] = json!(cpus);
        }
        if let Some(memory) = &self.memory {
            spec["memory"] = json!(memory);
        }
        if !self.networks.is_empty() {
            spec["networks"] = self.networks.iter().map(|nic| json!(nic.fields())).collect();
        }
        let labels = self.labels.iter().map(|(key, value)| (key.to_string(), json!(value)));
        json!({"name": self.name, "labels": labels.collect::<Map<String, Value>>(), "spec": spec})
    }
}
