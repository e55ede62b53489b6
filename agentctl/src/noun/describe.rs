//! `agentctl describe`: all about objects of any kind, with what happened to them.

use clap::Args;

use crate::app::App;
use crate::failure::{Exit, Failure};
use crate::target::parse_list;
use crate::verb::show;

#[derive(Debug, Args)]
pub struct Describe {
    /// Objects: vm/web, vm web db
    #[arg(value_name = "KIND/NAME", required = true)]
    what: Vec<String>,
}

impl Describe {
    pub async fn run(self, app: &App) -> Result<(), Failure> {
        let mut objects = Vec::new();
        for (def, name) in parse_list(&self.what)? {
            let name = name.ok_or_else(|| {
                Failure::new(Exit::Usage, format!("which {}? write {}/NAME", def.kind, def.kind))
            })?;
            objects.push((def, name));
        }
        show::show(app, objects, true).await
    }
}
