//! The flags of a VM's spec, and the draft that they make. What the daemon checks is not checked here: it names the
//! field, and it is right also for clients other than this.

use std::path::{Path, PathBuf};

use agentd_api::vm::USER_DATA_MAX;
use agentd_api::{LabelKey, LabelValue, PortMap};
use clap::Args;
use serde_json::{Map, Value, json};

use crate::failure::{Exit, Failure};

#[derive(Debug, Args)]
pub struct SpecArgs {
    /// The image its disk starts as; one that has a recipe is built when it is not there
    #[arg(long, value_name = "IMAGE")]
    pub image: String,
    /// How many CPUs it has [default: 1]
    #[arg(long, value_name = "N")]
    pub cpus: Option<u32>,
    /// How much memory it has, as in 1GiB [default: 512MiB]
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<String>,
    /// The size of its disk [default: the image's own]
    #[arg(long, value_name = "SIZE")]
    pub disk: Option<String>,
    /// A network that it is on, with an address of its own choice if wanted [default: default]
    #[arg(long = "network", value_name = "NET[,ip=A][,mac=M]", value_parser = network)]
    pub networks: Vec<Nic>,
    /// A public key for its user: a .pub file, or the name of an ssh-key
    #[arg(long = "ssh-key", value_name = "FILE|NAME")]
    pub ssh_keys: Vec<String>,
    /// cloud-init user-data; - reads it from stdin
    #[arg(long, value_name = "FILE")]
    pub user_data: Option<PathBuf>,
    /// A port of the host that leads to a port of the guest
    #[arg(long, value_name = "[ADDR:]HOST:GUEST[/udp]")]
    pub publish: Vec<PortMap>,
    /// A label
    #[arg(long = "label", value_name = "K=V", value_parser = label)]
    pub labels: Vec<(LabelKey, LabelValue)>,
    /// What happens when its guest ends by itself [default: never]
    #[arg(long, value_name = "POLICY", value_parser = ["never", "on-failure", "always"])]
    pub restart: Option<String>,
    /// How long its guest has to power off before it is forced off [default: 30s]
    #[arg(long, value_name = "DURATION")]
    pub grace: Option<String>,
    /// Delete it once it has stopped
    #[arg(long)]
    pub rm: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nic(Map<String, Value>);

fn network(text: &str) -> Result<Nic, String> {
    let mut parts = text.split(',');
    let mut nic = Map::new();
    nic.insert("network".to_owned(), json!(parts.next().unwrap_or_default()));
    for part in parts {
        match part.split_once('=') {
            Some((key @ ("ip" | "mac"), value)) => {
                if nic.insert(key.to_owned(), json!(value)).is_some() {
                    return Err(format!("{key} is given twice"));
                }
            }
            _ => return Err(format!("'{part}' is neither ip=ADDRESS nor mac=ADDRESS")),
        }
    }
    Ok(Nic(nic))
}

fn label(text: &str) -> Result<(LabelKey, LabelValue), String> {
    let (key, value) = text.split_once('=').ok_or("write it as KEY=VALUE")?;
    let key = LabelKey::parse(key).map_err(|e| format!("the key {e}"))?;
    Ok((key, LabelValue::parse(value).map_err(|e| format!("the value {e}"))?))
}

impl SpecArgs {
    /// `ssh_keys` are names of objects. `running` says whether it is to be started.
    pub fn draft(&self, name: &str, ssh_keys: &[String], running: bool) -> Result<Value, Failure> {
        let mut spec = Map::new();
        let mut put = |field: &str, value: Value| spec.insert(field.to_owned(), value);
        put("image", json!(self.image));
        put("desired", json!(if running { "running" } else { "stopped" }));
        if let Some(cpus) = self.cpus {
            put("cpus", json!(cpus));
        }
        for (field, text) in [("memory", &self.memory), ("disk", &self.disk), ("grace", &self.grace)] {
            if let Some(text) = text {
                put(field, json!(text));
            }
        }
        if let Some(restart) = &self.restart {
            put("restart", json!(restart));
        }
        if !self.networks.is_empty() {
            let nics: Vec<&Map<String, Value>> = self.networks.iter().map(|nic| &nic.0).collect();
            put("networks", json!(nics));
        }
        if !self.publish.is_empty() {
            put("publish", json!(self.publish));
        }
        if !ssh_keys.is_empty() {
            put("ssh_keys", json!(ssh_keys));
        }
        if let Some(path) = &self.user_data {
            put("user_data", json!(user_data(path)?));
        }
        if self.rm {
            put("remove_when_stopped", json!(true));
        }
        let labels: Map<String, Value> =
            self.labels.iter().map(|(key, value)| (key.to_string(), json!(value))).collect();
        Ok(json!({"name": name, "labels": labels, "spec": spec}))
    }
}

fn user_data(path: &Path) -> Result<String, Failure> {
    let data = read_bounded(path, USER_DATA_MAX)
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot read {}: {error}", path.display())))?
        // Checked here too, because the whole request would be too large before the daemon saw the field.
        .ok_or_else(|| {
            let text =
                format!("{} is longer than the {USER_DATA_MAX} bytes that are allowed", path.display());
            Failure::field("spec.user_data", text)
        })?;
    String::from_utf8(data)
        .map_err(|_| Failure::field("spec.user_data", format!("{} is not UTF-8 text", path.display())))
}

/// A file's content, or nothing where it is longer than `limit`. `-` is stdin.
pub fn read_bounded(path: &Path, limit: usize) -> std::io::Result<Option<Vec<u8>>> {
    use std::io::Read;
    let mut data = Vec::new();
    let bound = limit as u64 + 1;
    if path.as_os_str() == "-" {
        std::io::stdin().lock().take(bound).read_to_end(&mut data)?;
    } else {
        std::fs::File::open(path)?.take(bound).read_to_end(&mut data)?;
    }
    Ok((data.len() <= limit).then_some(data))
}

#[cfg(test)]
mod tests {
    use super::*;
    use agentd_api::vm::Vm;
    use agentd_api::{Kind, registry};

