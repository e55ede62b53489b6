//! The domains of the fake and how they change. Every change that libvirt would tell of sends an event.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use agentd_api::ByteSize;
use agentd_api::vm::AlarmKind;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::sync::broadcast;
use uuid::Uuid;

use super::disks::at_start;
use crate::vm::{
    Change, DiskSeen, DomainEvent, DomainNic, DomainSeen, DomainSpec, HardwareSeen, LiveSeen, NicSeen,
    OffReason, Power, Tuning, VmError,
};

/// One domain: there as long as it is defined, or runs, or both.
#[derive(Debug, Default)]
pub(super) struct Domain {
    pub(super) defined: Option<DomainSpec>,
    /// What it was started with, while it runs.
    pub(super) live: Option<DomainSpec>,
    /// Since when it runs.
    since: Option<Instant>,
    /// The disks that it has while it runs.
    pub(super) plugged: Vec<DiskSeen>,
    /// The serials of those that it was asked to let go of.
    pub(super) leaving: BTreeSet<String>,
    /// How large disks were made under it.
    pub(super) sizes: BTreeMap<String, ByteSize>,
    paused: bool,
    off: Option<OffReason>,
    /// How often it was started.
    runs: u64,
}

#[derive(Debug)]
pub(super) struct Domains {
    all: Mutex<BTreeMap<Uuid, Domain>>,
    events: broadcast::Sender<DomainEvent>,
}

pub(super) fn digest(spec: &DomainSpec) -> String {
    let spec = DomainSpec { disks: Vec::new(), cdrom: None, ..spec.clone() };
    hex::encode(&Sha256::digest(format!("{spec:?}").as_bytes())[..16])
}

pub(super) fn fixed_digest(spec: &DomainSpec) -> String {
    let none = ByteSize(0);
    let plain = DomainSpec {
        cpus: 0,
        cpus_max: 0,
        memory: none,
        memory_max: none,
        nics: Vec::new(),
        tuning: Tuning::default(),
        ..spec.clone()
    };
    digest(&plain)
}

fn live(spec: &DomainSpec) -> LiveSeen {
    let nic = |nic: &DomainNic| NicSeen { mac: nic.mac, bridge: nic.bridge.clone(), tap: nic.tap.clone() };
    LiveSeen {
        fixed: Some(fixed_digest(spec)),
        cpus: spec.cpus,
        cpus_max: spec.cpus_max.max(spec.cpus),
        memory: spec.memory,
        memory_max: spec.memory_max.max(spec.memory),
        nics: spec.nics.iter().map(nic).collect(),
        hardware: HardwareSeen {
            huge_pages: spec.hardware.huge_pages,
            nested: spec.hardware.nesting.is_some_and(|nesting| nesting.wanted),
            watchdog: spec.hardware.watchdog,
            graphics: spec.graphics,
        },
    }
}

impl Domain {
    fn seen(&self, id: Uuid) -> DomainSeen {
        let power = match (&self.live, self.paused) {
            (None, _) => Power::Off,
            (Some(_), true) => Power::Paused,
            (Some(_), false) => Power::Running,
        };
        DomainSeen {
            id,
            power,
            off: (power == Power::Off).then(|| self.off.unwrap_or(OffReason::Unknown)),
            persistent: self.defined.is_some(),
            digest: self.defined.as_ref().or(self.live.as_ref()).map(digest),
            accel: self.live.as_ref().or(self.defined.as_ref()).map(|spec| spec.accel),
            live: self.live.as_ref().map(live),
            disks: match (&self.live, &self.defined) {
                (None, Some(defined)) => at_start(defined),
                (Some(_), _) | (None, None) => self.plugged.clone(),
            },
        }
    }
}

impl Domains {
    pub(super) fn new() -> Self {
        Self { all: Mutex::default(), events: broadcast::Sender::new(4096) }
    }

    pub(super) fn events(&self) -> broadcast::Receiver<DomainEvent> {
        self.events.subscribe()
    }

    /// None: changes may have been missed.
    pub(super) fn tell(&self, id: Option<Uuid>) {
        // Nobody listening is no failure.
        let _ = self.events.send(DomainEvent { id, alarm: None });
    }

    pub(super) fn alarm(&self, id: Uuid, what: AlarmKind) {
        let _ = self.events.send(DomainEvent { id: Some(id), alarm: Some(what) });
    }

    /// Whether it runs, and so has the limits now.
    pub(super) fn tune(&self, id: Uuid, tuning: Tuning) -> Result<bool, VmError> {
        let mut all = self.all.lock();
        let domain = all.get_mut(&id).ok_or(VmError::Missing(id))?;
        let Some(live) = &mut domain.live else { return Ok(false) };
        live.tuning = tuning;
        Ok(true)
    }

    pub(super) fn tuning(&self, id: Uuid) -> Option<Tuning> {
        self.all.lock().get(&id)?.live.as_ref().map(|live| live.tuning.clone())
    }

    /// Does `act` to a domain that is there.
    pub(super) fn with<T>(&self, id: Uuid, act: impl FnOnce(&mut Domain) -> T) -> Option<T> {
        self.all.lock().get_mut(&id).map(act)
    }

    pub(super) fn list(&self) -> Vec<DomainSeen> {
        self.all.lock().iter().map(|(id, domain)| domain.seen(*id)).collect()
    }

    pub(super) fn observe(&self, id: Uuid) -> Option<DomainSeen> {
        self.all.lock().get(&id).map(|domain| domain.seen(id))
    }

