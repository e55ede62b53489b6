//! Makes what a container stands on: its place on the network, the engine's side of its volumes, itself; and starts it.

use agentd_api::container::{ContainerStarting, ContainerStatus};
use agentd_api::{Progress, State, Timestamp};
use agentd_drivers::container::{ContainerSeen, ContainerState, Created, EngineNetwork, MountSource};

use super::apply::{Halt, Turn, Work};
use super::define;
use super::needs::{self, AFTER_READY, Needs, NeedsFault};
use super::observe;
use crate::reconcile::guest::life::STOPPING;
use crate::reconcile::guest::needs::{IMAGE_READY, NETWORK_READY, VOLUMES_READY, Waiting};
use crate::reconcile::runtime::{Fault, Note};

/// There only where the container that is there was made otherwise than its spec says now.
pub const MADE_AS_WANTED: &str = "made_as_wanted";

impl Work<'_> {
    pub(super) async fn start(&mut self, restarts: u32, seen: Option<ContainerSeen>) -> Result<Turn, Halt> {
        let needs = match self.needs(true).await? {
            Ok(needs) => needs,
            Err(waiting) => return Ok(self.wait_for(waiting)),
        };
        self.begin_start(restarts, &needs, seen.as_ref()).await?;
        let queue = &self.containers.queue;
        let _place = if queue.holds(self.pass.key()) { queue.place().await } else { None };
        self.prepare(&needs).await?;
        let (driver, id) = (self.containers.driver(), self.object.meta.id);
        self.told(driver.start(id).await)?;
        if self.wants_pause() {
            self.told(driver.pause(id).await)?;
        }
        self.containers.turn_is_over(self.pass.key(), Some(self.object.spec.autostart.delay.duration()));
        self.notes.push(Note::done("started", format!("of image '{}'", self.object.spec.image)));
        Ok(Turn::Again)
    }

    /// Not started. What it is made of is written down before.
    pub(super) async fn make(&mut self) -> Result<Turn, Halt> {
        let needs = match self.needs(false).await? {
            Ok(needs) => needs,
            Err(waiting) => return Ok(self.wait_for(waiting)),
        };
        self.status.image_digest = Some(needs.image.clone());
        self.publish().await?;
        self.prepare(&needs).await?;
        Ok(Turn::Again)
    }

    async fn needs(&self, started: bool) -> Result<Result<Needs, Waiting>, Halt> {
        let gathered = needs::gather(self.containers, self.pass, self.object, &self.status, started).await;
        match gathered {
            Ok(needs) => Ok(needs),
            Err(NeedsFault::Fault(fault)) => Err(Halt::Fault(fault)),
            Err(NeedsFault::Driver(error)) => self.told(Err(error)),
        }
    }

    /// Written down before anything is made: what it is made of, and that it is about to be started.
    async fn begin_start(
        &mut self,
        restarts: u32,
        needs: &Needs,
        seen: Option<&ContainerSeen>,
    ) -> Result<(), Halt> {
        let status = &mut self.status;
        status.restarts = restarts;
        status.restart_requested = false;
        status.started_generation = None;
        status.held_boot = None;
        status.health = None;
        status.image_digest = Some(needs.image.clone());
        let before = seen.and_then(|seen| seen.started_at);
        status.starting = Some(ContainerStarting { generation: self.object.meta.generation, before });
        let common = &mut status.common;
        common.clear_condition(STOPPING);
        common.clear_condition(AFTER_READY);
        common.clear_condition(IMAGE_READY);
        common.state = State::Provisioning;
        common.reason = None;
        let step = "making it and its place on the network".to_owned();
        common.progress = Some(Progress::of_steps(step, 0, Some(2)));
        Ok(self.publish().await?)
    }

    /// What a start that was begun has come to: it may be one of a daemon that was killed since.
    pub(super) fn take_up_start(&mut self, seen: Option<&ContainerSeen>) {
        let Some(starting) = &self.status.starting else { return };
        let ran = seen.filter(|seen| seen.started_at.is_some() && seen.started_at > starting.before);
        let Some(seen) = ran else { return };
        let generation = starting.generation;
        self.has_started(seen);
        self.status.started_generation = Some(generation);
    }

    /// What is known of it from now on.
    pub(super) fn has_started(&mut self, seen: &ContainerSeen) {
        let at = observe::run(&self.status).start_at(seen.started_at.unwrap_or_else(Timestamp::now));
        self.status = ContainerStatus {
            starting: None,
            started_at: Some(at),
            finished_at: None,
            exit_code: None,
            oom_killed: false,
            engine_id: Some(seen.engine_id.clone()),
            host_boot: Some(self.containers.boot_id.clone()),
            ..self.status.clone()
        };
    }

    fn wait_for(&mut self, waiting: Waiting) -> Turn {
        let pinned = self.status.image_digest.is_some();
        waiting.tell(&mut self.status.common, pinned, &mut self.notes);
        // It holds up nobody who comes after it by a boot's order.
        self.containers.turn_is_over(self.pass.key(), None);
        Turn::End(None)
    }

    /// Makes its place on the network, and itself where it is not there; and has it as it should be where it is.
    async fn prepare(&mut self, needs: &Needs) -> Result<(), Halt> {
        self.networks(&needs.nics).await?;
        for mount in &needs.mounts {
            if let MountSource::Volume(volume) = &mount.source {
                self.told(self.containers.driver().ensure_volume(volume).await)?;
            }
        }
        self.status.common.clear_condition(VOLUMES_READY);
        let definition = define::definition(self.object, needs);
        let (driver, id) = (self.containers.driver(), self.object.meta.id);
        match self.told(driver.ensure_created(&definition).await)? {
            Created::Made => {
                self.status.common.clear_condition(MADE_AS_WANTED);
                self.notes.push(Note::done("created", format!("of {}", definition.image)));
            }
            created => {
                self.say_made(created == Created::AlreadySo);
                if let Some(seen) = self.told(driver.observe(id).await)? {
                    self.bring_to(&seen, &definition).await?;
                }
            }
        }
        Ok(())
    }

    /// Whether what is there was made as the spec says now. It is left as it is where not: what it holds is worth more.
    pub(super) fn say_made(&mut self, as_wanted: bool) {
        let common = &mut self.status.common;
        if as_wanted {
            common.clear_condition(MADE_AS_WANTED);
        } else {
            let reason = "what cannot be changed of a container differs: the name servers of its networks, or how this \
                          version of agentd makes it; another container has it";
            common.set_condition(MADE_AS_WANTED, false, reason);
        }
    }

    /// Its networks, made with it on them, and known to the engine.
    pub(super) async fn networks(&mut self, nics: &[needs::Nic]) -> Result<(), Halt> {
        if nics.is_empty() && self.status.leaving.is_empty() {
            return Ok(());
        }
        if let Err(fault) = self.containers.sync.guest(self.pass.key()).await {
            self.status.common.set_condition(NETWORK_READY, false, fault.message.clone());
            return Err(fault.into());
        }
        for nic in nics {
            let (network, cidr) = (&nic.network, nic.network.spec.cidr);
            let bridge = self.containers.drivers.network.bridge(network.meta.id);
            let wanted = EngineNetwork { id: network.meta.id, bridge, cidr, gateway: cidr.gateway() };
            self.told(self.containers.driver().ensure_network(&wanted).await)?;
        }
        self.status.common.set_condition(NETWORK_READY, true, "");
        Ok(())
    }

    /// Names that it had before, in the DNS of its networks.
    pub(super) async fn forget_old_names(&mut self) -> Result<(), Fault> {
        let old = std::mem::take(&mut self.status.renamed_from);
        if old.is_empty() {
            return Ok(());
        }
        for name in &old {
            let mut key = self.pass.key().clone();
            key.name = name.clone();
            // Another may have come under that name: it is told of that one then.
            if let Err(fault) = self.containers.sync.guest(&key).await {
                self.status.renamed_from = old;
                return Err(fault);
            }
        }
        if !self.status.addresses.is_empty()
            && let Err(fault) = self.containers.sync.guest(self.pass.key()).await
        {
            self.status.renamed_from = old;
            return Err(fault);
        }
        self.status.renamed = true;
        Ok(())
    }
}

/// Whether it has processes.
pub(super) fn is_on(seen: &ContainerSeen) -> bool {
    matches!(seen.state, ContainerState::Running | ContainerState::Paused)
}
