//! The links of containers, known by their marks.
//!
//! The host's end of each bears as its alias whose it is and all else that there is to know. Podman's are made by us
//! (`podman/links.rs`), Docker's are found (`ends.rs`).

use agentd_api::MacAddr;
use futures_util::TryStreamExt;
use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage};
use rtnetlink::{Handle, LinkUnspec};
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::Instance;
use crate::container::Endpoint;

const MARK: &str = "agentd-plug";

/// A container's place on a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plug {
    pub(super) container: Uuid,
    pub(super) endpoint: Endpoint,
    /// Whether the host's end is a port of a bridge.
    pub(super) bridged: bool,
}

/// The host's own links, as long as this lives.
pub(super) struct Hosts {
    pub(super) handle: Handle,
    task: JoinHandle<()>,
}

impl Drop for Hosts {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(super) fn open() -> Result<Hosts, String> {
    let (connection, handle, _) = rtnetlink::new_connection().map_err(|error| error.to_string())?;
    Ok(Hosts { handle, task: tokio::spawn(connection) })
}

pub(super) fn step(what: &str) -> impl Fn(rtnetlink::Error) -> String + '_ {
    move |error| format!("{what}: {error}")
}

pub(super) fn name_of(link: &LinkMessage) -> Option<&str> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.as_str()),
        _ => None,
    })
}

/// All of this daemon's.
pub(super) async fn all(instance: &Instance) -> Result<Vec<Plug>, String> {
    let hosts = open()?;
    let links: Vec<LinkMessage> =
        hosts.handle.link().get().execute().try_collect().await.map_err(step("listing links"))?;
    Ok(links.iter().filter_map(|link| read(link, instance)).collect())
}

/// Has the host's end of that index bear this mark.
pub(super) async fn bear(hosts: &Hosts, index: u32, mark: String) -> Result<(), String> {
    let link = LinkUnspec::new_with_index(index).alias(mark).build();
    hosts.handle.link().set(link).execute().await.map_err(step("marking it"))
}

pub(super) fn mark(plug: &Plug, instance: &Instance) -> String {
    let Plug { container, endpoint: Endpoint { network, ip, mac }, .. } = plug;
    format!("{MARK} {} {container} {network} {ip} {mac}", instance.tag())
}

/// Whose it is, if it is this daemon's.
pub(super) fn read(link: &LinkMessage, instance: &Instance) -> Option<Plug> {
    let alias = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfAlias(alias) => Some(alias.as_str()),
        _ => None,
    });
    let bridged = link.attributes.iter().any(|a| matches!(a, LinkAttribute::Controller(index) if *index > 0));
    let mut words = alias?.split(' ');
    if words.next() != Some(MARK) || words.next() != Some(instance.tag()) {
        return None;
    }
    let container = words.next()?.parse().ok()?;
    let network = words.next()?.parse().ok()?;
    let (ip, mac) = (words.next()?.parse().ok()?, words.next()?.parse::<MacAddr>().ok()?);
    Some(Plug { container, endpoint: Endpoint { network, ip, mac }, bridged })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_mark_tells_all_and_is_this_daemons_alone() {
        let (one, two) = (Instance::new(Path::new("/one")), Instance::new(Path::new("/two")));
        let endpoint = Endpoint {
            network: Uuid::now_v7(),
            ip: [10, 231, 1, 3].into(),
            mac: MacAddr([0x52, 0x54, 0, 1, 2, 3]),
        };
        let plug = Plug { container: Uuid::now_v7(), endpoint, bridged: true };
        let alias = mark(&plug, &one);
        assert!(alias.len() < 256, "the kernel takes no longer one");
        let mut link = LinkMessage::default();
        link.attributes = vec![LinkAttribute::IfAlias(alias), LinkAttribute::Controller(7)];
        assert_eq!(read(&link, &one), Some(plug.clone()));
        assert_eq!(read(&link, &two), None);
        link.attributes.pop();
        assert_eq!(read(&link, &one), Some(Plug { bridged: false, ..plug }));
    }
}
