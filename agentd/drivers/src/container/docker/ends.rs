//! What Docker says that a container is plugged into, held against the kernel.
//!
//! Docker does not see a link go that somebody removes: to it the container is on its network still. From the namespace of
//! one that runs a link must lead to a port of the network's bridge. Where the kernel does not tell (before Linux 4.15, and
//! of one that has just ended) Docker is believed.
//!
//! Of its MAC, too, the kernel is believed: Docker's word for it may be another (`macs.rs`).
//!
//! A link is marked as it is found, since Docker makes it anew at each start, whoever asked for that. By the mark the watch
//! knows whose it was, and the next daemon that it is there. What it costs does not grow with the links of others.

use agentd_api::MacAddr;
use futures_util::{StreamExt, TryStreamExt};
use nix::errno::Errno;
use rtnetlink::packet_core::{NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage};
use rtnetlink::packet_route::nsid::{NsidAttribute, NsidMessage};
use uuid::Uuid;

use super::Inner;
use super::plugs::{self, Hosts, Plug, step};
use crate::container::{ContainerSeen, Endpoint, EndpointSeen, Wired};

/// The host's end of a link that leads into a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct End {
    index: u32,
    bridge: Option<u32>,
    alias: Option<String>,
    /// The container's end of it, in the container's namespace.
    pub(super) inner: u32,
    /// That end's.
    pub(super) mac: Option<MacAddr>,
}

impl Inner {
    /// Says of each endpoint of a running container whether its link is there, and marks those that are.
    pub(super) async fn hold_against_kernel(&self, seen: &mut ContainerSeen) {
        let ours = |endpoint: &EndpointSeen| matches!(endpoint.network, Wired::Ours(_));
        let Some(pid) = seen.pid.filter(|_| seen.endpoints.iter().any(ours)) else { return };
        if let Err(error) = self.look_at_links(pid, seen).await {
            tracing::debug!(container = %seen.id, %error, "its links are not seen; the engine is believed");
        }
    }

    async fn look_at_links(&self, pid: u32, seen: &mut ContainerSeen) -> Result<(), String> {
        let hosts = plugs::open()?;
        let Some(ends) = ends(&hosts, pid).await? else { return Ok(()) };
        let container = seen.id;
        for endpoint in &mut seen.endpoints {
            let Wired::Ours(network) = endpoint.network else { continue };
            let end = self.on_bridge(&ends, network);
            endpoint.linked = end.is_some();
            endpoint.mac = end.and_then(|end| end.mac).or(endpoint.mac);
            // Nothing of Docker's is read from a mark but whose it is.
            let (Some(end), Some(ip), Some(mac)) = (end, endpoint.ip, endpoint.mac) else { continue };
            let plug = Plug { container, endpoint: Endpoint { network, ip, mac }, bridged: true };
            let mark = plugs::mark(&plug, &self.instance);
            if end.alias.as_deref() != Some(mark.as_str()) {
                plugs::bear(&hosts, end.index, mark).await?;
            }
        }
        Ok(())
    }

    /// Of that process's link on the network's bridge.
    pub(super) async fn end_on(&self, pid: u32, network: Uuid) -> Result<Option<End>, String> {
        let ends = ends(&plugs::open()?, pid).await?.unwrap_or_default();
        Ok(self.on_bridge(&ends, network).cloned())
    }

    fn on_bridge<'a>(&self, ends: &'a [End], network: Uuid) -> Option<&'a End> {
        let bridge = self.bridge_index(network)?;
        ends.iter().find(|end| end.bridge == Some(bridge))
    }

    /// Of the network's bridge, by the name that was told last, or else the one that all of ours have.
    fn bridge_index(&self, network: Uuid) -> Option<u32> {
        let told = self.bridges.lock().get(&network).map(|known| known.bridge.clone());
        let name = told.unwrap_or_else(|| self.instance.bridge(network));
        nix::net::if_::if_nametoindex(name.as_str()).ok()
    }
}

/// The host's ends of the links that lead into that process's namespace. None where the kernel does not tell.
async fn ends(hosts: &Hosts, pid: u32) -> Result<Option<Vec<End>>, String> {
    let Some(namespace) = namespace_of(hosts, pid).await? else { return Ok(None) };
    let links = hosts.handle.link();
    let mut inside = links.get();
    inside.message_mut().attributes.push(LinkAttribute::IfNetnsId(namespace));
    let inside: Vec<LinkMessage> =
        inside.execute().try_collect().await.map_err(step("listing a container's links"))?;
    // A kernel that does not know the attribute lists the host's.
    let theirs = |link: &LinkMessage| link.attributes.contains(&LinkAttribute::IfNetnsId(namespace));
    if inside.is_empty() || !inside.iter().all(theirs) {
        return Ok(None);
    }
    let mut ends = Vec::new();
    for inner in &inside {
        let mut found = links.get().match_index(other_index(inner)).execute();
        match found.try_next().await {
            Ok(Some(host)) => ends.extend(end(inner, &host, namespace)),
            Ok(None) => {}
            Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -(Errno::ENODEV as i32) => {}
            Err(error) => return Err(step("looking at a link")(error)),
        }
    }
    Ok(Some(ends))
}

