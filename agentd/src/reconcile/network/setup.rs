//! What the networks and the firewall of this host should be, worked out from the store.
//!
//! Kept up to date guest by guest, so that one VM more among thousands costs one VM's work here, not thousands'.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::Ipv4Addr;
use std::sync::Arc;

use agentd_api::container::Container;
use agentd_api::network::Network;
use agentd_api::nic::NicAddress;
use agentd_api::vm::Vm;
use agentd_api::{Cidr, Kind, ObjectKey, ObjectName, PortMap, Timestamp};
use agentd_drivers::network::{FirewallNetwork, FirewallSetup, Forward, HostEntry, NetworkSetup};
use agentd_store::{Query, Store, Stored};
use serde::Deserialize;
use uuid::Uuid;

use crate::reconcile::container::CONTAINER;
use crate::reconcile::vm::DOMAIN;

/// The DNS domain of a network's hosts: below `internal`, which the public DNS never has names in.
pub fn domain(project: &ObjectName, name: &ObjectName) -> String {
    if project.as_str() == agentd_api::name::DEFAULT_PROJECT {
        format!("{name}.internal")
    } else {
        format!("{name}.{project}.internal")
    }
}

#[derive(Debug, Default)]
pub struct Setups {
    networks: BTreeMap<ObjectKey, Known>,
    hosts: HashMap<ObjectKey, BTreeMap<Ipv4Addr, HostEntry>>,
    guests: HashMap<ObjectKey, Guest>,
    /// Guest -> its published ports, without the network's id.
    forwards: BTreeMap<ObjectKey, (ObjectKey, Vec<Forward>)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    id: Uuid,
    cidr: Cidr,
    nat: bool,
}

/// What one guest adds to the networks it is on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Guest {
    /// The networks that its object names, also once it has left them.
    on: Vec<ObjectKey>,
    hosts: Vec<(ObjectKey, HostEntry)>,
    forwards: Vec<Forward>,
}

/// What of a VM or a container says where it is.
#[derive(Deserialize)]
struct Placed {
    project: ObjectName,
    name: ObjectName,
    deleting_at: Option<Timestamp>,
    finalizers: Vec<String>,
    spec: Publishes,
    #[serde(default)]
    status: Places,
}

#[derive(Deserialize)]
struct Publishes {
    #[serde(default)]
    publish: Vec<PortMap>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Places {
    addresses: Vec<NicAddress>,
    /// What its guest has not let go of is still its.
    leaving: Vec<NicAddress>,
}

impl Guest {
    /// `undone_first` is the finalizer that is written off once the host is clean of what used its addresses.
    fn of(placed: &Placed, undone_first: &str) -> Self {
        let Placed { project, name, deleting_at, finalizers, spec, status } = placed;
        let all = status.addresses.iter().chain(&status.leaving);
        let key = |network: &ObjectName| ObjectKey::of::<Network>(project.clone(), network.clone());
        let on = all.clone().map(|a| key(&a.network)).collect();
        // Once that is gone one that is being deleted has no place on the network any more.
        if deleting_at.is_some() && !finalizers.iter().any(|f| f == undone_first) {
            return Self { on, ..Self::default() };
        }
        let entry = |a: &NicAddress| HostEntry { name: name.clone(), ip: a.ip, mac: a.mac };
        let hosts = all.map(|a| (key(&a.network), entry(a))).collect();
        let forwards = status.addresses.first().into_iter().flat_map(|first| {
            spec.publish.iter().map(|port| Forward {
                network: Uuid::nil(),
                address: port.address,
                host: port.host,
                protocol: port.protocol,
                to: first.ip,
                guest: port.guest,
            })
        });
        Self { on, hosts, forwards: forwards.collect() }
    }
}

impl Setups {
    /// All of the store.
    pub fn load(store: &Store) -> Self {
        let mut setups = Self::default();
        for network in store.list(&Query::kind(Network::DEF.kind)).items {
            setups.read_network(store, network.key());
        }
        for kind in [Vm::DEF.kind, Container::DEF.kind] {
            for guest in store.list(&Query::kind(kind)).items {
                setups.read_guest(store, guest.key());
            }
        }
        setups
    }

