//! Containers of Podman's on our networks, wired by ourselves.
//!
//! Podman takes no bridge that is there with its address: netavark refuses a network whose addresses the host is in
//! already, and has no option that leaves the bridge to another before Podman 4.6. So each container is made in a namespace
//! of network that is ours (`ns:PATH`), and its links are ours too.
//!
//! ```text
//!   our bridge -- agc1234abcd ==veth== eth0 | the namespace at /run/agentd/netns/TAG/ID | the container joins it
//!                 alias: which container, network, address
//! ```
//! A link that somebody removes, or takes off its bridge, is told as the engine's own changes are (`../watch.rs`).
//!
//! They are there before its first program and stay while it is off, as they do when it is started by somebody else. The
//! kernel is all that remembers them: a boot of the host takes them away, and they are plugged anew before the next start.

mod links;
pub(super) mod netns;
mod states;

use bollard::models::ContainerInspectResponse;
use serde::de::DeserializeOwned;
use serde_json::Value;
use uuid::Uuid;

use super::{Inner, plugs};
use crate::Instance;
use crate::container::{Change, ContainerError, Endpoint, EndpointSeen, EngineNetwork, Wired};
use crate::engine::{ASK, EngineError, Flavor};

/// What such a container is told of its network.
pub(super) fn network_mode(container: Uuid, instance: &Instance) -> String {
    format!("ns:{}", instance.netns(container).display())
}

fn failed(call: &'static str) -> impl Fn(String) -> ContainerError {
    move |detail| EngineError::Failed { call, detail }.into()
}

impl Inner {
    /// Whether it is us who wire, and not the engine.
    pub(super) async fn wires(&self) -> Result<bool, EngineError> {
        Ok(self.engine.linked().await?.flavor == Flavor::Podman)
    }

    /// A document of Podman's about containers, in Docker's words for what they are at.
    pub(super) async fn podmans<T: DeserializeOwned>(
        &self,
        call: &'static str,
        path: &str,
    ) -> Result<T, EngineError> {
        let linked = self.engine.linked().await?;
        let mut document: Value = self.within(call, ASK, linked.wire.json(call, path)).await?;
        states::in_dockers_words(&mut document);
        serde_json::from_value(document)
            .map_err(|error| EngineError::Failed { call, detail: error.to_string() })
    }

    pub(super) async fn know_bridge(&self, wanted: &EngineNetwork) -> Result<Change, ContainerError> {
        const CALL: &str = "make a network";
        let known = self.bridges.lock().get(&wanted.id).cloned();
        if known.as_ref() == Some(wanted) {
            return Ok(Change::AlreadySo);
        }
        if known.is_some() && self.is_wired(wanted.id).await? {
            let why = format!("containers are on network {}, which is another now", wanted.id);
            return Err(ContainerError::Conflict(why));
        }
        if nix::net::if_::if_nametoindex(wanted.bridge.as_str()).is_err() {
            return Err(failed(CALL)(format!("there is no bridge {}", wanted.bridge)));
        }
        self.bridges.lock().insert(wanted.id, wanted.clone());
        Ok(Change::Made)
    }

    pub(super) async fn forget_bridge(&self, network: Uuid) -> Result<Change, ContainerError> {
        if self.is_wired(network).await? {
            return Err(ContainerError::InUse(network));
        }
        let known = self.bridges.lock().remove(&network);
        Ok(if known.is_some() { Change::Made } else { Change::AlreadySo })
    }

    async fn is_wired(&self, network: Uuid) -> Result<bool, ContainerError> {
        let plugs = plugs::all(&self.instance).await.map_err(failed("list links"))?;
        Ok(plugs.iter().any(|plug| plug.endpoint.network == network))
    }

    /// Where it is plugged in. A link that was taken off its bridge is none.
    pub(super) async fn plugged(&self, container: Uuid) -> Result<Vec<EndpointSeen>, ContainerError> {
        let plugs = plugs::all(&self.instance).await.map_err(failed("list links"))?;
        let on = plugs.into_iter().filter(|plug| plug.container == container && plug.bridged);
        let seen = |Endpoint { network, ip, mac }| EndpointSeen {
            network: Wired::Ours(network),
            ip: Some(ip),
            mac: Some(mac),
            linked: true,
        };
        Ok(on.map(|plug| seen(plug.endpoint)).collect())
    }

    pub(super) async fn wire(
        &self,
        container: Uuid,
        found: &ContainerInspectResponse,
        endpoint: &Endpoint,
    ) -> Result<Change, ContainerError> {
        if !self.is_in_ours(container, found) {
            return Err(ContainerError::Unsupported(
                "Podman puts no container onto a network of agentd's (spec.networks), and this one was not made to be \
                 wired by agentd"
                    .to_owned(),
            ));
        }
        let wanted = EndpointSeen {
            network: Wired::Ours(endpoint.network),
            ip: Some(endpoint.ip),
            mac: Some(endpoint.mac),
            linked: true,
        };
        if self.plugged(container).await?.contains(&wanted) {
            return Ok(Change::AlreadySo);
        }
        let network = self.bridges.lock().get(&endpoint.network).cloned();
        let network = network.ok_or(ContainerError::NoNetwork(endpoint.network))?;
        let plug = plugs::Plug { container, endpoint: endpoint.clone(), bridged: true };
        links::plug(&self.instance, &plug, &network).await.map_err(failed("plug a container"))?;
        Ok(Change::Made)
    }

    pub(super) async fn unwire(&self, container: Uuid, network: Uuid) -> Result<Change, ContainerError> {
        let name = self.instance.plug(container, network);
        let gone = links::unplug(&name).await.map_err(failed("unplug a container"))?;
        Ok(if gone { Change::Made } else { Change::AlreadySo })
    }

    /// Nothing of its links and its namespace is left.
    pub(super) async fn unwire_all(&self, container: Uuid) -> Result<(), ContainerError> {
        if !self.wires().await? {
            return Ok(());
        }
        for on in self.plugged(container).await? {
            if let Wired::Ours(network) = on.network {
                self.unwire(container, network).await?;
            }
        }
        netns::remove(self.instance.netns(container)).await.map_err(failed("remove a container's network"))
    }

    /// Its namespace is there, also after a boot of the host.
    pub(super) async fn ready_to_start(
        &self,
        container: Uuid,
        found: &ContainerInspectResponse,
    ) -> Result<(), ContainerError> {
        if self.is_in_ours(container, found) { self.ready_to_make(container).await } else { Ok(()) }
    }

    /// Podman makes no container in a namespace that is not there.
    pub(super) async fn ready_to_make(&self, container: Uuid) -> Result<(), ContainerError> {
        if !self.wires().await? {
            return Ok(());
        }
        let path = self.instance.netns(container);
        netns::within(path, async |_| Ok(())).await.map_err(failed("make a container's network"))
    }

    fn is_in_ours(&self, container: Uuid, found: &ContainerInspectResponse) -> bool {
        let mode = found.host_config.as_ref().and_then(|host| host.network_mode.as_deref());
        mode == Some(&network_mode(container, &self.instance))
    }
}
