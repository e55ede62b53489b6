//! A network driver that makes nothing: a stateful stand-in for tests, agentd-sim and the benches.
//!
//! It keeps what it was told, answers as the real one would, and can be told to fail, to hang and to be slow. What was broken behind its back stays broken until `ensure` is called again, as on a host.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use agentd_api::{Cidr, PortMap};
use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::broadcast;
use uuid::Uuid;

use super::{FirewallSetup, Listener, NetworkDriver, NetworkError, NetworkSeen, NetworkSetup};
use crate::Instance;
use crate::faults::Faults;

#[derive(Debug)]
pub struct FakeNetwork {
    instance: Instance,
    faults: Faults<NetworkError>,
    state: Mutex<FakeState>,
    events: broadcast::Sender<()>,
}

#[derive(Debug, Default)]
struct FakeState {
    networks: BTreeMap<Uuid, NetworkSetup>,
    broken: BTreeSet<Uuid>,
    foreign: BTreeSet<Uuid>,
    firewall: FirewallSetup,
    taken: Vec<Cidr>,
    listeners: Vec<Listener>,
    lacks: Vec<(String, String)>,
}

impl FakeNetwork {
    /// The methods that can be made to fail, hang or be slow, by the names of the trait.
    pub const METHODS: &[&str] =
        &["ensure", "observe", "ensure_firewall", "remove", "list", "taken", "listeners"];

    pub fn new(instance: Instance) -> Arc<Self> {
        let events = broadcast::Sender::new(64);
        Arc::new(Self { instance, faults: Faults::new(Self::METHODS), state: Mutex::default(), events })
    }

    pub fn faults(&self) -> &Faults<NetworkError> {
        &self.faults
    }
    /// As `ip link del` and `kill` by somebody else: the bridge and its dnsmasq are gone, and an event tells of it.
    pub fn break_behind_our_back(&self, id: Uuid) {
        self.state.lock().broken.insert(id);
        let _ = self.events.send(());
    }
    /// As `nft flush ruleset` by somebody else.
    pub fn flush_firewall_behind_our_back(&self) {
        self.state.lock().firewall = FirewallSetup::default();
        let _ = self.events.send(());
    }
    /// A bridge of this network's name is there that is not ours: `ensure` is a conflict until this is taken back.
    pub fn foreign_bridge(&self, id: Uuid, there: bool) {
        let mut state = self.state.lock();
        if there {
            state.foreign.insert(id)
        } else {
            state.foreign.remove(&id)
        };
    }
    pub fn set_taken(&self, taken: Vec<Cidr>) {
        self.state.lock().taken = taken;
    }
    /// The programs of the host that listen, these and no others.
    pub fn set_listeners(&self, listeners: Vec<Listener>) {
        self.state.lock().listeners = listeners;
    }
    pub fn set_missing(&self, lacks: Vec<(String, String)>) {
        self.state.lock().lacks = lacks;
    }

    /// What `ensure` was last told of that network, or None where it was never made or is removed.
    pub fn network(&self, id: Uuid) -> Option<NetworkSetup> {
        self.state.lock().networks.get(&id).cloned()
    }
    pub fn networks(&self) -> Vec<NetworkSetup> {
        self.state.lock().networks.values().cloned().collect()
    }
    pub fn firewall(&self) -> FirewallSetup {
        self.state.lock().firewall.clone()
    }

    fn told(&self) {
        // Nobody listening is no error: the next pass looks by itself.
        let _ = self.events.send(());
    }
}

impl FakeState {
    fn see(&self, id: Uuid) -> NetworkSeen {
        let there = self.networks.contains_key(&id) && !self.broken.contains(&id);
        NetworkSeen { bridge: there, dns: there }
    }
}

#[async_trait]
impl NetworkDriver for FakeNetwork {
    async fn missing(&self) -> Vec<(String, String)> {
        self.state.lock().lacks.clone()
    }

    async fn ensure(&self, setup: &NetworkSetup) -> Result<NetworkSeen, NetworkError> {
        self.faults.pass("ensure").await?;
        let (seen, changed) = {
            let mut state = self.state.lock();
            if let Some((program, _)) = state.lacks.first() {
                return Err(NetworkError::ProgramMissing { program: program.clone() });
            }
            if state.foreign.contains(&setup.id) {
                let what = format!("the link {}", self.instance.bridge(setup.id));
                return Err(NetworkError::Conflict { what, detail: "agentd did not make it".to_owned() });
            }
            let mended = state.broken.remove(&setup.id);
            let before = state.networks.insert(setup.id, setup.clone());
            (state.see(setup.id), mended || before.as_ref() != Some(setup))
        };
        if changed {
            self.told();
        }
        Ok(seen)
    }

    async fn observe(&self, id: Uuid) -> Result<NetworkSeen, NetworkError> {
        self.faults.pass("observe").await?;
        Ok(self.state.lock().see(id))
    }

    async fn ensure_firewall(&self, setup: &FirewallSetup) -> Result<(), NetworkError> {
        self.faults.pass("ensure_firewall").await?;
        let changed = {
            let mut state = self.state.lock();
            std::mem::replace(&mut state.firewall, setup.clone()) != *setup
        };
        if changed {
            self.told();
        }
        Ok(())
    }

    async fn remove(&self, id: Uuid) -> Result<(), NetworkError> {
        self.faults.pass("remove").await?;
        let gone = {
            let mut state = self.state.lock();
            state.broken.remove(&id);
            state.networks.remove(&id).is_some()
        };
        if gone {
            self.told();
        }
        Ok(())
    }

    async fn list(&self) -> Result<Vec<Uuid>, NetworkError> {
        self.faults.pass("list").await?;
        Ok(self.state.lock().networks.keys().copied().collect())
    }

    async fn taken(&self) -> Result<Vec<Cidr>, NetworkError> {
        self.faults.pass("taken").await?;
        Ok(self.state.lock().taken.clone())
    }

    async fn listeners(&self, ports: &[PortMap]) -> Result<Vec<Listener>, NetworkError> {
        self.faults.pass("listeners").await?;
        let mut met = self.state.lock().listeners.clone();
        met.retain(|listener| ports.iter().any(|port| listener.is_met_by(port)));
        Ok(met)
    }

    fn bridge(&self, id: Uuid) -> String {
        self.instance.bridge(id)
    }
    fn events(&self) -> broadcast::Receiver<()> {
        self.events.subscribe()
    }
    async fn close(&self) {}
}
