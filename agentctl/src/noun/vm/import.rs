//! `vm import`: a VM out of an archive that `vm export` made, on this host or another.

use std::path::{Path, PathBuf};
use std::time::Duration;

use agentd_api::{KindDef, Progress};
use agentd_client::{AnyObject, Archive};
use clap::Args;
use serde_json::{Map, Value, json};
use tokio::fs::File;

use crate::app::App;
use crate::failure::{Exit, Failure};
use crate::noun::ssh_key;
use crate::noun::vm::spec::{Nic, nic};
use crate::output::{self, undecodable};
use crate::verb::create::{self, Until};
use crate::wait::WaitArgs;
use crate::wait::goal::Goal;
use crate::wait::progress::Display;

const DEF: &KindDef = super::DEF;
const USUAL: Duration = Duration::from_secs(600);

#[derive(Debug, Args)]
pub struct Import {
    /// The archive
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// What the VM is called here [default: as in the archive]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// A network that it is on here, in place of those of the archive
    #[arg(long = "network", value_name = "NET[,ip=A][,mac=M][,in=RATE][,out=RATE]", value_parser = nic)]
    networks: Vec<Nic>,
    /// A key for it, in place of those of the archive: a name, or a file that becomes one
    #[arg(long = "ssh-key", value_name = "FILE|NAME", conflicts_with = "no_ssh_keys")]
    ssh_keys: Vec<String>,
    /// Leave out the keys that the archive names
    #[arg(long)]
    no_ssh_keys: bool,
    /// Leave out the flavor that the archive names; its size stays
    #[arg(long)]
    no_flavor: bool,
    /// Leave out the ports that the archive publishes
    #[arg(long)]
    no_publish: bool,
    /// Leave it off, though it ran where it came from
    #[arg(long)]
    no_start: bool,
    /// Check the whole archive, change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    wait: WaitArgs,
}

impl Import {
    pub async fn run(self, app: &App) -> Result<(), Failure> {
        let file = File::open(&self.file).await.map_err(|error| unreadable(&self.file, &error))?;
        let length = file.metadata().await.map_err(|error| unreadable(&self.file, &error))?.len();
        let mut keys = Vec::new();
        for key in &self.ssh_keys {
            keys.extend(ssh_key::ensure(app, key, self.dry_run).await?);
        }
        let about = self.file.display().to_string();
        let (mut display, shown) = (Display::new(), about.clone());
        let progress = move |done| {
            let step = "sending".to_owned();
            display.work(&shown, &Progress::of_bytes(step, done, Some(length)));
        };
        let archive = Archive {
            project: app.project.clone(),
            name: self.name.clone(),
            spec: self.change(&keys).map(|spec| spec.to_string()),
            dry_run: self.dry_run,
            content: file,
            length,
            progress,
        };
        // Dropping it on Ctrl-C closes the connection, which the daemon takes as its end.
        let sent = tokio::select! {
            sent = app.client.import(archive) => sent,
            _ = tokio::signal::ctrl_c() => {
                return Err(Failure::new(Exit::Interrupted, "interrupted; nothing was made").about(about));
            }
        };
        let body = sent.map_err(|error| Failure::from(error).about(about))?;
        if self.dry_run {
            output::print_objects(DEF, &[body], app.output)?;
            app.say("dry run: nothing was changed");
            return Ok(());
        }
        let object: AnyObject = serde_json::from_slice(&body).map_err(|error| undecodable(&error))?;
        let goal = if object.spec["desired"] == "stopped" { Goal::Stopped } else { Goal::Running };
        create::finish(app, DEF, object, Until { goal, wait: &self.wait, usual: USUAL, beside: None }).await
    }

    /// What is to be otherwise than the archive says.
    fn change(&self, keys: &[String]) -> Option<Value> {
        let mut spec = Map::new();
        if !self.networks.is_empty() {
            spec.insert("networks".to_owned(), self.networks.iter().map(|nic| json!(nic.fields())).collect());
        }
        if self.no_ssh_keys || !keys.is_empty() {
            spec.insert("ssh_keys".to_owned(), json!(keys));
        }
        for (left_out, field) in [(self.no_flavor, "flavor"), (self.no_publish, "publish")] {
            if left_out {
                spec.insert(field.to_owned(), Value::Null);
            }
        }
        if self.no_start {
            spec.insert("desired".to_owned(), json!("stopped"));
        }
        (!spec.is_empty()).then_some(Value::Object(spec))
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("cannot read {}: {error}", path.display()))
}
