//! Where a VM is on the network, and what of it can be reached from outside.

use agentd_api::PortMap;
use clap::Args;
use serde_json::{Map, Value, json};

#[derive(Debug, Default, Args)]
pub struct NetworkArgs {
    /// A network that it is on, with an address of its own choice if wanted, and what it may carry in a second, as
    /// in in=10MiB [default: default]
    #[arg(long = "network", value_name = "NET[,ip=A][,mac=M][,in=RATE][,out=RATE]", value_parser = network)]
    pub networks: Vec<Nic>,
    /// A port of the host that leads to a port of the guest
    #[arg(long, value_name = "[ADDR:]HOST:GUEST[/udp]")]
    pub publish: Vec<PortMap>,
}

impl NetworkArgs {
    pub fn fill(&self, spec: &mut Map<String, Value>) {
        if !self.networks.is_empty() {
            let nics: Vec<&Map<String, Value>> = self.networks.iter().map(|nic| &nic.0).collect();
            spec.insert("networks".to_owned(), json!(nics));
        }
        if !self.publish.is_empty() {
            spec.insert("publish".to_owned(), json!(self.publish));
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nic(Map<String, Value>);

impl Nic {
    pub fn fields(&self) -> &Map<String, Value> {
        &self.0
    }
}

pub fn network(text: &str) -> Result<Nic, String> {
    let mut parts = text.split(',');
    let mut nic = Map::new();
    nic.insert("network".to_owned(), json!(parts.next().unwrap_or_default()));
    for part in parts {
        match part.split_once('=') {
            Some((key @ ("in" | "out"), value)) => {
                let field = if key == "in" { "inbound" } else { "outbound" };
                let limits = nic.entry("limits").or_insert_with(|| json!({}));
                if std::mem::replace(&mut limits[field], json!(value)) != Value::Null {
                    return Err(format!("{key} is given twice"));
                }
            }
            Some((key @ ("ip" | "mac"), value)) => {
                if nic.insert(key.to_owned(), json!(value)).is_some() {
                    return Err(format!("{key} is given twice"));
                }
            }
            _ => return Err(format!("'{part}' is none of ip=ADDRESS, mac=ADDRESS, in=RATE, out=RATE")),
        }
    }
    Ok(Nic(nic))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_read() {
        let nic = network("default,ip=10.77.0.9").map(|nic| Value::Object(nic.0));
        assert_eq!(nic, Ok(json!({"network": "default", "ip": "10.77.0.9"})));
        let nic = network("default,in=1MiB,out=2MiB").map(|nic| Value::Object(nic.0));
        assert_eq!(nic, Ok(json!({"network": "default", "limits": {"inbound": "1MiB", "outbound": "2MiB"}})));
        assert!(network("default,in=1MiB,in=2MiB").is_err());
        assert!(network("default,10.77.0.9").is_err());
        assert!(network("default,ip=a,ip=b").is_err());
    }
}
