//! `agentctl snapshot`: what VMs' disks held at a moment. `vm snapshot` and `vm restore` are the same, said of a VM.

use std::time::Duration;

use agentd_api::{Kind, KindDef, Timestamp, snapshot, vm};
use agentd_client::AnyObject;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::app::App;
use crate::failure::Failure;
use crate::target::{self, not_found_hint};
use crate::verb::act;
use crate::verb::create::{self, Create, Until};
use crate::verb::list::{Select, list};
use crate::verb::remove::Remove;
use crate::verb::show::Show;
use crate::wait::goal::Goal;
use crate::wait::{Wait, WaitArgs};

const DEF: &KindDef = snapshot::Snapshot::DEF;
const VM: &KindDef = vm::Vm::DEF;
/// A large memory takes its time.
const USUAL: Duration = Duration::from_secs(600);

#[derive(Debug, Subcommand)]
pub enum Snapshot {
    /// Take a snapshot of a VM, whether it runs or not
    Create(Take),
    /// List snapshots, of one VM or of all
    #[command(visible_alias = "ls")]
    List(ListSnapshots),
    /// Show all about snapshots
    Show(Show),
    /// Take a VM back to a snapshot of it; what its disks hold now is lost
    Restore(RestoreTo),
    /// Delete snapshots, in any order
    Rm(Remove),
}

#[derive(Debug, Args)]
pub struct Take {
    #[arg(value_name = "VM")]
    vm: String,
    /// What it is called; after the VM and the time where absent
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// With what the guest has in memory, so that it goes on from there
    #[arg(long)]
    memory: bool,
    /// Check everything, change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    wait: WaitArgs,
}

#[derive(Debug, Args)]
pub struct ListSnapshots {
    #[arg(value_name = "VM")]
    vm: Option<String>,
    #[command(flatten)]
    select: Select,
}

#[derive(Debug, Args)]
pub struct RestoreTo {
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    how: RestoreArgs,
}

/// `vm restore`
#[derive(Debug, Args)]
pub struct RestoreVm {
    #[arg(value_name = "VM")]
    vm: String,
    #[arg(value_name = "SNAPSHOT")]
    name: String,
    #[command(flatten)]
    how: RestoreArgs,
}

#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// Check everything, change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    wait: WaitArgs,
}

impl Snapshot {
    pub async fn run(self, app: &App) -> Result<(), Failure> {
        match self {
            Self::Create(take) => take.run(app).await,
            Self::List(list) => list.run(app).await,
            Self::Show(show) => show.run(app, DEF).await,
            Self::Restore(restore) => run_restore(app, &restore.name, None, restore.how).await,
            Self::Rm(remove) => remove.run(app, DEF).await,
        }
    }
}

impl Take {
    pub async fn run(self, app: &App) -> Result<(), Failure> {
        let vm = target::name_of(app, VM, &self.vm).await?;
        let name = self.name.unwrap_or_else(|| name_of(&vm, Timestamp::now()));
        let mut spec = json!({"vm": vm});
        if self.memory {
            spec["memory"] = json!(true);
        }
        let draft = json!({"name": name, "spec": spec});
        let create = Create { def: DEF, name: &name, draft, dry_run: self.dry_run };
        let Some(object) = create.send(app).await? else { return Ok(()) };
        let until = Until { goal: Goal::Ready, wait: &self.wait, usual: USUAL, beside: None };
        create::finish(app, DEF, object, until).await
    }
}

/// As a policy calls its own.
fn name_of(vm: &str, time: Timestamp) -> String {
    let whole = Timestamp(time.millis() / 1000 * 1000).to_string();
    let digits: String = whole.chars().filter(char::is_ascii_digit).collect();
    let (day, second) = digits.split_at_checked(8).unwrap_or((&digits, ""));
    let room = agentd_api::name::NAME_MAX - digits.len() - 2;
    let short: String = vm.chars().take(room).collect();
    format!("{}-{day}-{second}", short.trim_end_matches('-'))
}

impl ListSnapshots {
    async fn run(mut self, app: &App) -> Result<(), Failure> {
        if let Some(vm) = &self.vm {
            let vm = target::name_of(app, VM, vm).await?;
            self.select.field.push(format!("vm={vm}"));
        }
        list(app, DEF, &self.select).await
    }
}

impl RestoreVm {
    pub async fn run(self, app: &App) -> Result<(), Failure> {
        let vm = target::name_of(app, VM, &self.vm).await?;
        run_restore(app, &self.name, Some(vm), self.how).await
    }
}

/// Sends the wish, then waits for the VM that it is about.
async fn run_restore(app: &App, name: &str, vm: Option<String>, how: RestoreArgs) -> Result<(), Failure> {
    let options: Value = vm.map_or_else(|| json!({}), |vm| json!({"vm": vm}));
    let snapshot = act::send_with(app, (DEF, name), ("restore", options), how.dry_run).await?;
    if how.dry_run {
        app.say("dry run: nothing was changed");
        return Ok(());
    }
    let vm = snapshot.spec["vm"].as_str().unwrap_or_default();
    let there = app.client.kind(VM).get_as::<AnyObject>(Some(&app.project), vm).await;
    let there = there.map_err(|e| not_found_hint(e, VM))?;
    let until = Until { goal: Goal::Restored, wait: &how.wait, usual: USUAL, beside: None };
    if how.wait.no_wait {
        return create::print(app, VM, &there).await;
    }
    let limit = until.wait.limit(until.usual);
    let wait = Wait { app, def: VM, goal: until.goal, limit, beside: None };
    let vm = wait.one(there).await?;
    create::print(app, VM, &vm).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_of_the_vm_and_the_time() {
        let time: Timestamp = "2026-01-02T03:04:05.678Z".parse().expect("a time");
        assert_eq!(name_of("web", time), "web-20260102-030405");
        let long = name_of(&"a".repeat(63), time);
        assert_eq!(long.len(), agentd_api::name::NAME_MAX);
        assert!(long.ends_with("a-20260102-030405"), "{long}");
    }
}