    /// Looks at one network again.
    pub fn read_network(&mut self, store: &Store, key: &ObjectKey) {
        let object = store.get(key).and_then(|stored| stored.object::<Network>().ok());
        match object.filter(|o| !o.meta.deleting()) {
            Some(o) => {
                let known = Known { id: o.meta.id, cidr: o.spec.cidr, nat: o.spec.nat };
                self.networks.insert(key.clone(), known);
            }
            None => self.forget_network(key),
        }
    }

    pub fn forget_network(&mut self, key: &ObjectKey) {
        self.networks.remove(key);
    }

    /// Looks at one VM or container again. The networks on which something changed by that.
    pub fn read_guest(&mut self, store: &Store, key: &ObjectKey) -> BTreeSet<ObjectKey> {
        let undone_first = if key.kind == Container::DEF.kind { CONTAINER } else { DOMAIN };
        let read = |stored: Arc<Stored>| stored.part().map(|placed| Guest::of(&placed, undone_first));
        let guest = match store.get(key).map(read) {
            None => Guest::default(),
            Some(Ok(guest)) => guest,
            // What cannot be read keeps the place it had.
            Some(Err(_)) => return BTreeSet::new(),
        };
        let old = self.guests.get(key).cloned().unwrap_or_default();
        if old == guest {
            return BTreeSet::new();
        }
        let differs =
            |entry: &&(ObjectKey, HostEntry)| !(old.hosts.contains(entry) && guest.hosts.contains(entry));
        let touched = old.hosts.iter().chain(&guest.hosts).filter(differs).map(|(n, _)| n.clone()).collect();
        for (network, entry) in &old.hosts {
            // It may be another's by now.
            if let Some(hosts) = self.hosts.get_mut(network)
                && hosts.get(&entry.ip) == Some(entry)
            {
                hosts.remove(&entry.ip);
            }
        }
        for (network, entry) in &guest.hosts {
            self.hosts.entry(network.clone()).or_default().insert(entry.ip, entry.clone());
        }
        self.forwards.remove(key);
        if let Some((network, _)) = guest.hosts.first()
            && !guest.forwards.is_empty()
        {
            self.forwards.insert(key.clone(), (network.clone(), guest.forwards.clone()));
        }
        self.guests.insert(key.clone(), guest);
        touched
    }

    pub fn networks(&self) -> impl Iterator<Item = &ObjectKey> {
        self.networks.keys()
    }

    /// The networks that a guest's object names: it is on them, or has left them.
    pub fn networks_of(&self, guest: &ObjectKey) -> Vec<ObjectKey> {
        self.guests.get(guest).map(|g| g.on.clone()).unwrap_or_default()
    }

    /// Forgets a guest that has left all networks.
    pub fn forget_if_off(&mut self, guest: &ObjectKey) {
        if self.guests.get(guest).is_some_and(|g| g.hosts.is_empty()) {
            self.guests.remove(guest);
        }
    }

    /// How many guests have an address on that network.
    pub fn hosts_on(&self, network: &ObjectKey) -> usize {
        self.hosts.get(network).map_or(0, BTreeMap::len)
    }

    /// None where there is no such network, or it is being deleted.
    pub fn network(&self, key: &ObjectKey) -> Option<NetworkSetup> {
        let known = self.networks.get(key)?;
        Some(NetworkSetup {
            id: known.id,
            project: key.project.clone(),
            name: key.name.clone(),
            cidr: known.cidr,
            nat: known.nat,
            domain: domain(&key.project, &key.name),
            hosts: self.hosts.get(key).into_iter().flat_map(|h| h.values().cloned()).collect(),
        })
    }

    pub fn firewall(&self) -> FirewallSetup {
        let networks = self.networks.values().map(|k| FirewallNetwork { id: k.id, cidr: k.cidr, nat: k.nat });
        let forwards = self.forwards.values().flat_map(|(network, forwards)| {
            let id = self.networks.get(network).map(|k| k.id);
            forwards.iter().filter_map(move |f| id.map(|network| Forward { network, ..f.clone() }))
        });
        FirewallSetup { networks: networks.collect(), forwards: forwards.collect() }
    }
}