/// The kernel's number of that process's namespace of network. One that no link has ever led into has none.
async fn namespace_of(hosts: &Hosts, pid: u32) -> Result<Option<i32>, String> {
    const STEP: &str = "asking for a container's namespace";
    let mut message = NsidMessage::default();
    message.attributes.push(NsidAttribute::Pid(pid));
    let mut request = NetlinkMessage::from(RouteNetlinkMessage::GetNsId(message));
    request.header.flags = NLM_F_REQUEST;
    let mut answers = hosts.handle.clone().request(request).map_err(step(STEP))?;
    while let Some(answer) = answers.next().await {
        match answer.payload {
            NetlinkPayload::Error(error) => return Err(step(STEP)(rtnetlink::Error::NetlinkError(error))),
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNsId(told)) => {
                let number = told.attributes.iter().find_map(|attribute| match attribute {
                    NsidAttribute::Id(number) => Some(*number),
                    _ => None,
                });
                return Ok(number.filter(|number| *number >= 0));
            }
            _ => {}
        }
    }
    Ok(None)
}

pub(super) fn mac(link: &LinkMessage) -> Option<MacAddr> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Address(bytes) => bytes.as_slice().try_into().ok().map(MacAddr),
        _ => None,
    })
}

/// Where the other end of a link is, in its own namespace. Older kernels do not say what is the same at both ends.
fn other_index(link: &LinkMessage) -> u32 {
    let other = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Link(index) => Some(*index),
        _ => None,
    });
    other.unwrap_or(link.header.index)
}

/// `host`, if it is the other end of `inner`, which is in that namespace. An index alone may be of another namespace.
fn end(inner: &LinkMessage, host: &LinkMessage, namespace: i32) -> Option<End> {
    let leads_there = host.attributes.contains(&LinkAttribute::LinkNetNsId(namespace))
        && other_index(host) == inner.header.index;
    let mut end = End {
        index: host.header.index,
        bridge: None,
        alias: None,
        inner: inner.header.index,
        mac: mac(inner),
    };
    for attribute in &host.attributes {
        match attribute {
            LinkAttribute::Controller(bridge) if *bridge > 0 => end.bridge = Some(*bridge),
            LinkAttribute::IfAlias(alias) => end.alias = Some(alias.clone()),
            _ => {}
        }
    }
    leads_there.then_some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, attributes: Vec<LinkAttribute>) -> LinkMessage {
        let mut link = LinkMessage::default();
        link.header.index = index;
        link.attributes = attributes;
        link
    }

    fn host_address() -> LinkAttribute {
        LinkAttribute::Address(vec![0x02, 0x42, 0, 0, 0, 1])
    }

    #[test]
    fn an_address_that_is_no_macs_is_none() {
        assert_eq!(mac(&link(1, vec![host_address()])), Some(MacAddr([0x02, 0x42, 0, 0, 0, 1])));
        assert_eq!(mac(&link(1, vec![LinkAttribute::Address(vec![0; 20])])), None);
        assert_eq!(mac(&link(1, vec![])), None);
    }

    #[test]
    fn the_hosts_end_is_the_link_that_leads_back() {
        let address = LinkAttribute::Address(vec![0x52, 0x54, 0, 1, 2, 3]);
        let inner = link(2, vec![LinkAttribute::Link(7), address]);
        let back = [LinkAttribute::Link(2), LinkAttribute::LinkNetNsId(3)];
        let bridged = link(7, [&back[..], &[host_address(), LinkAttribute::Controller(4)]].concat());
        assert_eq!(other_index(&inner), 7);
        // The MAC is that of the container's end.
        let mac = Some(MacAddr([0x52, 0x54, 0, 1, 2, 3]));
        let whole = End { index: 7, bridge: Some(4), alias: None, inner: 2, mac };
        assert_eq!(end(&inner, &bridged, 3), Some(whole.clone()));
        let marked =
            link(7, [&bridged.attributes[..], &[LinkAttribute::IfAlias("whose".to_owned())]].concat());
        assert_eq!(end(&inner, &marked, 3), Some(End { alias: Some("whose".to_owned()), ..whole.clone() }));
        // Taken off its bridge it is there, and on none.
        assert_eq!(end(&inner, &link(7, back.to_vec()), 3), Some(End { bridge: None, ..whole }));
    }

    #[test]
    fn a_link_of_the_same_index_that_leads_elsewhere_is_nobodys_end() {
        let inner = link(2, vec![LinkAttribute::Link(7)]);
        for attributes in [
            vec![],
            vec![LinkAttribute::Link(2)],
            vec![LinkAttribute::Link(2), LinkAttribute::LinkNetNsId(4)],
            vec![LinkAttribute::Link(9), LinkAttribute::LinkNetNsId(3)],
        ] {
            assert_eq!(end(&inner, &link(7, attributes.clone()), 3), None, "{attributes:?}");
        }
        // A loopback has no other end, and the host's leads nowhere.
        let loopback = link(1, vec![]);
        assert_eq!(end(&loopback, &link(other_index(&loopback), vec![]), 0), None);
    }

    #[test]
    fn an_index_that_is_not_told_is_the_same_at_both_ends() {
        let (inner, host) = (link(7, vec![]), link(7, vec![LinkAttribute::LinkNetNsId(3)]));
        assert_eq!(other_index(&inner), 7);
        assert!(end(&inner, &host, 3).is_some());
    }
}
