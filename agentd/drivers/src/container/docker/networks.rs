//! The engine's networks on our bridges.

use std::collections::HashMap;

use async_trait::async_trait;
use bollard::models::{Ipam, IpamConfig, NetworkCreateRequest, NetworkInspect};
use bollard::query_parameters::{
    InspectNetworkOptions, ListContainersOptionsBuilder, ListNetworksOptionsBuilder,
};
use serde_json::json;
use uuid::Uuid;

use super::read::{self, network_name};
use super::{EngineContainers, INSTANCE, Inner, NETWORK, macs, render};
use crate::container::{Change, ContainerError, ContainerNetworks, Endpoint, EngineNetwork, Wired};
use crate::engine::{ACT, ASK, EngineError};

const MAKE: &str = "make a network";
const PLUG: &str = "plug a container";
const BRIDGE: &str = "com.docker.network.bridge.name";

impl Inner {
    /// What the engine knows of a network of ours.
    pub(super) async fn network(&self, id: Uuid) -> Result<Option<NetworkInspect>, EngineError> {
        let docker = self.engine.linked().await?.docker.clone();
        let name = network_name(id, &self.instance);
        let look = docker.inspect_network(&name, None::<InspectNetworkOptions>);
        match self.engine.ask("look at a network", ASK, look).await {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether a container can be plugged into it.
    pub(super) async fn has_network(&self, id: Uuid) -> Result<bool, EngineError> {
        match self.wires().await? {
            true => Ok(self.bridges.lock().contains_key(&id)),
            false => Ok(self.network(id).await?.is_some()),
        }
    }

    /// Whether any container, running or not, has an endpoint on it.
    async fn is_used(&self, id: Uuid) -> Result<bool, EngineError> {
        let docker = self.engine.linked().await?.docker.clone();
        let name = network_name(id, &self.instance);
        let filters = HashMap::from([("network", vec![name.as_str()])]);
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        let on = self.engine.ask("list containers", ASK, docker.list_containers(Some(options))).await?;
        Ok(!on.is_empty())
    }

    async fn ensure_network(&self, wanted: &EngineNetwork) -> Result<Change, ContainerError> {
        if self.wires().await? {
            return self.know_bridge(wanted).await;
        }
        let change = self.have_network(wanted).await?;
        self.bridges.lock().insert(wanted.id, wanted.clone());
        Ok(change)
    }

    async fn have_network(&self, wanted: &EngineNetwork) -> Result<Change, ContainerError> {
        let docker = self.engine.linked().await?.docker.clone();
        if let Some(found) = self.network(wanted.id).await? {
            if is(&found, wanted) {
                return Ok(Change::AlreadySo);
            }
            if self.is_used(wanted.id).await? {
                let why = format!("containers are on network {}, which is another now", wanted.id);
                return Err(ContainerError::Conflict(why));
            }
            let name = network_name(wanted.id, &self.instance);
            self.engine.ask("remove a network", ACT, docker.remove_network(&name)).await?;
        }
        // The engine would make one, of its own sort.
        if nix::net::if_::if_nametoindex(wanted.bridge.as_str()).is_err() {
            let detail = format!("there is no bridge {}", wanted.bridge);
            return Err(EngineError::Failed { call: MAKE, detail }.into());
        }
        let made = self.engine.ask(MAKE, ACT, docker.create_network(self.request(wanted))).await;
        match made {
            Ok(_) => Ok(Change::Made),
            Err(error) if error.status() == Some(409) => Ok(Change::AlreadySo),
            Err(error) if error.message().contains("overlap") => {
                Err(ContainerError::Conflict(error.message().to_owned()))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn request(&self, wanted: &EngineNetwork) -> NetworkCreateRequest {
        let text = |pairs: &[(&str, &str)]| {
            Some(pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
        };
        NetworkCreateRequest {
            name: network_name(wanted.id, &self.instance),
            driver: Some("bridge".to_owned()),
            ipam: Some(Ipam {
                config: Some(vec![IpamConfig {
                    subnet: Some(wanted.cidr.to_string()),
                    gateway: Some(wanted.gateway.to_string()),
                    ..IpamConfig::default()
                }]),
                ..Ipam::default()
            }),
            // Who may talk to whom, and how they get out, is our own firewall's to say.
            options: text(&[
                (BRIDGE, &wanted.bridge),
                ("com.docker.network.bridge.enable_ip_masquerade", "false"),
            ]),
            labels: text(&[(INSTANCE, self.instance.tag()), (NETWORK, &wanted.id.to_string())]),
            ..NetworkCreateRequest::default()
        }
    }

    async fn remove_network(&self, id: Uuid) -> Result<Change, ContainerError> {
        if self.wires().await? {
            return self.forget_bridge(id).await;
        }
        let change = self.have_no_network(id).await?;
        self.bridges.lock().remove(&id);
        Ok(change)
    }

    async fn have_no_network(&self, id: Uuid) -> Result<Change, ContainerError> {
        let docker = self.engine.linked().await?.docker.clone();
        if self.network(id).await?.is_none() {
            return Ok(Change::AlreadySo);
        }
        if self.is_used(id).await? {
            return Err(ContainerError::InUse(id));
        }
        let name = network_name(id, &self.instance);
        match self.engine.ask("remove a network", ACT, docker.remove_network(&name)).await {
            Ok(()) => Ok(Change::Made),
            Err(error) if error.is_missing() => Ok(Change::AlreadySo),
            Err(error) if error.message().contains("active endpoints") => Err(ContainerError::InUse(id)),
            Err(error) => Err(error.into()),
        }
    }

    /// Plugs an endpoint where it is not, or where its link has gone. Only its MAC is changed where that is all.
    pub(super) async fn plug(&self, id: Uuid, endpoint: &Endpoint) -> Result<Change, ContainerError> {
        if !self.has_network(endpoint.network).await? {
            return Err(ContainerError::NoNetwork(endpoint.network));
        }
        let found = self.found(id).await?;
        if self.wires().await? {
            return self.wire(id, &found, endpoint).await;
        }
        let engine_id = found.id.clone().unwrap_or_default();
        let isolated = found
            .network_settings
            .as_ref()
            .and_then(|s| s.networks.as_ref())
            .is_some_and(|networks| networks.contains_key("none"));
        let namespace = macs::namespace(&found);
        let seen = self.seen(id, found).await?;
        match seen.endpoint(endpoint.network) {
            Some(there) if there.linked && there.ip == Some(endpoint.ip) => {
                return self.have_mac(&seen, namespace, endpoint).await;
            }
            Some(_) => drop(self.unplug(id, &network_name(endpoint.network, &self.instance)).await?),
            None if isolated => drop(self.unplug(id, "none").await?),
            None => {}
        }
        let path = format!("/networks/{}/connect", network_name(endpoint.network, &self.instance));
        let body = json!({ "Container": engine_id, "EndpointConfig": render::settings(endpoint) });
        match self.post(PLUG, ACT, &path, &body).await {
            Ok(_) if seen.state.is_on() => self.was_plugged(id, endpoint).await,
            Ok(_) => Ok(Change::Made),
            Err(error) if error.message().to_lowercase().contains("address already in use") => {
                Err(ContainerError::Conflict(error.message().to_owned()))
            }
            Err(error) => Err(self.refused(id, error)),
        }
    }

    /// Held against the kernel again. Were the engine believed, what it does not do would be asked for without end; a
    /// failure is asked for again in its own time.
    async fn was_plugged(&self, id: Uuid, endpoint: &Endpoint) -> Result<Change, ContainerError> {
        let found = self.found(id).await?;
        let namespace = macs::namespace(&found);
        let seen = self.seen(id, found).await?;
        if seen.endpoint(endpoint.network).is_some_and(|there| there.linked) {
            self.have_mac(&seen, namespace, endpoint).await?;
            return Ok(Change::Made);
        }
        let detail = "it says that it did, and no link of the container's is on the network's bridge";
        Err(EngineError::Failed { call: PLUG, detail: detail.to_owned() }.into())
    }

    async fn unplug(&self, id: Uuid, network: &str) -> Result<Change, ContainerError> {
        let engine_id = self.engine_id(id).await?;
        let body = json!({ "Container": engine_id, "Force": true });
        let path = format!("/networks/{network}/disconnect");
        match self.post("unplug a container", ACT, &path, &body).await {
            Ok(_) => Ok(Change::Made),
            Err(error) if error.message().contains("is not connected") => Ok(Change::AlreadySo),
            Err(error) if error.is_missing() && error.message().contains("network") => Ok(Change::AlreadySo),
            Err(error) => Err(self.refused(id, error)),
        }
    }
}

fn is(found: &NetworkInspect, wanted: &EngineNetwork) -> bool {
    let bridge = found.options.as_ref().and_then(|options| options.get(BRIDGE));
    let configs = found.ipam.as_ref().and_then(|ipam| ipam.config.as_deref()).unwrap_or_default();
    let text =
        |text: &Option<String>, other: &dyn ToString| text.as_ref().is_some_and(|t| *t == other.to_string());
    bridge == Some(&wanted.bridge)
        && configs.iter().any(|c| text(&c.subnet, &wanted.cidr) && text(&c.gateway, &wanted.gateway))
}

#[async_trait]
impl ContainerNetworks for EngineContainers {
    async fn ensure_network(&self, network: &EngineNetwork) -> Result<Change, ContainerError> {
        let network = network.clone();
        self.detached(MAKE, |inner| async move { inner.ensure_network(&network).await }).await
    }

    async fn remove_network(&self, network: Uuid) -> Result<Change, ContainerError> {
        self.detached("remove a network", move |inner| async move { inner.remove_network(network).await })
            .await
    }

    async fn networks(&self) -> Result<Vec<Uuid>, ContainerError> {
        let inner = &self.inner;
        if inner.wires().await? {
            return Ok(inner.bridges.lock().keys().copied().collect());
        }
        let docker = inner.engine.linked().await?.docker.clone();
        let label = format!("{INSTANCE}={}", inner.instance.tag());
        let filters = HashMap::from([("label", vec![label.as_str()])]);
        let options = ListNetworksOptionsBuilder::default().filters(&filters).build();
        let found = inner.engine.ask("list networks", ASK, docker.list_networks(Some(options))).await?;
        let id = |name: String| match read::wired(&name, &inner.instance) {
            Wired::Ours(id) => Some(id),
            Wired::Foreign(_) => None,
        };
        Ok(found.into_iter().filter_map(|network| id(network.name?)).collect())
    }

    async fn connect(&self, id: Uuid, endpoint: &Endpoint) -> Result<Change, ContainerError> {
        let endpoint = endpoint.clone();
        self.detached(PLUG, move |inner| async move { inner.plug(id, &endpoint).await }).await
    }

    async fn disconnect(&self, id: Uuid, network: &Wired) -> Result<Change, ContainerError> {
        let name = match network {
            Wired::Ours(network) => network_name(*network, &self.inner.instance),
            Wired::Foreign(name) => name.clone(),
        };
        self.detached("unplug a container", move |inner| async move {
            let found = inner.found(id).await?;
            let there = inner.seen(id, found).await?.endpoints;
            let wired = read::wired(&name, &inner.instance);
            if !there.iter().any(|endpoint| endpoint.network == wired) {
                return Ok(Change::AlreadySo);
            }
            if let (Wired::Ours(network), true) = (&wired, inner.wires().await?) {
                return inner.unwire(id, *network).await;
            }
            inner.unplug(id, &name).await
        })
        .await
    }
}
