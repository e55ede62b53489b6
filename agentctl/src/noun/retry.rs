//! `agentctl retry`: forgets failed attempts at objects and has them tried again now.

use clap::Args;

use crate::app::App;
use crate::failure::{Exit, Failure, Failures};
use crate::target::{label, parse_list};
use crate::verb::act;

#[derive(Debug, Args)]
pub struct Retry {
    /// Objects: vm/web, vm web db
    #[arg(value_name = "KIND/NAME", required = true)]
    what: Vec<String>,
}

impl Retry {
    pub async fn run(self, app: &App) -> Result<(), Failure> {
        let mut failures = Failures::default();
        for (def, name) in parse_list(&self.what)? {
            let name = name.ok_or_else(|| {
                Failure::new(Exit::Usage, format!("which {}? write {}/NAME", def.kind, def.kind))
            })?;
            let about = label(def, &name);
            let outcome = act::send(app, def, &name, "retry", false).await;
            if failures.take(&about, outcome).is_some() {
                app.say(format_args!("{about}: is tried again"));
            }
        }
        failures.end()
    }
}
