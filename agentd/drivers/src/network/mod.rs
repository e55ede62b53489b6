//! Networks: bridges, their addresses, DHCP and DNS, the firewall.
//!
//! The whole of what should be is given each time, and the driver changes the difference: nothing is remembered that the
//! host does not show.

#[cfg(any(test, feature = "fake"))]
pub mod contract;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
pub mod host;

pub mod dnsmasq_config;
mod listener;
pub mod ruleset;

use std::net::Ipv4Addr;

use agentd_api::{Cidr, MacAddr, ObjectName, PortMap, Protocol};
use async_trait::async_trait;
use tokio::sync::broadcast;
use uuid::Uuid;

pub use listener::{Holder, Listener};

/// One network with the hosts on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkSetup {
    pub id: Uuid,
    pub project: ObjectName,
    pub name: ObjectName,
    pub cidr: Cidr,
    pub nat: bool,
    /// The DNS domain of its hosts.
    pub domain: String,
    /// Who may have an address and a name here, and nobody else. Sorted by address.
    pub hosts: Vec<HostEntry>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostEntry {
    pub name: ObjectName,
    pub ip: Ipv4Addr,
    pub mac: MacAddr,
}

/// What the firewall of this daemon should be: one table, replaced in one transaction.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FirewallSetup {
    pub networks: Vec<FirewallNetwork>,
    pub forwards: Vec<Forward>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirewallNetwork {
    pub id: Uuid,
    pub cidr: Cidr,
    pub nat: bool,
}

/// A published port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forward {
    pub network: Uuid,
    pub address: Option<Ipv4Addr>,
    pub host: u16,
    pub protocol: Protocol,
    pub to: Ipv4Addr,
    pub guest: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NetworkSeen {
    /// The bridge is there, bears our mark, is up and has its address.
    pub bridge: bool,
    /// dnsmasq of this network runs.
    pub dns: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    #[error("{what} is in the way: {detail}")]
    Conflict { what: String, detail: String },
    #[error("{program} is needed for this and is not installed")]
    ProgramMissing { program: String },
    #[error("the kernel cannot do this: {0}")]
    Unsupported(String),
    #[error("{step} failed: {detail}")]
    Failed { step: String, detail: String },
}

impl crate::Classed for NetworkError {
    fn class(&self) -> crate::Class {
        use crate::Class;
        match self {
            Self::Conflict { .. } => Class::Conflict,
            Self::ProgramMissing { .. } | Self::Unsupported(_) => Class::Unsupported,
            Self::Failed { .. } => Class::Transient,
        }
    }
}

#[async_trait]
pub trait NetworkDriver: Send + Sync {
    /// What this host lacks: (what, package that brings it). Empty where nothing.
    async fn missing(&self) -> Vec<(String, String)>;
    /// Bridge, address, DHCP and DNS as `setup` says, hosts included: a lease of a host that is no longer listed is gone
    /// when this returns. Calls for one network run one after the other.
    async fn ensure(&self, setup: &NetworkSetup) -> Result<NetworkSeen, NetworkError>;
    async fn observe(&self, id: Uuid) -> Result<NetworkSeen, NetworkError>;
    /// Makes the firewall so, where it is not.
    async fn ensure_firewall(&self, setup: &FirewallSetup) -> Result<(), NetworkError>;
    /// Ends dnsmasq, removes the bridge and the network's folder; nothing where they are gone already. The firewall is
    /// told by the next `ensure_firewall`.
    async fn remove(&self, id: Uuid) -> Result<(), NetworkError>;
    /// The networks of this daemon that have something on the host.
    async fn list(&self) -> Result<Vec<Uuid>, NetworkError>;
    /// IPv4 networks that the host itself has an address or a route in, ours excluded.
    async fn taken(&self) -> Result<Vec<Cidr>, NetworkError>;
    /// Who listens on the host where one of these ports, published, would catch it: nobody for a port that is free.
    async fn listeners(&self, ports: &[PortMap]) -> Result<Vec<Listener>, NetworkError>;
    fn bridge(&self, id: Uuid) -> String;
    /// Something of ours on the host may have changed (a link, an address, a rule, dnsmasq): look again.
    fn events(&self) -> broadcast::Receiver<()>;
    async fn close(&self);
}

#[cfg(test)]
mod tests;
