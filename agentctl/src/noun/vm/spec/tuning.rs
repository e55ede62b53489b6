//! How much of the host it may use, and on which of its processors.

use clap::Args;
use serde_json::{Map, Value, json};

use super::put;

#[derive(Debug, Default, Args)]
pub struct TuningArgs {
    /// What its disk may do in a second: read=10MiB,write=5MiB,read-iops=500,write-iops=500; none is no limit
    #[arg(long, value_name = "LIMITS", value_parser = disk_limits)]
    pub disk_limit: Option<Limits>,
    /// The host's processors that its CPUs may run on, as in 0-1; given again, a set for each CPU; none is all
    #[arg(long, value_name = "SET")]
    pub cpu_pinning: Vec<String>,
    /// Its weight where guests compete for processors, 1 to 10000; 100 is what others have
    #[arg(long, value_name = "N")]
    pub cpu_shares: Option<u32>,
    /// Take its memory from the host's reserved huge pages
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub huge_pages: Option<bool>,
    /// Let its guest run guests of its own, under KVM
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub nested: Option<bool>,
    /// Give it a watchdog, and do that when its guest stops feeding it
    #[arg(long, value_name = "ACTION", value_parser = ["reset", "poweroff", "record", "off"])]
    pub watchdog: Option<String>,
}

/// As JSON; null takes limits off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits(pub Value);

const RATES: [(&str, &str); 2] = [("read", "read"), ("write", "write")];
const COUNTS: [(&str, &str); 2] = [("read-iops", "read_iops"), ("write-iops", "write_iops")];

/// Limits that are not named are none: what is given stands in place of what there was.
pub fn disk_limits(text: &str) -> Result<Limits, String> {
    if text == "none" {
        return Ok(Limits(Value::Null));
    }
    let mut limits: Map<String, Value> =
        RATES.iter().chain(&COUNTS).map(|(_, field)| ((*field).to_owned(), Value::Null)).collect();
    for part in text.split(',') {
        let (key, value) = part.split_once('=').ok_or_else(|| format!("'{part}' is no KEY=VALUE"))?;
        let rate = RATES.iter().find(|(name, _)| *name == key).map(|(_, field)| (field, json!(value)));
        let count = COUNTS.iter().find(|(name, _)| *name == key).map(|(_, field)| (field, value));
        let (field, value) = match (rate, count) {
            (Some((field, value)), _) => (field, value),
            (None, Some((field, text))) => {
                (field, json!(text.parse::<u32>().map_err(|_| format!("'{text}' is no number"))?))
            }
            (None, None) => return Err(format!("'{key}' is none of read, write, read-iops, write-iops")),
        };
        if limits.insert((*field).to_owned(), value).is_some_and(|before| !before.is_null()) {
            return Err(format!("{key} is given twice"));
        }
    }
    Ok(Limits(Value::Object(limits)))
}

/// Of an interface. None is no limit, as with a disk's.
pub fn nic_limits(text: &str) -> Result<Limits, String> {
    let mut limits = Map::new();
    for part in text.split(',') {
        let (field, rate) = match part.split_once('=') {
            Some(("in", rate)) => ("inbound", rate),
            Some(("out", rate)) => ("outbound", rate),
            _ => return Err(format!("'{part}' is none of in=RATE, out=RATE")),
        };
        if limits.insert(field.to_owned(), json!(rate)).is_some() {
            return Err(format!("{field} is given twice"));
        }
    }
    Ok(Limits(Value::Object(limits)))
}

impl TuningArgs {
    pub fn fill(&self, spec: &mut Map<String, Value>) {
        put(spec, "disk_limits", self.disk_limit.as_ref().map(|limits| &limits.0));
        if !self.cpu_pinning.is_empty() {
            let none = self.cpu_pinning == ["none"];
            spec.insert("cpu_pinning".to_owned(), if none { json!([]) } else { json!(self.cpu_pinning) });
        }
        put(spec, "cpu_shares", self.cpu_shares);
        put(spec, "huge_pages", self.huge_pages);
        put(spec, "nested", self.nested);
        if let Some(action) = &self.watchdog {
            spec.insert("watchdog".to_owned(), if action == "off" { Value::Null } else { json!(action) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read() {
        let all = disk_limits("read=10MiB,write-iops=500").expect("limits").0;
        let wanted = json!({"read": "10MiB", "write": null, "read_iops": null, "write_iops": 500});
        assert_eq!(all, wanted);
        assert_eq!(disk_limits("none"), Ok(Limits(Value::Null)));
        let nic = nic_limits("in=1MiB,out=2MiB").expect("limits").0;
        assert_eq!(nic, json!({"inbound": "1MiB", "outbound": "2MiB"}));
        for bad in ["", "in", "in=1MiB,in=2MiB", "read=1MiB"] {
            assert!(nic_limits(bad).is_err(), "{bad}");
        }
        for bad in ["", "read", "read=1MiB,read=2MiB", "iops=5", "read-iops=many"] {
            assert!(disk_limits(bad).is_err(), "{bad}");
        }
    }
}
