//! Makes networks so: the bridge, its address, DHCP and DNS for the VMs on it, the firewall.
//!
//! A network's pass and every VM's pass go through [`NetworkSync`], the one task that touches networks on the host. This
//! module owns what a network's object shows. A network that cannot be made is not `ready`, with the reason, and VMs
//! that need it wait for it.

mod default;
mod setup;
mod sync;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use agentd_api::network::{Network, NetworkStatus};
use agentd_api::{Object, State};
use agentd_drivers::container::ContainerDriver;
use agentd_drivers::network::NetworkDriver;
use async_trait::async_trait;

use super::backend::Away;
use super::runtime::{Fault, Note, Outcome, Pass, Reconciler};

pub use default::{DefaultNetworkError, ensure_default_network};
pub use setup::domain;
pub use sync::{NetworkSync, SyncTask};

/// The one thing that a network has on the host.
pub const BRIDGE: &str = "bridge";

pub struct Networks {
    pub driver: Arc<dyn NetworkDriver>,
    pub containers: Arc<dyn ContainerDriver>,
    pub sync: NetworkSync,
}

#[async_trait]
impl Reconciler for Networks {
    type Kind = Network;

    async fn reconcile(&self, pass: &Pass, object: &Object<Network>) -> Outcome<NetworkStatus> {
        let mut status = object.status.clone();
        status.bridge = Some(self.driver.bridge(object.meta.id));
        status.gateway = Some(object.spec.cidr.gateway());
        status.domain = Some(setup::domain(&object.meta.project, &object.meta.name));
        let was = status.common.state;
        let fault = match self.sync.network(pass.key()).await {
            Ok(seen) if seen.bridge && seen.dns => None,
            Ok(seen) if seen.bridge => Some(Fault::transient("its DHCP and DNS server does not run")),
            Ok(_) => Some(Fault::transient("its bridge is not up")),
            Err(fault) => Some(fault),
        };
        let Some(fault) = fault else {
            (status.common.state, status.common.reason) = (State::Ready, None);
            let outcome = Outcome::settled(status);
            return match was {
                State::Ready => outcome,
                _ => outcome.note(Note::done("ready", format!("{} is up", object.spec.cidr))),
            };
        };
        status.common.state = State::Provisioning;
        Outcome::failed(status, fault)
    }

    async fn finalize(&self, pass: &Pass, object: &Object<Network>, finalizer: &str) -> Result<(), Fault> {
        match finalizer {
            BRIDGE => {
                self.undo_engine(object).await?;
                self.sync.remove(pass.key(), object.meta.id).await
            }
            other => Err(Fault::internal(format!("a network has nothing to undo by the name of '{other}'"))),
        }
    }
}

impl Networks {
    /// What the container engine knows of it. An engine that is away, or that was never there, does not keep a network: what
    /// it still has of it when it is back is swept.
    async fn undo_engine(&self, object: &Object<Network>) -> Result<(), Fault> {
        match self.containers.remove_network(object.meta.id).await {
            Err(error) if !error.is_away() => Err(error.into()),
            Ok(_) | Err(_) => Ok(()),
        }
    }
}
