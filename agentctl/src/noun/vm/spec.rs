//! The flags of a VM's spec, and the draft that they make: one file a group. What the daemon checks is not checked here:
//! it names the field, and it is right also for clients other than this.

mod cloud_init;
mod disks;
mod firmware;
mod network;
mod policy;
mod size;
mod tuning;

use agentd_api::{LabelKey, LabelValue};
use clap::Args;
use serde_json::{Map, Value, json};

use crate::failure::Failure;
pub use cloud_init::{CloudInitArgs, read_bounded};
pub use disks::{Attached, DiskArgs};
pub use firmware::FirmwareArgs;
pub use network::{NetworkArgs, Nic, network as nic};
pub use policy::{Expiry, PolicyArgs, autostart, expiry};
pub use size::SizeArgs;
pub use tuning::{Limits, TuningArgs, disk_limits, nic_limits};

#[derive(Debug, Args)]
pub struct SpecArgs {
    /// The image its disk starts as; one that has a recipe is built when it is not there
    #[arg(long, value_name = "IMAGE")]
    pub image: String,
    #[command(flatten)]
    pub size: SizeArgs,
    /// Give it a screen, for vnc and screenshot
    #[arg(long)]
    pub graphics: bool,
    #[command(flatten)]
    pub firmware: FirmwareArgs,
    #[command(flatten)]
    pub disks: DiskArgs,
    #[command(flatten)]
    pub network: NetworkArgs,
    #[command(flatten)]
    pub cloud_init: CloudInitArgs,
    /// A label
    #[arg(long = "label", value_name = "K=V", value_parser = label)]
    pub labels: Vec<(LabelKey, LabelValue)>,
    #[command(flatten)]
    pub policy: PolicyArgs,
    /// Delete it once it has stopped
    #[arg(long)]
    pub rm: bool,
    #[command(flatten)]
    pub tuning: TuningArgs,
}

/// Sets a field that was given.
pub fn put(spec: &mut Map<String, Value>, field: &str, value: Option<impl serde::Serialize>) {
    if let Some(value) = value {
        spec.insert(field.to_owned(), json!(value));
    }
}

/// Sets a field that has fields of its own, where one of them was given.
fn sub(spec: &mut Map<String, Value>, field: &str, value: Map<String, Value>) {
    if !value.is_empty() {
        spec.insert(field.to_owned(), Value::Object(value));
    }
}

pub fn label(text: &str) -> Result<(LabelKey, LabelValue), String> {
    let (key, value) = text.split_once('=').ok_or("write it as KEY=VALUE")?;
    let key = LabelKey::parse(key).map_err(|e| format!("the key {e}"))?;
    Ok((key, LabelValue::parse(value).map_err(|e| format!("the value {e}"))?))
}

/// A draft of that spec, without what is to be as it is anyhow.
pub fn drafted(name: &str, labels: &[(LabelKey, LabelValue)], mut spec: Map<String, Value>) -> Value {
    spec.retain(|_, value| !value.is_null());
    let labels: Map<String, Value> =
        labels.iter().map(|(key, value)| (key.to_string(), json!(value))).collect();
    json!({"name": name, "labels": labels, "spec": spec})
}

impl SpecArgs {
    /// `ssh_keys` are names of objects. `running` says whether it is to be started.
    pub fn draft(&self, name: &str, ssh_keys: &[String], running: bool) -> Result<Value, Failure> {
        let mut spec = Map::new();
        spec.insert("image".to_owned(), json!(self.image));
        spec.insert("desired".to_owned(), json!(if running { "running" } else { "stopped" }));
        self.size.fill(&mut spec);
        if self.graphics {
            spec.insert("graphics".to_owned(), json!(true));
        }
        self.firmware.fill(&mut spec);
        self.disks.fill(&mut spec);
        self.network.fill(&mut spec);
        self.cloud_init.fill(ssh_keys, &mut spec)?;
        self.policy.fill(&mut spec);
        self.tuning.fill(&mut spec);
        if self.rm {
            spec.insert("remove_when_stopped".to_owned(), json!(true));
        }
        Ok(drafted(name, &self.labels, spec))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use agentd_api::vm::Vm;
    use agentd_api::{Kind, registry};
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        spec: SpecArgs,
    }

    /// The flags of a line, and the draft that they make.
    fn draft(line: &str) -> Value {
        let words = std::iter::once("run").chain(line.split_whitespace());
        let line = Line::try_parse_from(words).unwrap_or_else(|e| panic!("{e}"));
        line.spec.draft("web", &["me".to_owned()], false).map_err(|f| f.text()).expect("a draft")
    }

    #[test]
    fn limits_and_an_expiry_are_what_the_contract_takes() {
        let draft = draft(
            "--image micro --disk-limit read=10MiB,read-iops=5 --network default,in=1MiB --expire 2h --watchdog off \
             --autostart=false",
        );
        let parsed = registry::parse_spec::<Vm>(&draft["spec"]).expect("a spec that the daemon takes");
        assert_eq!(parsed.disk_limits.read_iops, Some(5));
        assert!(parsed.networks[0].limits.inbound.is_some() && parsed.expiry().is_some());
        assert!(parsed.watchdog.is_none() && !parsed.autostart.enabled);
    }

    #[test]
    fn labels_are_read() {
        assert!(label("app=web").is_ok());
        assert!(label("app=").is_ok());
        for bad in ["app", "=web", "a b=c", "app=a=b"] {
            assert!(label(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_draft_is_what_the_contract_takes() {
        let draft = draft(
            "--image micro --cpus 2 --cpus-max 4 --memory 1GiB --memory-max 2GiB --disk 2GiB \
             --network default,ip=10.77.0.9,mac=52:54:00:00:00:01 --publish 127.0.0.1:8080:80 --label app=web --restart on-failure --grace 5s --rm \
             --autostart=true --autostart-order 3 --autostart-delay 5s --cpu-pinning 0 --cpu-pinning 0-1 --cpu-shares 200 --huge-pages \
             --nested --watchdog reset --firmware uefi-secure --tpm",
        );
        let parsed = registry::parse_spec::<Vm>(&draft["spec"]).expect("a spec that the daemon takes");
        assert_eq!(serde_json::to_value(parsed).expect("json"), draft["spec"], "nothing was lost or added");
        assert_eq!(draft["labels"], json!({"app": "web"}));
        assert_eq!(Vm::DEF.kind, "vm");
    }
}
