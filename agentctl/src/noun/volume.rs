//! `agentctl volume`: disks and file systems of their own, and who has them.
//!
//! Attaching and detaching change the VM's spec, at the revision that was read, and read again where somebody else was
//! faster.

use std::time::Duration;

use agentd_api::vm::Vm;
use agentd_api::{ErrorCode, Kind, KindDef, volume};
use agentd_client::{AnyObject, WriteOptions};
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use crate::app::App;
use crate::failure::{Exit, Failure};
use crate::noun::vm::Attached;
use crate::output::{self, undecodable};
use crate::target::{find, label, not_found_hint};
use crate::verb::create::{self, Create, Until};
use crate::verb::list::List;
use crate::verb::remove::Remove;
use crate::verb::show::Show;
use crate::wait::goal::Goal;
use crate::wait::{Wait, WaitArgs};

const DEF: &KindDef = volume::Volume::DEF;
const USUAL: Duration = Duration::from_secs(60);
/// How often a VM that others change at the same time is read again.
const TRIES: usize = 10;

#[derive(Debug, Subcommand)]
pub enum Volume {
    /// Make a volume
    Create(CreateVolume),
    /// Attach a block volume to a VM, which may run; containers are made with theirs
    Attach(Attach),
    /// Detach a volume from the VM that has it, which may run, and wait until its guest has let go of it
    Detach(Detach),
    /// Make a volume larger; the guest or the containers that have it see that at once
    Resize(Resize),
    /// List volumes
    #[command(visible_alias = "ls")]
    List(List),
    /// Show all about volumes
    Show(Show),
    /// Delete volumes with all that is on them
    Rm(Remove),
}

#[derive(Debug, Args)]
pub struct CreateVolume {
    #[arg(value_name = "NAME")]
    name: String,
    /// How large it is, as in 10GiB
    #[arg(long, value_name = "SIZE")]
    size: String,
    /// A disk for a VM, or a file system for containers [default: block]
    #[arg(long, value_name = "MODE", value_parser = ["block", "filesystem"])]
    mode: Option<String>,
    /// How it is kept [default: qcow2, and raw for a file system]
    #[arg(long, value_name = "FORMAT", value_parser = ["qcow2", "raw"])]
    format: Option<String>,
    /// An image whose content it begins with, of a block volume
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
    /// Check everything, change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    wait: WaitArgs,
}

#[derive(Debug, Args)]
pub struct Attach {
    #[arg(value_name = "VOL")]
    volume: String,
    #[arg(value_name = "VM")]
    vm: String,
    /// Its guest can only read it
    #[arg(long)]
    read_only: bool,
    #[command(flatten)]
    change: Change,
}

#[derive(Debug, Args)]
pub struct Detach {
    #[arg(value_name = "VOL")]
    volume: String,
    /// The VM that has it; whichever has it where absent
    #[arg(value_name = "VM")]
    vm: Option<String>,
    #[command(flatten)]
    change: Change,
}

#[derive(Debug, Args)]
pub struct Resize {
    #[arg(value_name = "VOL")]
    volume: String,
    #[arg(value_name = "SIZE")]
    size: String,
    #[command(flatten)]
    change: Change,
}

/// The flags of what changes something that is there.
#[derive(Debug, Args)]
pub struct Change {
    /// Check everything, change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    wait: WaitArgs,
}

impl Volume {
    pub async fn run(self, app: &App) -> Result<(), Failure> {
        match self {
            Self::Create(create) => create.run(app).await,
            Self::Attach(attach) => attach.run(app).await,
            Self::Detach(detach) => detach.run(app).await,
            Self::Resize(resize) => resize.run(app).await,
            Self::List(list) => list.run(app, DEF).await,
            Self::Show(show) => show.run(app, DEF).await,
            Self::Rm(remove) => remove.run(app, DEF).await,
        }
    }
}

impl CreateVolume {
    async fn run(self, app: &App) -> Result<(), Failure> {
        let mut spec = Map::from_iter([("size".to_owned(), json!(self.size))]);
        for (field, value) in [("mode", self.mode), ("format", self.format), ("image", self.image)] {
            spec.extend(value.map(|value| (field.to_owned(), json!(value))));
        }
        let draft = json!({"name": self.name, "spec": spec});
        let create = Create { def: DEF, name: &self.name, draft, dry_run: self.dry_run };
        let Some(object) = create.send(app).await? else { return Ok(()) };
        let until = Until { goal: Goal::Ready, wait: &self.wait, usual: 30 * USUAL, beside: None };
        create::finish(app, DEF, object, until).await
    }
}