    /// How often that domain was started: tells one run of a guest from the next.
    pub(super) fn run_of(&self, id: Uuid) -> u64 {
        self.all.lock().get(&id).map_or(0, |domain| domain.runs)
    }

    /// What runs or is paused, and for how long it has.
    pub(super) fn running(&self) -> Vec<(DomainSpec, Duration)> {
        let all = self.all.lock();
        let running = all.values().filter_map(|domain| {
            Some((domain.live.clone()?, domain.since.map_or(Duration::ZERO, |since| since.elapsed())))
        });
        running.collect()
    }

    /// What it was started with, if it runs.
    pub(super) fn live(&self, id: Uuid) -> Option<DomainSpec> {
        self.all.lock().get(&id).and_then(|domain| domain.live.clone())
    }

    pub(super) fn defined(&self, id: Uuid) -> Option<DomainSpec> {
        self.all.lock().get(&id).and_then(|domain| domain.defined.clone())
    }

    pub(super) fn define(&self, spec: DomainSpec) -> Result<Change, VmError> {
        let id = spec.id;
        {
            let mut all = self.all.lock();
            let domain = all.entry(id).or_default();
            if domain.defined.as_ref() == Some(&spec) {
                return Ok(Change::AlreadySo);
            }
            domain.defined = Some(spec);
        }
        self.tell(Some(id));
        Ok(Change::Made)
    }

    pub(super) fn running_with(&self, id: Uuid) -> Option<DomainSpec> {
        self.all.lock().get(&id).and_then(|domain| domain.live.clone())
    }

    /// Changes what a guest runs with, and not what it is defined by.
    pub(super) fn change_running(
        &self,
        id: Uuid,
        call: &'static str,
        change: impl FnOnce(&mut DomainSpec) -> Result<Change, VmError>,
    ) -> Result<Change, VmError> {
        let mut all = self.all.lock();
        let domain = all.get_mut(&id).ok_or(VmError::Missing(id))?;
        let off = || VmError::Failed { call, detail: "the guest is off".to_owned() };
        change(domain.live.as_mut().ok_or_else(off)?)
    }

    pub(super) fn start(&self, id: Uuid) -> Result<Change, VmError> {
        {
            let mut all = self.all.lock();
            let domain = all.get_mut(&id).ok_or(VmError::Missing(id))?;
            if domain.live.is_some() {
                return Ok(Change::AlreadySo);
            }
            let defined = domain.defined.clone().ok_or(VmError::Missing(id))?;
            domain.plugged = at_start(&defined);
            domain.live = Some(defined);
            domain.leaving.clear();
            domain.since = Some(Instant::now());
            (domain.paused, domain.off) = (false, None);
            domain.runs += 1;
        }
        self.tell(Some(id));
        Ok(Change::Made)
    }

    pub(super) fn asked_to_power_off(&self, id: Uuid) -> Result<Change, VmError> {
        let all = self.all.lock();
        let domain = all.get(&id).ok_or(VmError::Missing(id))?;
        Ok(if domain.live.is_some() { Change::Made } else { Change::AlreadySo })
    }

    pub(super) fn set_paused(&self, id: Uuid, paused: bool) -> Result<Change, VmError> {
        {
            let mut all = self.all.lock();
            let domain = all.get_mut(&id).ok_or(VmError::Missing(id))?;
            if domain.live.is_none() {
                let call = if paused { "pause" } else { "resume" };
                return Err(VmError::Failed { call, detail: "the guest is off".to_owned() });
            }
            if domain.paused == paused {
                return Ok(Change::AlreadySo);
            }
            domain.paused = paused;
        }
        self.tell(Some(id));
        Ok(Change::Made)
    }

    pub(super) fn destroy(&self, id: Uuid) -> Change {
        self.power_off(id, OffReason::Destroyed)
    }

    pub(super) fn power_off_by_guest(&self, id: Uuid) {
        // A paused guest executes nothing and so cannot power off.
        if self.observe(id).is_some_and(|seen| seen.power == Power::Running) {
            self.power_off(id, OffReason::Shutdown);
        }
    }

    pub(super) fn power_off(&self, id: Uuid, why: OffReason) -> Change {
        {
            let mut all = self.all.lock();
            let Some(domain) = all.get_mut(&id) else { return Change::AlreadySo };
            if domain.live.take().is_none() {
                return Change::AlreadySo;
            }
            (domain.paused, domain.off) = (false, Some(why));
            domain.plugged.clear();
            if domain.defined.is_none() {
                all.remove(&id);
            }
        }
        self.tell(Some(id));
        Change::Made
    }

    pub(super) fn undefine(&self, id: Uuid) -> Result<Change, VmError> {
        if self.observe(id).is_some_and(|seen| seen.power != Power::Off) {
            return Err(VmError::Failed { call: "undefine", detail: "the guest runs".to_owned() });
        }
        Ok(self.forget_definition(id))
    }

    /// As `virsh undefine`: a guest that runs goes on, and vanishes when it stops.
    pub(super) fn forget_definition(&self, id: Uuid) -> Change {
        {
            let mut all = self.all.lock();
            let Some(domain) = all.get_mut(&id) else { return Change::AlreadySo };
            if domain.defined.take().is_none() {
                return Change::AlreadySo;
            }
            if domain.live.is_none() {
                all.remove(&id);
            }
        }
        self.tell(Some(id));
        Change::Made
    }
}
