//! What becomes of it when nobody looks: how it ends, what happens then, what it waits for, how it is known to be well.

use clap::Args;
use serde_json::{Map, Value, json};

use crate::noun::vm::{Expiry, autostart, expiry, put};

#[derive(Debug, Default, Args)]
pub struct PolicyArgs {
    #[command(flatten)]
    life: LifeArgs,
    /// The signal that it is stopped by, as SIGINT [default: the image's own, or SIGTERM]
    #[arg(long, value_name = "SIGNAL")]
    stop_signal: Option<String>,
    #[command(flatten)]
    health: HealthArgs,
}

/// Those that can be changed.
#[derive(Debug, Default, Args)]
pub struct LifeArgs {
    /// What happens when it ends by itself [default: never]
    #[arg(long, value_name = "POLICY", value_parser = ["never", "on-failure", "always"])]
    restart: Option<String>,
    /// How long it has after its stop signal before it is killed [default: 10s]
    #[arg(long, value_name = "DURATION")]
    grace: Option<String>,
    /// Delete it after that time, as in 2h; 0 is never [default: never]
    #[arg(long, value_name = "DURATION", value_parser = expiry)]
    expire: Option<Expiry>,
    /// Whether it is started after a boot of the host, if it was wanted to run [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    autostart: Option<bool>,
    /// Lower ones are started first after a boot of the host [default: after all that have one]
    #[arg(long, value_name = "N")]
    autostart_order: Option<u32>,
    /// How long those behind it wait then, once it was started [default: 0s]
    #[arg(long, value_name = "DURATION")]
    autostart_delay: Option<String>,
    /// A container, or a VM as vm/NAME, that must run before it is started; or be healthy
    #[arg(long = "after", value_name = "NAME[:healthy]", value_parser = after)]
    after: Vec<Value>,
}

#[derive(Debug, Default, Args)]
struct HealthArgs {
    /// A command of its shell that tells whether it is well, by its exit code [default: the image's own check]
    #[arg(long, value_name = "COMMAND", conflicts_with = "no_health")]
    health_cmd: Option<String>,
    /// How long after one check the next begins [default: 30s]
    #[arg(long, value_name = "DURATION", requires = "health_cmd")]
    health_interval: Option<String>,
    /// How long a check may take [default: 30s]
    #[arg(long, value_name = "DURATION", requires = "health_cmd")]
    health_timeout: Option<String>,
    /// How many checks in a row that fail make it unhealthy [default: 3]
    #[arg(long, value_name = "N", requires = "health_cmd")]
    health_retries: Option<u32>,
    /// How long after its start failed checks are not counted [default: 0s]
    #[arg(long, value_name = "DURATION", requires = "health_cmd")]
    health_start_period: Option<String>,
    /// Turn off the image's own check
    #[arg(long)]
    no_health: bool,
}

impl PolicyArgs {
    pub fn fill(&self, spec: &mut Map<String, Value>) {
        self.life.fill(spec);
        put(spec, "stop_signal", self.stop_signal.as_ref());
        self.health.fill(spec);
    }
}

impl LifeArgs {
    pub fn fill(&self, spec: &mut Map<String, Value>) {
        put(spec, "restart", self.restart.as_ref());
        put(spec, "grace", self.grace.as_ref());
        put(spec, "expires_at", self.expire.map(Expiry::at));
        autostart(spec, self.autostart, self.autostart_order, self.autostart_delay.as_ref());
        if !self.after.is_empty() {
            spec.insert("after".to_owned(), json!(self.after));
        }
    }
}

impl HealthArgs {
    fn fill(&self, spec: &mut Map<String, Value>) {
        let command = match &self.health_cmd {
            _ if self.no_health => json!([]),
            Some(command) => json!(["/bin/sh", "-c", command]),
            None => return,
        };
        let mut health = Map::new();
        health.insert("command".to_owned(), command);
        put(&mut health, "interval", self.health_interval.as_ref());
        put(&mut health, "timeout", self.health_timeout.as_ref());
        put(&mut health, "retries", self.health_retries);
        put(&mut health, "start_period", self.health_start_period.as_ref());
        spec.insert("health".to_owned(), Value::Object(health));
    }
}

fn after(text: &str) -> Result<Value, String> {
    let (name, healthy) = match text.split_once(':') {
        Some((name, "healthy")) => (name, true),
        Some(_) => return Err("only 'healthy' can stand behind the name".to_owned()),
        None => (text, false),
    };
    let mut after = match name.split_once('/') {
        Some(("vm", name)) => json!({"vm": name}),
        Some(("container", name)) => json!({"container": name}),
        Some(_) => return Err("write NAME, container/NAME or vm/NAME".to_owned()),
        None => json!({"container": name}),
    };
    if healthy {
        after["healthy"] = json!(true);
    }
    Ok(after)
}
