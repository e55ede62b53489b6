//! What the fake's engine has.

use std::collections::{BTreeMap, BTreeSet};

use agentd_api::{MacAddr, Timestamp};
use bytes::Bytes;
use uuid::Uuid;

use crate::container::{
    ContainerDef, ContainerListed, ContainerSeen, ContainerState, EndpointSeen, EngineNetwork, EngineRestart,
    EngineVolume, ExitSeen, ForeignDef, ForeignSeen, HealthSeen, HealthState, HealthWish, Limits, Wired,
};
use crate::engine::Outage;

/// The tag of the fake's daemon.
pub(super) fn name_of(def: &ContainerDef) -> String {
    format!("agentd-fake.{}.{}", def.project, def.name)
}

#[derive(Debug, Default)]
pub(super) struct World {
    pub(super) away: bool,
    pub(super) outage: Option<Outage>,
    /// By the engine's id.
    pub(super) containers: BTreeMap<String, Kept>,
    pub(super) networks: BTreeMap<Uuid, EngineNetwork>,
    pub(super) volumes: BTreeMap<Uuid, EngineVolume>,
    /// The engine's ids of those that were adopted.
    pub(super) attended: BTreeMap<Uuid, String>,
    /// Images that it does not have.
    pub(super) no_images: BTreeSet<String>,
    made: u64,
}

/// A container. One that was adopted, or is foreign, has no `id`.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    pub(super) engine_id: String,
    pub(super) id: Option<Uuid>,
    pub(super) name: String,
    pub(super) state: ContainerState,
    pub(super) exit: Option<ExitSeen>,
    pub(super) created_at: Timestamp,
    pub(super) started_at: Option<Timestamp>,
    pub(super) finished_at: Option<Timestamp>,
    pub(super) health: Option<HealthSeen>,
    pub(super) def: Made,
    pub(super) limits: Limits,
    pub(super) endpoints: Vec<EndpointSeen>,
    pub(super) log: Vec<Line>,
    pub(super) files: BTreeMap<String, Vec<u8>>,
    /// It does not end when it is asked to.
    pub(super) deaf: bool,
    /// It was asked to stop while it was paused.
    pub(super) asked: bool,
    /// As with Docker 25 to 29.2 and an endpoint that was plugged in later: each start makes its MACs up.
    pub(super) forgets_macs: bool,
}

#[derive(Debug, Clone)]
pub(super) enum Made {
    Ours(Box<ContainerDef>),
    Foreign(Box<ForeignDef>),
}

/// What it said at a time.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) at: Timestamp,
    pub(super) err: bool,
    pub(super) text: Bytes,
}

impl World {
    /// An image's own id is its name, behind "sha256:".
    pub(super) fn image_id(&self, name: &str) -> Option<String> {
        let plain = name.strip_prefix("sha256:").unwrap_or(name);
        (!self.no_images.contains(plain)).then(|| format!("sha256:{plain}"))
    }

    pub(super) fn new_engine_id(&mut self) -> String {
        self.made += 1;
        format!("{:064x}", self.made)
    }

    pub(super) fn attend(&mut self, id: Uuid, engine_id: &str) {
        self.attended.insert(id, engine_id.to_owned());
    }

    fn engine_id(&self, id: Uuid) -> Option<String> {
        if let Some(engine_id) = self.attended.get(&id) {
            return Some(engine_id.clone());
        }
        self.containers.values().find(|kept| kept.id == Some(id)).map(|kept| kept.engine_id.clone())
    }

    pub(super) fn find(&self, id: Uuid) -> Option<&Kept> {
        self.containers.get(&self.engine_id(id)?)
    }

    pub(super) fn find_mut(&mut self, id: Uuid) -> Option<&mut Kept> {
        let engine_id = self.engine_id(id)?;
        self.containers.get_mut(&engine_id)
    }

    pub(super) fn take(&mut self, id: Uuid) -> Option<Kept> {
        let engine_id = self.engine_id(id)?;
        self.containers.remove(&engine_id)
    }

    /// Whose the container is, if it is anybody's.
    fn owner(&self, kept: &Kept) -> Option<Uuid> {
        let attended = self.attended.iter().find(|(_, engine_id)| **engine_id == kept.engine_id);
        attended.map(|(id, _)| *id).or(kept.id)
    }

