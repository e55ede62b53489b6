//! What a test can tell the fake, and do behind the daemon's back.

use std::time::Duration;

use agentd_api::Timestamp;
use bytes::Bytes;
use uuid::Uuid;

use super::FakeContainers;
use super::state::{Kept, Line, Made};
use crate::container::{
    Change, ContainerDef, ContainerError, ContainerEvent, EndpointSeen, ExitSeen, ForeignDef, HealthSeen,
    HealthState, Wired,
};
use crate::engine::Outage;

impl FakeContainers {
    /// The next `times` calls of `method` fail.
    pub fn fail_next(&self, method: &str, times: usize, error: impl Fn() -> ContainerError) {
        self.inner.faults.fail_next(method, times, error);
    }
    pub fn fail_no_more(&self, method: &str) {
        self.inner.faults.fail_no_more(method);
    }
    /// Calls of `method` do not return until [`release`](Self::release).
    pub fn hang(&self, method: &str) {
        self.inner.faults.hang(method);
    }
    pub fn release(&self, method: &str) {
        self.inner.faults.release(method);
    }
    pub fn slow(&self, method: &str, by: Duration) {
        self.inner.faults.slow(method, by);
    }
    /// How often `method` was called, failed calls included.
    pub fn calls(&self, method: &str) -> u64 {
        self.inner.faults.calls(method)
    }
    /// While false, every call fails with Unavailable. Going and coming are told as an engine's are.
    pub fn set_available(&self, available: bool) {
        let was = {
            let mut world = self.inner.world.lock();
            world.outage = match available {
                true => world.outage.map(|outage| outage.end(Timestamp::now())),
                false => Some(Outage::begin(world.outage, Timestamp::now())),
            };
            std::mem::replace(&mut world.away, !available)
        };
        if was == available {
            let _ = self.inner.events.send(ContainerEvent { id: None });
        }
    }
    /// The engine has images of every name but of these.
    pub fn set_image(&self, name: &str, there: bool) {
        let (name, missing) =
            (name.strip_prefix("sha256:").unwrap_or(name), &mut self.inner.world.lock().no_images);
        if there {
            missing.remove(name)
        } else {
            missing.insert(name.to_owned())
        };
    }
    /// Whether it goes on when it is asked to stop.
    pub fn ignore_stop(&self, id: Uuid, ignore: bool) {
        self.turn(id, |kept| kept.deaf = ignore);
    }
    /// Whether its links have MACs of the engine's own making from its next start on, until they are given theirs.
    pub fn forget_macs(&self, id: Uuid, forget: bool) {
        self.turn(id, |kept| kept.forgets_macs = forget);
    }
    /// What it was made by, as far as it is ours.
    pub fn made_by(&self, id: Uuid) -> Option<ContainerDef> {
        self.inner.world.lock().find(id).and_then(Kept::ours).cloned()
    }

    /// Changes a container that is there, without a word.
    fn turn(&self, id: Uuid, work: impl FnOnce(&mut Kept)) {
        work(self.inner.world.lock().find_mut(id).expect("a container that is there"));
    }
    /// As `turn`, and tells of it.
    fn behind(&self, id: Uuid, work: impl FnOnce(&mut Kept)) {
        let changed = self.inner.change(id, |kept| {
            work(kept);
            Ok(Change::Made)
        });
        changed.expect("a container that is there");
    }

    /// Its program ends with that.
    pub fn program_exits(&self, id: Uuid, code: i32) {
        self.behind(id, |kept| kept.end(ExitSeen { code, oom: false, error: None }));
    }
    /// The kernel ends it for want of memory.
    pub fn program_runs_out_of_memory(&self, id: Uuid) {
        self.behind(id, |kept| kept.end(ExitSeen { code: 137, oom: true, error: None }));
    }
    /// The engine learns that its end was for want of memory.
    pub fn told_of_want_of_memory(&self, id: Uuid) {
        self.behind(id, |kept| kept.exit.iter_mut().for_each(|exit| exit.oom = true));
    }
    /// What its checks found.
    pub fn set_health(&self, id: Uuid, state: HealthState, said: &str) {
        self.behind(id, |kept| {
            let failing = u32::from(state == HealthState::Unhealthy) * 3;
            kept.health = Some(HealthSeen { state, failing, said: said.to_owned() });
        });
    }
    /// Its program says this.
    pub fn program_says(&self, id: Uuid, err: bool, text: &str) {
        self.turn(id, |kept| {
            kept.log.push(Line { at: Timestamp::now(), err, text: Bytes::copy_from_slice(text.as_bytes()) });
        });
        self.inner.turns.send_modify(|turns| *turns += 1);
    }
    /// As `docker stop`.
    pub fn behind_our_back_stop(&self, id: Uuid) {
        self.program_exits(id, 143);
    }
    /// As `docker start`.
    pub fn behind_our_back_start(&self, id: Uuid) {
        self.behind(id, Kept::begin);
    }
    /// As `docker rm -f`.
    pub fn behind_our_back_remove(&self, id: Uuid) {
        let taken = self.inner.world.lock().take(id);
        taken.expect("a container that is there");
        self.inner.told(id);
    }
    /// As `docker network disconnect`.
    pub fn behind_our_back_disconnect(&self, id: Uuid, network: Uuid) {
        self.behind(id, |kept| kept.endpoints.retain(|e| e.network != Wired::Ours(network)));
    }
    /// As `ip link del` of its link on that network, of which the engine knows nothing.
    pub fn behind_our_back_unlink(&self, id: Uuid, network: Uuid) {
        self.behind(id, |kept| {
            let lost = kept.endpoints.iter_mut().filter(|e| e.network == Wired::Ours(network));
            lost.for_each(|endpoint| endpoint.linked = false);
        });
    }
    /// As `docker network connect bridge`.
    pub fn behind_our_back_connect(&self, id: Uuid, network: &str) {
        self.behind(id, |kept| {
            let network = Wired::Foreign(network.to_owned());
            kept.endpoints.push(EndpointSeen { network, ip: None, mac: None, linked: true });
        });
    }
    /// A container that somebody else made: the engine's id of it.
    pub fn add_foreign(&self, def: ForeignDef) -> String {
        let mut world = self.inner.world.lock();
        let engine_id = world.new_engine_id();
        let mut def = def;
        def.seen.engine_id.clone_from(&engine_id);
        let mut kept =
            Kept::new(engine_id.clone(), def.seen.name.clone(), Made::Foreign(Box::new(def.clone())));
        kept.state = def.seen.state;
        kept.limits = def.limits.clone();
        kept.endpoints = def
            .networks
            .iter()
            .map(|name| EndpointSeen {
                network: Wired::Foreign(name.clone()),
                ip: None,
                mac: None,
                linked: true,
            })
            .collect();
        world.containers.insert(engine_id.clone(), kept);
        engine_id
    }
}
