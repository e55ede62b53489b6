//! `stop`: one action for each guest, and, where that is asked for, one rank after the other: the reverse of the order in
//! which they are started after a boot of the host. What is stopped for the host's own shutdown is wanted all the same,
//! and is started again by the next boot.

use std::collections::BTreeMap;
use std::time::Duration;

use agentd_api::KindDef;
use agentd_api::life::Autostart;
use agentd_client::AnyObject;
use clap::Args;
use serde::Deserialize;

use crate::app::App;
use crate::failure::{Failure, Failures};
use crate::target::{self, Which, label};
use crate::verb::act::{Act, Action};
use crate::wait::goal::Goal;

/// For the host's shutdown: off until its next boot.
pub const UNTIL_BOOT: Action =
    Action { name: "stop-until-boot", goal: Goal::Stopped, usual: Duration::from_secs(300) };
const STOP: Action = Action { name: "stop", ..UNTIL_BOOT };

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
    pub async fn run(self, app: &App, def: &'static KindDef) -> Result<(), Failure> {
        let action = if self.until_boot { UNTIL_BOOT } else { STOP };
        if !self.ordered {
            return self.act.run(app, def, action).await;
        }
        let mut failures = Failures::default();
        let mut ranks: BTreeMap<u32, Vec<String>> = BTreeMap::new();
        for name in self.act.which.names(app, def).await? {
            let found = target::find(app, def, &name).await;
            let Some(object) = failures.take(label(def, &name), found) else { continue };
            ranks.entry(rank(&object)).or_default().push(name);
        }
        // One that does not stop does not keep the host from stopping the others.
        for names in ranks.into_values().rev() {
            let which = Which { names, selector: None, all: false };
            let act = Act { which, dry_run: self.act.dry_run, wait: self.act.wait.clone() };
            failures.take(def.plural, act.run(app, def, action).await);
        }
        failures.end()
    }
}

/// What orders of guests are compared by, of whichever kind they are.
pub fn rank(guest: &AnyObject) -> u32 {
    Autostart::deserialize(&guest.spec["autostart"]).unwrap_or_default().rank()
}

#[cfg(test)]
mod tests {
    use agentd_api::Kind;
    use agentd_api::container::Container;
    use agentd_api::vm::Vm;
    use serde_json::{Value, json};

    use super::*;

    fn guest(spec: &Value) -> AnyObject {
        let meta = json!({"kind": "vm", "project": "default", "name": "web", "revision": 1, "generation": 1,
            "id": "00000000-0000-0000-0000-000000000001", "labels": {}, "annotations": {}, "deleting_at": null,
            "created_at": "2026-01-02T03:04:05Z", "finalizers": [], "spec": spec});
        serde_json::from_value(meta).expect("an object")
    }

    #[test]
    fn the_actions_are_those_of_the_contract() {
        for def in [Vm::DEF, Container::DEF] {
            for action in [STOP, UNTIL_BOOT] {
                assert!(def.action(action.name).is_some(), "{} {}", def.kind, action.name);
            }
        }
    }

    #[test]
    fn without_an_order_they_stop_first() {
        assert_eq!(rank(&guest(&json!({"image": "micro"}))), u32::MAX);
        assert_eq!(rank(&guest(&json!({"image": "micro", "autostart": {"enabled": true}}))), u32::MAX);
        assert_eq!(rank(&guest(&json!({"image": "micro", "autostart": {"enabled": true, "order": 3}}))), 3);
    }
}
