//! `vm set`: changes the policies and limits of VMs. What can be changed while the guest runs is; what cannot waits for its
//! restart, and the VM says so.

use agentd_client::AnyObject;
use clap::Args;
use serde_json::{Map, Value, json};

use crate::app::App;
use crate::failure::{Exit, Failure, Failures};
use crate::noun::vm::spec::{FirmwareArgs, PolicyArgs, TuningArgs};
use crate::output::undecodable;
use crate::target::{self, Which, label, not_found_hint};
use crate::verb::change::ChangeArgs;
use crate::verb::create;

const DEF: &agentd_api::KindDef = super::DEF;

#[derive(Debug, Args)]
pub struct Set {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    policy: PolicyArgs,
    #[command(flatten)]
    tuning: TuningArgs,
    #[command(flatten)]
    firmware: FirmwareArgs,
    /// What one of its interfaces may carry in a second; none is no limit
    #[arg(long = "network-limit", value_name = "NET,in=RATE,out=RATE|NET,none", value_parser = network_limit)]
    networks: Vec<NetworkLimit>,
    #[command(flatten)]
    change: ChangeArgs,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct NetworkLimit {
    network: String,
    limits: Map<String, Value>,
}

fn network_limit(text: &str) -> Result<NetworkLimit, String> {
    let mut parts = text.split(',');
    let network = parts.next().unwrap_or_default().to_owned();
    let mut limits = Map::new();
    let mut any = false;
    for part in parts {
        any = true;
        match part.split_once('=') {
            Some(("in", rate)) => drop(limits.insert("inbound".to_owned(), json!(rate))),
            Some(("out", rate)) => drop(limits.insert("outbound".to_owned(), json!(rate))),
            None if part == "none" => limits.clear(),
            _ => return Err(format!("'{part}' is none of in=RATE, out=RATE, none")),
        }
    }
    if any { Ok(NetworkLimit { network, limits }) } else { Err("give in=RATE, out=RATE or none".to_owned()) }
}

impl Set {
    pub async fn run(self, app: &App) -> Result<(), Failure> {
        let mut change = Map::new();
        self.policy.fill(&mut change);
        self.tuning.fill(&mut change);
        self.firmware.fill(&mut change);
        if change.is_empty() && self.networks.is_empty() {
            return Err(Failure::new(Exit::Usage, "nothing to set was given")
                .hint("`agentctl vm set --help` shows what can be"));
        }
        let mut failures = Failures::default();
        for name in self.which.names(app, DEF).await? {
            let outcome = self.set(app, &name, change.clone()).await;
            let Some(object) = failures.take(label(DEF, &name), outcome) else { continue };
            if app.output.is_table() {
                let done = if self.change.dry_run { "would be changed" } else { "changed" };
                app.say(format_args!("{}: {done}", label(DEF, &object.meta.name)));
            } else {
                create::print(app, DEF, &object).await?;
            }
        }
        failures.end()
    }

    async fn set(&self, app: &App, name: &str, mut change: Map<String, Value>) -> Result<AnyObject, Failure> {
        let name = target::name_of(app, DEF, name).await?;
        if !self.networks.is_empty() {
            let is = target::find(app, DEF, &name).await?;
            change.insert("networks".to_owned(), limited(&is.spec["networks"], &self.networks)?);
        }
        let patch = json!({"spec": change});
        let body = app.client.kind(DEF).patch(&name, &patch, &app.write(self.change.dry_run)).await;
        let body = body.map_err(|e| not_found_hint(e, DEF))?;
        let object = serde_json::from_slice(&body).map_err(|e| undecodable(&e))?;
        self.change.settle(app, DEF, object).await
    }
}

/// The interfaces with these limits. A merge patch replaces a list as a whole.
fn limited(is: &Value, wanted: &[NetworkLimit]) -> Result<Value, Failure> {
    let mut nics = is.as_array().cloned().unwrap_or_default();
    for NetworkLimit { network, limits } in wanted {
        let mut found = false;
        for nic in nics.iter_mut().filter(|nic| nic["network"] == json!(network)) {
            nic["limits"] = json!(limits);
            found = true;
        }
        if !found {
            return Err(Failure::field("spec.networks", format!("it is on no network '{network}'")));
        }
    }
    Ok(json!(nics))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_networks_are_read_and_put_in_their_place() {
        let limit = network_limit("lan,in=1MiB").expect("a limit");
        let is = json!([{"network": "default", "ip": "10.77.0.2"}, {"network": "lan"}]);
        let then = limited(&is, &[limit]).map_err(|f| f.text()).expect("interfaces");
        assert_eq!(then[0], is[0]);
        assert_eq!(then[1], json!({"network": "lan", "limits": {"inbound": "1MiB"}}));
        assert_eq!(network_limit("lan,none").expect("a limit").limits, Map::new());
        assert!(limited(&is, &[network_limit("dmz,none").expect("a limit")]).is_err());
        for bad in ["lan", "lan,1MiB", "lan,up=1MiB"] {
            assert!(network_limit(bad).is_err(), "{bad}");
        }
    }
}
