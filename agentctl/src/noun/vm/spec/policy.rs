//! What becomes of a VM when nobody looks: how it ends, what happens then, how long it is there.

use agentd_api::{Span, Timestamp};
use clap::Args;
use serde_json::{Map, Value, json};

use super::{put, sub};

const KEEP: u32 = 7;

#[derive(Debug, Default, Args)]
pub struct PolicyArgs {
    /// What happens when its guest ends by itself [default: never]
    #[arg(long, value_name = "POLICY", value_parser = ["never", "on-failure", "always"])]
    pub restart: Option<String>,
    /// How long its guest has to power off before it is forced off [default: 30s]
    #[arg(long, value_name = "DURATION")]
    pub grace: Option<String>,
    /// Delete it after that time, as in 2h; 0 is never [default: never]
    #[arg(long, value_name = "DURATION", value_parser = expiry)]
    pub expire: Option<Expiry>,
    /// Whether it is started after a boot of the host, if it was wanted to run [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub autostart: Option<bool>,
    /// Lower ones are started first after a boot of the host, and stopped last [default: after all that have one]
    #[arg(long, value_name = "N")]
    pub autostart_order: Option<u32>,
    /// How long those behind it wait then, once it was started [default: 0s]
    #[arg(long, value_name = "DURATION")]
    pub autostart_delay: Option<String>,
    /// Take snapshots by themselves, when cron says so in UTC, as in "0 3 * * *"
    #[arg(long, value_name = "CRON")]
    pub snapshot_schedule: Option<String>,
    /// How many of those stay [default: 7]
    #[arg(long, value_name = "N", requires = "snapshot_schedule")]
    pub snapshot_keep: Option<u32>,
}

/// How long from now; None is for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expiry(Option<Span>);

impl Expiry {
    /// When it is over, or null where never.
    pub fn at(self) -> Value {
        json!(self.0.map(|span| Timestamp::now().plus(span.duration()).to_string()))
    }
}

pub fn expiry(text: &str) -> Result<Expiry, String> {
    if matches!(text, "0" | "never") {
        return Ok(Expiry(None));
    }
    let span: Span = text.parse().map_err(|e| format!("{e}"))?;
    Ok(Expiry(Some(span).filter(|span| *span != Span::default())))
}

/// What was given of whether and when it is started after a boot of the host.
pub fn autostart(
    spec: &mut Map<String, Value>,
    enabled: Option<bool>,
    order: Option<u32>,
    delay: Option<&String>,
) {
    let mut autostart = Map::new();
    put(&mut autostart, "enabled", enabled);
    put(&mut autostart, "order", order);
    put(&mut autostart, "delay", delay);
    sub(spec, "autostart", autostart);
}

impl PolicyArgs {
    pub fn fill(&self, spec: &mut Map<String, Value>) {
        put(spec, "restart", self.restart.as_ref());
        put(spec, "grace", self.grace.as_ref());
        put(spec, "expires_at", self.expire.map(Expiry::at));
        autostart(spec, self.autostart, self.autostart_order, self.autostart_delay.as_ref());
        if let Some(schedule) = &self.snapshot_schedule {
            let keep = self.snapshot_keep.unwrap_or(KEEP);
            spec.insert("snapshot_policy".to_owned(), json!({"schedule": schedule, "keep": keep}));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_and_never_are_no_expiry() {
        for never in ["0", "0s", "never"] {
            assert_eq!(expiry(never), Ok(Expiry(None)), "{never}");
        }
        assert_eq!(expiry("2h"), Ok(Expiry(Some(Span::seconds(7200)))));
        assert!(expiry("2").is_err());
        let mut spec = Map::new();
        PolicyArgs { expire: Some(Expiry(None)), ..PolicyArgs::default() }.fill(&mut spec);
        assert_eq!(Value::Object(spec), json!({"expires_at": null}), "a change takes it off");
    }
}
