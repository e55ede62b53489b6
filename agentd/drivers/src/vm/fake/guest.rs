//! The agents of the fake's guests: there where a test says so, and stateful.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::broadcast;
use uuid::Uuid;

use super::programs;
use super::{FakeVm, Inner};
use crate::vm::guest::{
    ExecWish, Facts, Freezer, Frozen, GuestDriver, GuestError, GuestIn, GuestOut, GuestSeen,
};
use crate::vm::{Power, VmError};

/// A guest of the fake has so many file systems.
const FILESYSTEMS: u32 = 2;

#[derive(Debug)]
pub(super) struct Guests {
    told: Mutex<Told>,
    events: broadcast::Sender<Uuid>,
}

impl Default for Guests {
    fn default() -> Self {
        Self { told: Mutex::default(), events: broadcast::Sender::new(256) }
    }
}

#[derive(Debug, Default)]
struct Told {
    agents: BTreeSet<Uuid>,
    /// Who froze it, and in which run of the guest.
    frozen: BTreeMap<Uuid, (Freezer, u64)>,
    sizes: BTreeMap<Uuid, (u16, u16)>,
    attended: BTreeSet<Uuid>,
    facts: BTreeMap<Uuid, Facts>,
    /// The archives that were unpacked in it, by path.
    files: BTreeMap<(Uuid, String), Vec<u8>>,
}

impl Inner {
    /// The guest's run, if it runs and is not paused.
    fn running(&self, vm: Uuid) -> Result<u64, GuestError> {
        let seen = self.domains.observe(vm).ok_or(VmError::Missing(vm))?;
        match seen.power {
            Power::Running => Ok(self.domains.run_of(vm)),
            Power::Paused => Err(GuestError::NotRunning("paused")),
            Power::Off => Err(GuestError::NotRunning("off")),
        }
    }

    fn agent(&self, vm: Uuid) -> Result<u64, GuestError> {
        let run = self.running(vm)?;
        if !self.guests.told.lock().agents.contains(&vm) {
            return Err(GuestError::NoAgent("the fake was not told that it has one".to_owned()));
        }
        Ok(run)
    }
}

impl FakeVm {
    async fn guest_call<T: Send + 'static>(
        &self,
        method: &'static str,
        work: impl FnOnce(&Inner) -> Result<T, GuestError> + Send + 'static,
    ) -> Result<T, GuestError> {
        let inner = self.inner.clone();
        let task = tokio::spawn(async move {
            inner.controls.pass(method).await?;
            work(&inner)
        });
        task.await
            .unwrap_or_else(|gone| Err(VmError::Failed { call: method, detail: gone.to_string() }.into()))
    }

    /// Whether an agent runs in that guest, whenever the guest does.
    pub fn set_agent(&self, vm: Uuid, there: bool) {
        let agents = &mut self.inner.guests.told.lock().agents;
        if there {
            agents.insert(vm)
        } else {
            agents.remove(&vm)
        };
    }
    /// What its agent tells of itself from now on.
    pub fn set_facts(&self, vm: Uuid, facts: Facts) {
        self.inner.guests.told.lock().facts.insert(vm, facts);
        let _ = self.inner.guests.events.send(vm);
    }
    /// Whether the guest's file systems are frozen now.
    pub fn is_frozen(&self, vm: Uuid) -> bool {
        let run = self.inner.domains.run_of(vm);
        self.inner.guests.told.lock().frozen.get(&vm).is_some_and(|(_, then)| *then == run)
    }
    /// The size of its console that the guest was last told.
    pub fn console_size(&self, vm: Uuid) -> Option<(u16, u16)> {
        self.inner.guests.told.lock().sizes.get(&vm).copied()
    }
}

#[async_trait]
impl GuestDriver for FakeVm {
    fn attend(&self, vm: Uuid, wanted: bool) {
        let attended = &mut self.inner.guests.told.lock().attended;
        if wanted {
            attended.insert(vm)
        } else {
            attended.remove(&vm)
        };
    }

    fn guest_seen(&self, vm: Uuid) -> GuestSeen {
        let there = self.inner.agent(vm).is_ok();
        let told = self.inner.guests.told.lock();
        match (told.attended.contains(&vm), there) {
            (false, _) => GuestSeen::Unknown,
            (true, false) => GuestSeen::Silent,
            (true, true) => GuestSeen::Facts(told.facts.get(&vm).cloned().unwrap_or_default()),
        }
    }

    fn guest_events(&self) -> broadcast::Receiver<Uuid> {
        self.inner.guests.events.subscribe()
    }

    async fn agent_answers(&self, vm: Uuid) -> Result<(), GuestError> {
        self.guest_call("agent_answers", move |inner| inner.agent(vm).map(drop)).await
    }

    async fn exec(&self, vm: Uuid, wish: ExecWish) -> Result<(GuestIn, GuestOut), GuestError> {
        self.guest_call("exec", move |inner| {
            inner.agent(vm)?;
            programs::run(wish)
        })
        .await
    }

    async fn pack(&self, vm: Uuid, path: String) -> Result<GuestOut, GuestError> {
        self.guest_call("pack", move |inner| {
            inner.agent(vm)?;
            let none = || GuestError::Missing(format!("there is no {path}"));
            let told = inner.guests.told.lock();
            let archive = told.files.get(&(vm, path.clone())).cloned().ok_or_else(none)?;
            Ok(programs::archive(archive))
        })
        .await
    }

    async fn unpack(&self, vm: Uuid, path: String) -> Result<(GuestIn, GuestOut), GuestError> {
        let inner = self.inner.clone();
        self.guest_call("unpack", move |here| {
            here.agent(vm)?;
            Ok(programs::collect(move |archive| {
                inner.guests.told.lock().files.insert((vm, path), archive);
            }))
        })
        .await
    }

    async fn set_time(&self, vm: Uuid) -> Result<(), GuestError> {
        self.guest_call("set_time", move |inner| inner.agent(vm).map(drop)).await
    }

    async fn freeze(&self, vm: Uuid) -> Result<Frozen, GuestError> {
        self.guest_call("freeze", move |inner| {
            let run = inner.agent(vm)?;
            inner.guests.told.lock().frozen.insert(vm, (Freezer::Agent, run));
            Ok(Frozen { by: Freezer::Agent, filesystems: FILESYSTEMS })
        })
        .await
    }

    async fn thaw(&self, vm: Uuid) -> Result<u32, GuestError> {
        self.guest_call("thaw", move |inner| {
            let run = inner.agent(vm)?;
            let was = inner.guests.told.lock().frozen.remove(&vm);
            Ok(if was.is_some_and(|(_, then)| then == run) { FILESYSTEMS } else { 0 })
        })
        .await
    }

    async fn set_console_size(&self, vm: Uuid, columns: u16, rows: u16) -> Result<(), GuestError> {
        self.guest_call("set_console_size", move |inner| {
            inner.agent(vm)?;
            inner.guests.told.lock().sizes.insert(vm, (columns, rows));
            Ok(())
        })
        .await
    }
}
