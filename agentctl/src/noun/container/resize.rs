//! `container resize`: what a container may use, also while it runs.

use clap::Args;
use serde_json::Map;

use super::DEF;
use super::spec::LiveLimitArgs;
use crate::app::App;
use crate::failure::Failure;
use crate::verb::change::ChangeArgs;

#[derive(Debug, Args)]
pub struct Resize {
    /// The container's name or id
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    limits: LiveLimitArgs,
    #[command(flatten)]
    change: ChangeArgs,
}

impl Resize {
    pub async fn run(self, app: &App) -> Result<(), Failure> {
        let mut spec = Map::new();
        self.limits.fill(&mut spec);
        self.change.set(app, DEF, &self.name, spec).await
    }
}