impl Attach {
    async fn run(self, app: &App) -> Result<(), Failure> {
        let volume = find(app, DEF, &self.volume).await?;
        let name = volume.meta.name.to_string();
        let entry = Attached { volume: name.clone(), read_only: self.read_only }.entry();
        let add = |volumes: &mut Vec<Value>| match volumes.iter().find(|v| v["volume"] == name.as_str()) {
            Some(there) if there["read_only"].as_bool().unwrap_or(false) == self.read_only => Err(
                Failure::new(Exit::Conflict, format!("volume/{name} is attached to vm/{} already", self.vm)),
            ),
            Some(_) => Err(Failure::new(
                Exit::Conflict,
                format!("volume/{name} is attached to vm/{} otherwise than asked for", self.vm),
            )
            .hint(format!("detach it first: agentctl volume detach {name}"))),
            None => {
                volumes.push(entry.clone());
                Ok(())
            }
        };
        let vm = change_volumes(app, &self.vm, self.change.dry_run, add).await?;
        settle(app, &name, vm, (Goal::Attached, &self.change)).await
    }
}

impl Detach {
    async fn run(self, app: &App) -> Result<(), Failure> {
        let volume = find(app, DEF, &self.volume).await?;
        let name = volume.meta.name.to_string();
        let not = |vm: &str| {
            Failure::new(Exit::Conflict, format!("volume/{name} is not attached{vm}"))
                .hint("`agentctl volume list` shows which VM has which")
        };
        let holder = volume.status["attached_to"]["vm"].as_str();
        let vm = self.vm.as_deref().or(holder).ok_or_else(|| not(""))?;
        let take = |volumes: &mut Vec<Value>| {
            let before = volumes.len();
            volumes.retain(|v| v["volume"] != name.as_str());
            // It may be on its way out already, which is what was asked for.
            match volumes.len() == before && holder != Some(vm) {
                true => Err(not(&format!(" to vm/{vm}"))),
                false => Ok(()),
            }
        };
        let vm = change_volumes(app, vm, self.change.dry_run, take).await?;
        settle(app, &name, vm, (Goal::Ready, &self.change)).await
    }
}

impl Resize {
    async fn run(self, app: &App) -> Result<(), Failure> {
        let volume = find(app, DEF, &self.volume).await?;
        let name = volume.meta.name.as_str();
        let patch = json!({"spec": {"size": self.size}});
        let body = app.client.kind(DEF).patch(name, &patch, &app.write(self.change.dry_run)).await;
        let body = body.map_err(|e| not_found_hint(e, DEF))?;
        if self.change.dry_run {
            app.say("dry run: nothing was changed");
            return output::print_objects(DEF, &[body], app.output);
        }
        let object: AnyObject = serde_json::from_slice(&body).map_err(|e| undecodable(&e))?;
        let until = Until { goal: Goal::Sized, wait: &self.change.wait, usual: USUAL, beside: None };
        create::finish(app, DEF, object, until).await
    }
}

/// Changes the list of a VM's volumes by `how`, which may refuse.
async fn change_volumes(
    app: &App,
    vm: &str,
    dry_run: bool,
    how: impl Fn(&mut Vec<Value>) -> Result<(), Failure>,
) -> Result<AnyObject, Failure> {
    for _ in 0..TRIES {
        let object = find(app, Vm::DEF, vm).await?;
        let mut volumes = object.spec["volumes"].as_array().cloned().unwrap_or_default();
        how(&mut volumes)?;
        let options = WriteOptions { if_match: Some(object.meta.revision), ..app.write(dry_run) };
        let patch = json!({"spec": {"volumes": volumes}});
        match app.client.kind(Vm::DEF).patch(object.meta.name.as_str(), &patch, &options).await {
            Ok(body) => return serde_json::from_slice(&body).map_err(|e| undecodable(&e)),
            Err(error) if error.code() == Some(ErrorCode::RevisionMismatch) => {}
            Err(error) => return Err(Failure::from(error).about(label(Vm::DEF, vm))),
        }
    }
    Err(Failure::new(Exit::Conflict, format!("vm/{vm} was changed by others again and again")))
}

/// Waits until the VM has what it shall have and no more, and prints the volume as it is then.
async fn settle(
    app: &App,
    volume: &str,
    vm: AnyObject,
    (goal, change): (Goal, &Change),
) -> Result<(), Failure> {
    if change.dry_run {
        app.say("dry run: nothing was changed");
        return Ok(());
    }
    let mut shown = find(app, DEF, volume).await?;
    if !change.wait.no_wait {
        let limit = change.wait.limit(USUAL);
        Wait { app, def: Vm::DEF, goal: Goal::Plugged, limit, beside: None }.one(vm).await?;
        // The volume says what the VM has said, a pass later.
        shown = Wait { app, def: DEF, goal, limit, beside: None }.one(shown).await?;
    }
    create::print(app, DEF, &shown).await
}
