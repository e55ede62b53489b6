//! The engine's networks.

use async_trait::async_trait;
use uuid::Uuid;

use super::FakeContainers;
use crate::container::{
    Change, ContainerError, ContainerNetworks, Endpoint, EndpointSeen, EngineNetwork, Wired,
};

#[async_trait]
impl ContainerNetworks for FakeContainers {
    async fn ensure_network(&self, network: &EngineNetwork) -> Result<Change, ContainerError> {
        let network = network.clone();
        self.call("ensure_network", move |inner| {
            let mut world = inner.world.lock();
            if world.networks.get(&network.id) == Some(&network) {
                return Ok(Change::AlreadySo);
            }
            let wired = Wired::Ours(network.id);
            if world.containers.values().any(|kept| kept.wired(&wired).is_some()) {
                let why = format!("containers are on network {}, which is another now", network.id);
                return Err(ContainerError::Conflict(why));
            }
            world.networks.insert(network.id, network);
            Ok(Change::Made)
        })
        .await
    }

    async fn remove_network(&self, network: Uuid) -> Result<Change, ContainerError> {
        self.call("remove_network", move |inner| {
            let mut world = inner.world.lock();
            if world.containers.values().any(|kept| kept.wired(&Wired::Ours(network)).is_some()) {
                return Err(ContainerError::InUse(network));
            }
            Ok(match world.networks.remove(&network) {
                Some(_) => Change::Made,
                None => Change::AlreadySo,
            })
        })
        .await
    }

    async fn networks(&self) -> Result<Vec<Uuid>, ContainerError> {
        self.call("networks", |inner| Ok(inner.world.lock().networks.keys().copied().collect())).await
    }

    async fn connect(&self, id: Uuid, endpoint: &Endpoint) -> Result<Change, ContainerError> {
        let endpoint = endpoint.clone();
        self.call("connect", move |inner| {
            if !inner.world.lock().networks.contains_key(&endpoint.network) {
                return Err(ContainerError::NoNetwork(endpoint.network));
            }
            let wanted = EndpointSeen {
                network: Wired::Ours(endpoint.network),
                ip: Some(endpoint.ip),
                mac: Some(endpoint.mac),
                linked: true,
            };
            inner.change(id, |kept| {
                match kept.wired(&wanted.network).and_then(|at| kept.endpoints.get_mut(at)) {
                    Some(there) if *there == wanted => return Ok(Change::AlreadySo),
                    Some(there) => *there = wanted,
                    None => kept.endpoints.push(wanted),
                }
                Ok(Change::Made)
            })
        })
        .await
    }

    async fn disconnect(&self, id: Uuid, network: &Wired) -> Result<Change, ContainerError> {
        let network = network.clone();
        self.call("disconnect", move |inner| {
            inner.change(id, |kept| match kept.wired(&network) {
                Some(at) => {
                    kept.endpoints.remove(at);
                    Ok(Change::Made)
                }
                None => Ok(Change::AlreadySo),
            })
        })
        .await
    }
}
