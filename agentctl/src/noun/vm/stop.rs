//! `vm stop`: one action for each VM, and, where that is asked for, one rank after the other: the reverse of the order in
//! which they are started after a boot of the host. What is stopped for the host's own shutdown is wanted all the same,
//! and is started again by the next boot.

use std::collections::BTreeMap;

use agentd_api::vm::VmSpec;
use agentd_client::AnyObject;
use clap::Args;

use super::{DEF, MINUTE};
use crate::app::App;
use crate::failure::{Failure, Failures};
use crate::target::{self, Which, label};
use crate::verb::act::{Act, Action};
use crate::wait::goal::Goal;

#[derive(Debug, Args)]
pub struct Stop {
    #[command(flatten)]
    act: Act,
    /// One after the other, in the reverse of their autostart order; those of the same order together
    #[arg(long, conflicts_with = "no_wait")]
    ordered: bool,
    /// For the host's shutdown: they are started again after its next boot
    #[arg(long)]
    until_boot: bool,
}

impl Stop {
    pub async fn run(self, app: &App) -> Result<(), Failure> {
        let name = if self.until_boot { "stop-until-boot" } else { "stop" };
        let action = || Action { name, goal: Goal::Stopped, usual: 5 * MINUTE };
        if !self.ordered {
            return self.act.run(app, DEF, action()).await;
        }
        let mut failures = Failures::default();
        let mut ranks: BTreeMap<u32, Vec<String>> = BTreeMap::new();
        for name in self.act.which.names(app, DEF).await? {
            let found = target::find(app, DEF, &name).await;
            let Some(object) = failures.take(label(DEF, &name), found) else { continue };
            ranks.entry(rank(&object)).or_default().push(name);
        }
        // One that does not stop does not keep the host from stopping the others.
        for names in ranks.into_values().rev() {
            let which = Which { names, selector: None, all: false };
            let act = Act { which, dry_run: self.act.dry_run, wait: self.act.wait.clone() };
            failures.take(DEF.plural, act.run(app, DEF, action()).await);
        }
        failures.end()
    }
}

fn rank(vm: &AnyObject) -> u32 {
    serde_json::from_value::<VmSpec>(vm.spec.clone()).map_or(u32::MAX, |spec| spec.autostart.rank())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_action_is_one_of_the_contract() {
        for name in ["stop", "stop-until-boot"] {
            assert!(DEF.action(name).is_some(), "{name}");
        }
        let spec: VmSpec = serde_json::from_value(json!({"image": "micro"})).expect("a spec");
        assert_eq!(spec.autostart.rank(), u32::MAX, "without an order they stop first");
    }
}
