//! `agentctl shutdown`: the guests' part of the host's shutdown. All VMs and containers of all projects, in the reverse of
//! the one order in which the next boot starts them again.

use std::collections::BTreeMap;

use agentd_api::{Kind, KindDef, container, vm};
use agentd_client::{AnyObject, ListOptions, decode};
use clap::Args;
use serde::Deserialize;

use crate::app::App;
use crate::failure::{Failure, Failures};
use crate::target::label;
use crate::verb::act::send;
use crate::verb::stop::{UNTIL_BOOT, rank};
use crate::wait::{Wait, WaitArgs};

const GUESTS: [&KindDef; 2] = [vm::Vm::DEF, container::Container::DEF];

#[derive(Debug, Args)]
pub struct Shutdown {
    /// Say which would be stopped, one line for those that are stopped together, and stop none
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    wait: WaitArgs,
}

/// Those that are stopped together, by kind and project.
type Rank = BTreeMap<(&'static str, String), Vec<AnyObject>>;

impl Shutdown {
    pub async fn run(self, app: &App) -> Result<(), Failure> {
        let mut failures = Failures::default();
        let mut ranks: BTreeMap<u32, Rank> = BTreeMap::new();
        for def in GUESTS {
            for guest in wanted(app, def).await? {
                let group = (def.kind, guest.meta.project.to_string());
                ranks.entry(rank(&guest)).or_default().entry(group).or_default().push(guest);
            }
        }
        if ranks.is_empty() {
            app.say("no guests are wanted to run");
        }
        for rank in ranks.into_values().rev() {
            if self.dry_run {
                let names = rank.values().flatten().map(|g| format!("{}/{}", g.meta.kind, g.meta.name));
                app.say(names.collect::<Vec<_>>().join(" "));
            } else {
                self.stop(app, rank, &mut failures).await;
            }
        }
        failures.end()
    }

    /// All of them are asked before any is waited for. One that does not stop does not keep the host from stopping the
    /// others.
    async fn stop(&self, app: &App, rank: Rank, failures: &mut Failures) {
        let mut asked = Vec::new();
        for ((kind, _), guests) in rank {
            let Some(def) = GUESTS.into_iter().find(|def| def.kind == kind) else { continue };
            let mut sent = Vec::new();
            let Some(project) = guests.first().map(|guest| guest.meta.project.clone()) else { continue };
            let app = app.of(project);
            for guest in guests {
                let outcome = send(&app, def, guest.meta.name.as_str(), UNTIL_BOOT.name, false).await;
                sent.extend(failures.take(label(def, guest.meta.name.as_str()), outcome));
            }
            asked.push((def, app, sent));
        }
        if self.wait.no_wait {
            return;
        }
        for (def, app, sent) in asked {
            let limit = self.wait.limit(UNTIL_BOOT.usual + crate::verb::act::longest_grace(&sent));
            let wait = Wait { app: &app, def, goal: UNTIL_BOOT.goal, limit, beside: None };
            for outcome in wait.all(sent).await {
                failures.take(def.kind, outcome);
            }
        }
    }
}

/// The guests of a kind that are not wanted off, of all projects.
async fn wanted(app: &App, def: &'static KindDef) -> Result<Vec<AnyObject>, Failure> {
    #[derive(Deserialize)]
    struct Page {
        items: Vec<AnyObject>,
    }
    let mut found = Vec::new();
    for page in app.client.kind(def).pages(&ListOptions::of_all_projects()).await? {
        let page: Page = decode(&format!("GET /v1/{}", def.plural), &page)?;
        found.extend(page.items.into_iter().filter(|guest| guest.spec["desired"] != "stopped"));
    }
    Ok(found)
}
