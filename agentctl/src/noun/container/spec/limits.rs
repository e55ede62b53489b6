//! How much of the host it may use: what can be changed while it runs, and what cannot.

use agentd_api::container::Cpus;
use clap::Args;
use serde_json::{Map, Value, json};

use crate::noun::vm::{Limits, disk_limits, put};

#[derive(Debug, Default, Args)]
pub struct LimitArgs {
    #[command(flatten)]
    live: LiveLimitArgs,
    /// The size of its /dev/shm [default: 64MiB]
    #[arg(long, value_name = "SIZE")]
    shm: Option<String>,
    /// What each of its processes may have of a resource, as in nofile=1024:4096; -1 is no limit
    #[arg(long = "ulimit", value_name = "NAME=SOFT[:HARD]", value_parser = ulimit)]
    ulimits: Vec<(String, Value)>,
    /// What it may do on its disk in a second: read=10MiB,write=5MiB,read-iops=500,write-iops=500
    #[arg(long, value_name = "LIMITS", value_parser = disk_limits)]
    disk_limit: Option<Limits>,
}

#[derive(Debug, Default, Args)]
pub struct LiveLimitArgs {
    /// How many of the host's CPUs it may use, as in 0.5 [default: all]
    #[arg(long, value_name = "N")]
    cpus: Option<Cpus>,
    /// Its weight where guests compete for processors, 1 to 10000; 100 is what others have
    #[arg(long, value_name = "N")]
    cpu_shares: Option<u32>,
    /// The host's processors that it may run on, as in 0-1 [default: all]
    #[arg(long, value_name = "SET")]
    cpu_set: Option<String>,
    /// How much memory it may have, as in 1GiB [default: as much as there is]
    #[arg(long, value_name = "SIZE")]
    memory: Option<String>,
    /// How much of the host's swap it may have beside that [default: as much as memory]
    #[arg(long, value_name = "SIZE")]
    swap: Option<String>,
    /// How many processes and threads it may have [default: no limit]
    #[arg(long, value_name = "N")]
    pids: Option<u32>,
}

impl LiveLimitArgs {
    pub fn fill(&self, spec: &mut Map<String, Value>) {
        put(spec, "cpus", self.cpus);
        put(spec, "cpu_shares", self.cpu_shares);
        put(spec, "cpu_set", self.cpu_set.as_ref());
        put(spec, "memory", self.memory.as_ref());
        put(spec, "swap", self.swap.as_ref());
        put(spec, "pids", self.pids);
    }
}

impl LimitArgs {
    pub fn fill(&self, spec: &mut Map<String, Value>) {
        self.live.fill(spec);
        put(spec, "shm", self.shm.as_ref());
        if !self.ulimits.is_empty() {
            let all: Map<String, Value> = self.ulimits.iter().cloned().collect();
            spec.insert("ulimits".to_owned(), Value::Object(all));
        }
        if let Some(Limits(Value::Object(limits))) = &self.disk_limit {
            let given = limits.iter().filter(|(_, limit)| !limit.is_null());
            let given: Map<String, Value> = given.map(|(k, v)| (k.clone(), v.clone())).collect();
            spec.insert("disk_limits".to_owned(), Value::Object(given));
        }
    }
}

fn ulimit(text: &str) -> Result<(String, Value), String> {
    let bad = || "write it as NAME=SOFT or NAME=SOFT:HARD, as in nofile=1024:4096".to_owned();
    let (name, values) = text.split_once('=').ok_or_else(bad)?;
    let number = |text: &str| text.parse::<i64>().map_err(|_| bad());
    let limit = match values.split_once(':') {
        Some((soft, hard)) => json!({"soft": number(soft)?, "hard": number(hard)?}),
        None => json!({"soft": number(values)?}),
    };
    Ok((name.to_owned(), limit))
}