    pub(super) fn list(&self) -> Vec<ContainerListed> {
        let listed = |kept: &Kept| {
            let id = self.owner(kept)?;
            let engine_id = kept.engine_id.clone();
            let ours = |e: &&EndpointSeen| e.linked && matches!(e.network, Wired::Ours(_));
            let links = kept.state.is_on().then(|| kept.endpoints.iter().filter(ours).count());
            Some(ContainerListed { id, engine_id, state: kept.state, digest: kept.digest(), links })
        };
        self.containers.values().filter_map(listed).collect()
    }

    pub(super) fn foreign(&self) -> Vec<ForeignSeen> {
        let foreign = self.containers.values().filter(|kept| self.owner(kept).is_none());
        foreign.filter_map(Kept::foreign).map(|def| def.seen).collect()
    }

    pub(super) fn foreign_def(&self, name: &str) -> Option<ForeignDef> {
        let named = |kept: &&Kept| kept.engine_id == name || kept.name == name;
        self.containers.values().filter(|kept| self.owner(kept).is_none()).find(named)?.foreign()
    }
}

impl Kept {
    pub(super) fn new(engine_id: String, name: String, def: Made) -> Self {
        Self {
            engine_id,
            id: None,
            name,
            state: ContainerState::Created,
            exit: None,
            created_at: Timestamp::now(),
            started_at: None,
            finished_at: None,
            health: None,
            def,
            limits: Limits::default(),
            endpoints: Vec::new(),
            log: Vec::new(),
            files: BTreeMap::new(),
            deaf: false,
            asked: false,
            forgets_macs: false,
        }
    }

    fn foreign(&self) -> Option<ForeignDef> {
        let Made::Foreign(def) = &self.def else { return None };
        let mut def = ForeignDef::clone(def);
        def.seen.state = self.state;
        // As it was made, where it is to be told at all.
        def.seen.privileged = def.seen.privileged.map(|_| def.security.privileged);
        Some(def)
    }

    pub(super) fn ours(&self) -> Option<&ContainerDef> {
        match &self.def {
            Made::Ours(def) => Some(def),
            Made::Foreign(_) => None,
        }
    }

    fn digest(&self) -> Option<String> {
        self.ours().map(crate::container::def::digest)
    }

    pub(super) fn seen(&self, id: Uuid) -> ContainerSeen {
        let (image, privileged, terminal) = match &self.def {
            Made::Ours(def) => (def.image.clone(), def.security.privileged, def.terminal),
            Made::Foreign(def) => (def.image_id.clone(), def.security.privileged, def.terminal),
        };
        let mut endpoints = self.endpoints.clone();
        endpoints.sort();
        ContainerSeen {
            id,
            engine_id: self.engine_id.clone(),
            name: self.name.clone(),
            state: self.state,
            exit: self.exit.clone(),
            pid: self.state.is_on().then_some(4242),
            created_at: Some(self.created_at),
            started_at: self.started_at,
            finished_at: self.finished_at,
            health: self.health.clone(),
            digest: self.digest(),
            image,
            privileged,
            terminal,
            restarts: self.restarts(),
            limits: self.limits.clone(),
            endpoints,
        }
    }

    fn restarts(&self) -> bool {
        matches!(&self.def, Made::Foreign(def) if def.restart != EngineRestart::Never)
    }

    pub(super) fn begin(&mut self) {
        self.state = ContainerState::Running;
        self.started_at = Some(Timestamp::now());
        (self.exit, self.asked) = (None, false);
        for endpoint in &mut self.endpoints {
            endpoint.linked = true;
            if let (true, Some(ip)) = (self.forgets_macs, endpoint.ip) {
                let [a, b, c, d] = ip.octets();
                endpoint.mac = Some(MacAddr([0x02, 0x42, a, b, c, d]));
            }
        }
        let checked = self.ours().is_some_and(|def| matches!(def.health, HealthWish::Program { .. }));
        self.health =
            checked.then(|| HealthSeen { state: HealthState::Starting, failing: 0, said: String::new() });
        let exits = self.ours().and_then(|def| def.command.as_deref()).and_then(|command| match command {
            [exit, code] if exit == "exit" => code.parse().ok(),
            _ => None,
        });
        if let Some(code) = exits {
            self.end(ExitSeen { code, oom: false, error: None });
        }
    }

    pub(super) fn end(&mut self, exit: ExitSeen) {
        self.state = ContainerState::Exited;
        self.finished_at = Some(Timestamp::now());
        self.exit = Some(exit);
        // Whatever was found out of it is of what ran.
        self.health = None;
    }

    pub(super) fn wired(&self, network: &Wired) -> Option<usize> {
        self.endpoints.iter().position(|endpoint| endpoint.network == *network)
    }
}
