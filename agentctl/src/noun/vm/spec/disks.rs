//! What a VM has beside the disk that it boots from.

use clap::Args;
use serde_json::{Map, Value, json};

#[derive(Debug, Default, Args)]
pub struct DiskArgs {
    /// A volume that is attached to it, for reading only if wanted
    #[arg(long = "volume", value_name = "VOL[:ro]", value_parser = volume)]
    pub volumes: Vec<Attached>,
    /// A further disk of its own, which goes with it
    #[arg(long = "add-disk", value_name = "SIZE")]
    pub disks: Vec<String>,
    /// An ISO in its CD-ROM drive: an image of that format
    #[arg(long, value_name = "IMAGE")]
    pub iso: Option<String>,
}

impl DiskArgs {
    pub fn fill(&self, spec: &mut Map<String, Value>) {
        if !self.volumes.is_empty() {
            let all: Vec<Value> = self.volumes.iter().map(Attached::entry).collect();
            spec.insert("volumes".to_owned(), json!(all));
        }
        if !self.disks.is_empty() {
            let all: Vec<Value> = self.disks.iter().map(|size| json!({"size": size})).collect();
            spec.insert("disks".to_owned(), json!(all));
        }
        if let Some(iso) = &self.iso {
            spec.insert("iso".to_owned(), json!(iso));
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    pub volume: String,
    pub read_only: bool,
}

impl Attached {
    /// As a VM's spec names it.
    pub fn entry(&self) -> Value {
        match self.read_only {
            true => json!({"volume": self.volume, "read_only": true}),
            false => json!({"volume": self.volume}),
        }
    }
}

fn volume(text: &str) -> Result<Attached, String> {
    let (volume, how) = text.split_once(':').unwrap_or((text, "rw"));
    let read_only = match how {
        "ro" => true,
        "rw" => false,
        other => return Err(format!("'{other}' is neither ro nor rw")),
    };
    Ok(Attached { volume: volume.to_owned(), read_only })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_read() {
        assert_eq!(volume("data:ro").map(|v| v.entry()), Ok(json!({"volume": "data", "read_only": true})));
        assert_eq!(volume("data").map(|v| v.entry()), Ok(json!({"volume": "data"})));
        assert!(volume("data:rx").is_err());
    }
}
