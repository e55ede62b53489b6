//! `vm network attach|detach`, `vm publish|unpublish`: a VM's interfaces and published ports, also while it runs.

use agentd_api::PortMap;
use agentd_client::AnyObject;
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::DEF;
use super::spec::Nic;
use crate::app::App;
use crate::failure::{Exit, Failure};
use crate::verb::change::ChangeArgs;

#[derive(Debug, Subcommand)]
pub enum Network {
    /// Plug an interface on a network into a VM
    Attach(Interface),
    /// Unplug an interface; its address is free once the guest has let go of it
    Detach(Interface),
}

#[derive(Debug, Args)]
pub struct Interface {
    /// The VM's name or id
    #[arg(value_name = "VM")]
    name: String,
    /// The network, and the address where it matters which
    #[arg(value_name = "NET[,ip=A][,mac=M]", value_parser = super::spec::nic)]
    nic: Nic,
    #[command(flatten)]
    change: ChangeArgs,
}

impl Network {
    pub async fn run(self, app: &App) -> Result<(), Failure> {
        match self {
            Self::Attach(Interface { name, nic, change }) => {
                change.edit(app, DEF, &name, |vm| Ok(networks(attached(vm, &nic)))).await
            }
            Self::Detach(Interface { name, nic, change }) => {
                change.edit(app, DEF, &name, |vm| detached(vm, &nic).map(networks)).await
            }
        }
    }
}

#[derive(Debug, Args)]
pub struct Publish {
    /// The VM's name or id
    #[arg(value_name = "VM")]
    name: String,
    /// A port of the host that leads to a port of the guest
    #[arg(value_name = "[ADDR:]HOST:GUEST[/udp]", required = true)]
    ports: Vec<PortMap>,
    #[command(flatten)]
    change: ChangeArgs,
}

impl Publish {
    pub async fn publish(self, app: &App) -> Result<(), Failure> {
        let change = |vm: &AnyObject| {
            let mut all = list(&vm.spec["publish"]);
            all.extend(self.ports.iter().map(|port| json!(port)));
            Ok(Map::from_iter([("publish".to_owned(), json!(all))]))
        };
        self.change.edit(app, DEF, &self.name, change).await
    }

    pub async fn unpublish(self, app: &App) -> Result<(), Failure> {
        let change = |vm: &AnyObject| {
            let mut all = list(&vm.spec["publish"]);
            for port in &self.ports {
                let at = all.iter().position(|is| *is == json!(port));
                let missing = || Failure::new(Exit::NotFound, format!("it does not publish {port}"));
                all.remove(at.ok_or_else(missing)?);
            }
            Ok(Map::from_iter([("publish".to_owned(), json!(all))]))
        };
        self.change.edit(app, DEF, &self.name, change).await
    }
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

fn networks(all: Vec<Value>) -> Map<String, Value> {
    Map::from_iter([("networks".to_owned(), json!(all))])
}

fn attached(vm: &AnyObject, nic: &Nic) -> Vec<Value> {
    let mut all = list(&vm.spec["networks"]);
    all.push(json!(nic.fields()));
    all
}

/// Without the interface that `nic` means. Those that stay on the same network are pinned to the MAC addresses that they
/// have: an address that was chosen for one of two alike would otherwise go to the other.
fn detached(vm: &AnyObject, nic: &Nic) -> Result<Vec<Value>, Failure> {
    let mut all = list(&vm.spec["networks"]);
    let has = list(&vm.status["addresses"]);
    let meant = |n: &usize| {
        let says = |key: &str| {
            let wanted = nic.fields().get(key);
            wanted.is_none_or(|wanted| {
                *wanted == all[*n][key] || has.get(*n).is_some_and(|a| *wanted == a[key])
            })
        };
        all[*n]["network"] == nic.fields()["network"] && says("ip") && says("mac")
    };
    let found: Vec<usize> = (0..all.len()).filter(meant).collect();
    let network = nic.fields()["network"].as_str().unwrap_or_default();
    let [at] = found[..] else {
        return Err(if found.is_empty() {
            Failure::new(Exit::NotFound, format!("it has no such interface on '{network}'"))
                .hint(format!("`agentctl vm show {}` shows its networks", vm.meta.name))
        } else {
            let text = format!("it has {} interfaces on '{network}'", found.len());
            Failure::new(Exit::Usage, text).hint("say which, with ,ip=ADDRESS or ,mac=ADDRESS")
        });
    };
    for (n, other) in all.iter_mut().enumerate() {
        if n != at && other["network"] == network && other["mac"].is_null() {
            other["mac"] = has.get(n).map_or(Value::Null, |a| a["mac"].clone());
        }
    }
    all.remove(at);
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vm() -> AnyObject {
        serde_json::from_value(json!({
            "kind": "vm", "project": "default", "name": "web", "id": "01970000-0000-7000-8000-000000000000",
            "revision": 9, "generation": 2, "created_at": "2026-01-02T03:04:05Z",
            "spec": {"networks": [{"network": "a"}, {"network": "b"}, {"network": "b", "ip": "10.0.0.9"}]},
            "status": {"state": "running", "addresses": [
                {"network": "a", "ip": "10.1.0.2", "mac": "52:54:00:00:00:01"},
                {"network": "b", "ip": "10.0.0.2", "mac": "52:54:00:00:00:02"},
                {"network": "b", "ip": "10.0.0.9", "mac": "52:54:00:00:00:03"}]},
        }))
        .expect("a VM")
    }

    #[test]
    fn an_interface_is_meant_by_its_network_and_address() {
        let without = |text: &str| {
            detached(&vm(), &super::super::spec::nic(text).expect("a network"))
                .map_err(|failure| failure.exit)
        };
        assert_eq!(without("a").expect("one").len(), 2);
        let left = json!([{"network": "a"}, {"network": "b", "ip": "10.0.0.9", "mac": "52:54:00:00:00:03"}]);
        for text in ["b,ip=10.0.0.2", "b,mac=52:54:00:00:00:02"] {
            assert_eq!(json!(without(text).expect("one")), left, "{text}");
        }
        assert_eq!(without("b"), Err(Exit::Usage));
        assert_eq!(without("c"), Err(Exit::NotFound));
        assert_eq!(without("a,ip=10.0.0.2"), Err(Exit::NotFound));
        let more = attached(&vm(), &super::super::spec::nic("c,ip=10.3.0.3").expect("a network"));
        assert_eq!(more[3], json!({"network": "c", "ip": "10.3.0.3"}));
    }
}
