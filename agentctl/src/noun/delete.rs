//! `agentctl delete`: objects of any kind.

use agentd_api::KindDef;
use clap::Args;

use crate::app::App;
use crate::failure::{Exit, Failure, Failures};
use crate::target::{Which, parse_list};
use crate::verb::remove::{self, How};
use crate::wait::WaitArgs;

#[derive(Debug, Args)]
pub struct Delete {
    /// Objects: vm/web, vm web db; or a kind with a selector or --all
    #[arg(value_name = "KIND[/NAME]", required = true)]
    what: Vec<String>,
    /// Those whose labels match, as in app=web,tier!=test
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    selector: Option<String>,
    /// All of the kind in the project
    #[arg(long, conflicts_with = "selector")]
    all: bool,
    /// Check everything, change nothing
    #[arg(long)]
    dry_run: bool,
    /// Also delete what is of them alone: VMs' snapshots
    #[arg(long)]
    cascade: bool,
    #[command(flatten)]
    wait: WaitArgs,
}

impl Delete {
    pub async fn run(self, app: &App) -> Result<(), Failure> {
        let selects = self.all || self.selector.is_some();
        let mut groups: Vec<(&'static KindDef, Vec<String>)> = Vec::new();
        for (def, name) in parse_list(&self.what)? {
            let names = match (name, selects) {
                (Some(name), false) => vec![name],
                (None, true) => {
                    let (selector, all) = (self.selector.clone(), self.all);
                    Which { names: Vec::new(), selector, all }.names(app, def).await?
                }
                (Some(_), true) => {
                    return Err(Failure::new(Exit::Usage, "a selector or --all excludes names"));
                }
                (None, false) => {
                    let text = format!("which {}? name them, or give a selector or --all", def.plural);
                    return Err(Failure::new(Exit::Usage, text));
                }
            };
            match groups.last_mut() {
                Some((last, all)) if last.kind == def.kind => all.extend(names),
                _ => groups.push((def, names)),
            }
        }
        let mut failures = Failures::default();
        let how = How { dry_run: self.dry_run, cascade: self.cascade, wait: &self.wait };
        for (def, names) in groups {
            remove::remove(app, def, names, how, &mut failures).await?;
        }
        failures.end()
    }
}
