//! How large a VM is, and how large it may become while it runs.

use clap::Args;
use serde_json::{Map, Value, json};

#[derive(Debug, Default, Args)]
pub struct SizeArgs {
    /// The flavor that its size is of, in place of --cpus, --memory and --disk
    #[arg(long, value_name = "FLAVOR")]
    pub flavor: Option<String>,
    /// How many CPUs it has [default: 1]
    #[arg(long, value_name = "N")]
    pub cpus: Option<u32>,
    /// How many CPUs it can be given while it runs [default: up to twice as many or 4, as the host has them]
    #[arg(long, value_name = "N")]
    pub cpus_max: Option<u32>,
    /// How much memory it has, as in 1GiB [default: 512MiB]
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<String>,
    /// How much memory it can be given while it runs [default: what it is started with]
    #[arg(long, value_name = "SIZE")]
    pub memory_max: Option<String>,
    /// The size of its disk [default: the image's own]
    #[arg(long, value_name = "SIZE")]
    pub disk: Option<String>,
}

impl SizeArgs {
    pub fn fill(&self, spec: &mut Map<String, Value>) {
        for (field, number) in [("cpus", self.cpus), ("cpus_max", self.cpus_max)] {
            if let Some(number) = number {
                spec.insert(field.to_owned(), json!(number));
            }
        }
        if let Some(flavor) = &self.flavor {
            spec.insert("flavor".to_owned(), json!(flavor));
        }
        for (field, text) in
            [("memory", &self.memory), ("memory_max", &self.memory_max), ("disk", &self.disk)]
        {
            if let Some(text) = text {
                spec.insert(field.to_owned(), json!(text));
            }
        }
    }
}