    #[test]
    fn networks_and_labels_are_read() {
        let nic = network("default,ip=10.77.0.9").map(|nic| Value::Object(nic.0));
        assert_eq!(nic, Ok(json!({"network": "default", "ip": "10.77.0.9"})));
        assert!(network("default,10.77.0.9").is_err());
        assert!(network("default,ip=a,ip=b").is_err());
        assert!(label("app=web").is_ok());
        assert!(label("app=").is_ok());
        for bad in ["app", "=web", "a b=c", "app=a=b"] {
            assert!(label(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_draft_is_what_the_contract_takes() {
        let args = SpecArgs {
            image: "micro".into(),
            cpus: Some(2),
            memory: Some("1GiB".into()),
            disk: Some("2GiB".into()),
            networks: vec![network("default,ip=10.77.0.9,mac=52:54:00:00:00:01").expect("a network")],
            ssh_keys: Vec::new(),
            user_data: None,
            publish: vec!["127.0.0.1:8080:80".parse().expect("a port")],
            labels: vec![label("app=web").expect("a label")],
            restart: Some("on-failure".into()),
            grace: Some("5s".into()),
            rm: true,
        };
        let draft = args.draft("web", &["me".to_owned()], false).map_err(|f| f.text()).expect("a draft");
        let parsed = registry::parse_spec::<Vm>(&draft["spec"]).expect("a spec that the daemon takes");
        assert_eq!(serde_json::to_value(parsed).expect("json"), draft["spec"], "nothing was lost or added");
        assert_eq!(draft["labels"], json!({"app": "web"}));
        assert_eq!(Vm::DEF.kind, "vm");
    }

    #[test]
    fn long_user_data_is_refused_by_its_field() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), vec![b'a'; USER_DATA_MAX]).expect("written");
        assert!(user_data(file.path()).is_ok());
        std::fs::write(file.path(), vec![b'a'; 1 << 20]).expect("written");
        let failure = user_data(file.path()).expect_err("refused");
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.text().contains("spec.user_data"), "{}", failure.text());
    }
}
