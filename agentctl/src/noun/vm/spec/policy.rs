//! What becomes of a VM when nobody looks: how it ends, and what happens then.

use clap::Args;
use serde_json::{Map, Value, json};

#[derive(Debug, Default, Args)]
pub struct PolicyArgs {
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

impl PolicyArgs {
    pub fn fill(&self, spec: &mut Map<String, Value>) {
        for (field, text) in [("restart", &self.restart), ("grace", &self.grace)] {
            if let Some(text) = text {
                spec.insert(field.to_owned(), json!(text));
            }
        }
        if self.rm {
            spec.insert("remove_when_stopped".to_owned(), json!(true));
        }
    }
}
