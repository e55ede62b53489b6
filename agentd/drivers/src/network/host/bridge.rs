//! Bridges over rtnetlink: made, marked, given their address, removed.
//!
//! A bridge is ours when its alias says so: `agentd <tag> <network id>`. The kernel takes no alias when a link is made,
//! so a bridge of ours is also known by its address, which is derived from its name and which the kernel does take:
//! otherwise a daemon killed between the two calls would later stand before its own bridge as before a stranger's.
//!
//! After a boot of the host Docker, which starts first, makes the bridges of all networks that it knows, also of those
//! that it was given to put containers on ours: a bridge without any alias that has our name and our gateway's address.
//! It is taken over.

use std::net::{IpAddr, Ipv4Addr};

use agentd_api::Cidr;
use futures_util::TryStreamExt;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{
    BridgeStpState, InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use rtnetlink::{Handle, LinkBridge, LinkUnspec};
use sha2::{Digest, Sha256};
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::sysctl;
use crate::Instance;
use crate::network::NetworkError;

/// A connection to the kernel's links, addresses and routes. Its task ends with it.
#[derive(Debug)]
pub struct Links {
    pub handle: Handle,
    task: JoinHandle<()>,
}

impl Drop for Links {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A bridge of ours, as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BridgeSeen {
    pub index: u32,
    pub up: bool,
    pub marked: bool,
    pub addresses: Vec<(Ipv4Addr, u8)>,
}

impl BridgeSeen {
    pub fn has(&self, cidr: Cidr) -> bool {
        self.addresses.contains(&(cidr.gateway(), cidr.prefix()))
    }
}

enum Found {
    Nothing,
    Ours(BridgeSeen),
    /// A bridge of the name that nobody has marked.
    Unmarked(BridgeSeen),
    Foreign(String),
}

impl Links {
    pub fn open() -> Result<Self, NetworkError> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(|e| NetworkError::Failed {
            step: "opening a netlink socket".to_owned(),
            detail: e.to_string(),
        })?;
        Ok(Self { handle, task: tokio::spawn(connection) })
    }

    /// The network's bridge where it is there and ours.
    pub async fn observe(&self, instance: &Instance, id: Uuid) -> Result<Option<BridgeSeen>, NetworkError> {
        Ok(match self.find(instance, id).await? {
            Found::Ours(seen) => Some(seen),
            Found::Nothing | Found::Unmarked(_) | Found::Foreign(_) => None,
        })
    }

    /// The bridge with its mark, its address, up. A link of its name that is not ours is a conflict and left as it is.
    pub async fn ensure(
        &self,
        instance: &Instance,
        id: Uuid,
        cidr: Cidr,
    ) -> Result<BridgeSeen, NetworkError> {
        let name = instance.bridge(id);
        match self.find(instance, id).await? {
            Found::Nothing => {
                let link = LinkBridge::new(&name)
                    .down()
                    .address(bridge_address(&name).to_vec())
                    .stp_state(BridgeStpState::Disabled)
                    .build();
                self.handle.link().add(link).execute().await.map_err(failed("making the bridge"))?;
            }
            // The engine's, of ours. Known as ours from here on, also where this is where it ends.
            Found::Unmarked(seen) if seen.has(cidr) => {
                let link = LinkUnspec::new_with_index(seen.index).address(bridge_address(&name).to_vec());
                let set = self.handle.link().set(link.build()).execute().await;
                set.map_err(failed("taking the engine's bridge over"))?;
            }
            Found::Unmarked(_) | Found::Ours(_) | Found::Foreign(_) => {}
        }
        let seen = self.ours(instance, id).await?;
        if !seen.marked {
            let link = LinkUnspec::new_with_index(seen.index).alias(alias(instance, id)).build();
            self.handle.link().set(link).execute().await.map_err(failed("marking the bridge"))?;
        }
        sysctl::settle_bridge(&name)?;
        if !seen.has(cidr) {
            let address = IpAddr::V4(cidr.gateway());
            let add = self.handle.address().add(seen.index, address, cidr.prefix());
            add.execute().await.map_err(failed("giving the bridge its address"))?;
        }
        if !seen.up {
            let link = LinkUnspec::new_with_index(seen.index).up().build();
            self.handle.link().set(link).execute().await.map_err(failed("bringing the bridge up"))?;
        }
        self.ours(instance, id).await
    }

    /// Removes the bridge; a link of that name that is not ours is left as it is.
    pub async fn remove(&self, instance: &Instance, id: Uuid) -> Result<(), NetworkError> {
        let Found::Ours(seen) = self.find(instance, id).await? else { return Ok(()) };
        match self.handle.link().del(seen.index).execute().await {
            Err(error) if !is_gone(&error) => Err(failed("removing the bridge")(error)),
            _ => Ok(()),
        }
    }

    /// The networks of this daemon that have a bridge.
    pub async fn list(&self, instance: &Instance) -> Result<Vec<Uuid>, NetworkError> {
        let links = self.all().await?;
        Ok(links.iter().filter_map(|link| marked_for(link, instance)).collect())
    }

    async fn ours(&self, instance: &Instance, id: Uuid) -> Result<BridgeSeen, NetworkError> {
        match self.find(instance, id).await? {
            Found::Ours(seen) => Ok(seen),
            Found::Unmarked(_) => Err(in_the_way(instance, id, foreign(None))),
            Found::Foreign(detail) => Err(in_the_way(instance, id, detail)),
            Found::Nothing => Err(NetworkError::Failed {
                step: "making the bridge".to_owned(),
                detail: "it is gone again".to_owned(),
            }),
        }
    }

    async fn find(&self, instance: &Instance, id: Uuid) -> Result<Found, NetworkError> {
        let name = instance.bridge(id);
        let mut found = self.handle.link().get().match_name(name.clone()).execute();
        let link = match found.try_next().await {
            Ok(Some(link)) => link,
            Ok(None) => return Ok(Found::Nothing),
            Err(error) if is_gone(&error) => return Ok(Found::Nothing),
            Err(error) => return Err(failed("looking for the bridge")(error)),
        };
        let known = known(&link, &name);
        let marked = known.alias.as_deref() == Some(&alias(instance, id));
        if !known.bridge || !(marked || known.alias.is_none()) {
            return Ok(Found::Foreign(foreign(known.alias.as_deref())));
        }
        let index = link.header.index;
        let addresses = self.addresses().await?;
        let addresses = addresses.iter().filter(|m| m.header.index == index).filter_map(ipv4_of).collect();
        let seen = BridgeSeen { index, up: link.header.flags.contains(LinkFlags::Up), marked, addresses };
        Ok(if marked || known.made_by_us { Found::Ours(seen) } else { Found::Unmarked(seen) })
    }

    pub async fn all(&self) -> Result<Vec<LinkMessage>, NetworkError> {
        self.handle.link().get().execute().try_collect().await.map_err(failed("listing links"))
    }

    pub async fn addresses(&self) -> Result<Vec<AddressMessage>, NetworkError> {
        self.handle.address().get().execute().try_collect().await.map_err(failed("listing addresses"))
    }
}

fn foreign(alias: Option<&str>) -> String {
    format!("agentd did not make it (its alias: {})", alias.unwrap_or("none"))
}

fn in_the_way(instance: &Instance, id: Uuid, detail: String) -> NetworkError {
    NetworkError::Conflict { what: format!("the link {}", instance.bridge(id)), detail }
}

/// What a bridge of ours bears as its alias.
pub fn alias(instance: &Instance, id: Uuid) -> String {
    format!("agentd {} {id}", instance.tag())
}

/// The bridge's own MAC address: locally administered, the same whenever the bridge is made, so that guests that
/// outlive their bridge still know their gateway.
fn bridge_address(name: &str) -> [u8; 6] {
    let hash = Sha256::digest(name.as_bytes());
    [0x02, hash[0], hash[1], hash[2], hash[3], hash[4]]
}

struct Known {
    bridge: bool,
    made_by_us: bool,
    alias: Option<String>,
}

fn known(link: &LinkMessage, name: &str) -> Known {
    let mut known = Known { bridge: false, made_by_us: false, alias: None };
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::IfAlias(alias) if !alias.is_empty() => known.alias = Some(alias.clone()),
            LinkAttribute::Address(mac) => known.made_by_us = mac[..] == bridge_address(name),
            LinkAttribute::LinkInfo(infos) => {
                known.bridge = infos.contains(&LinkInfo::Kind(InfoKind::Bridge));
            }
            _ => {}
        }
    }
    known
}

/// Whose bridge a link is by its alias.
pub fn marked_for(link: &LinkMessage, instance: &Instance) -> Option<Uuid> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfAlias(alias) => network_of_alias(alias, instance),
        _ => None,
    })
}

/// The network that an alias names, where it is this daemon's.
pub fn network_of_alias(alias: &str, instance: &Instance) -> Option<Uuid> {
    alias.strip_prefix("agentd ")?.strip_prefix(instance.tag())?.strip_prefix(' ')?.parse().ok()
}

pub fn ipv4_of(message: &AddressMessage) -> Option<(Ipv4Addr, u8)> {
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(IpAddr::V4(ip)) => Some(*ip),
        _ => None,
    });
    Some((local?, message.header.prefix_len))
}

fn is_gone(error: &rtnetlink::Error) -> bool {
    const ENODEV: i32 = nix::errno::Errno::ENODEV as i32;
    matches!(error, rtnetlink::Error::NetlinkError(message) if message.raw_code() == -ENODEV)
}

pub fn failed(step: &str) -> impl Fn(rtnetlink::Error) -> NetworkError + '_ {
    move |error| match &error {
        rtnetlink::Error::NetlinkError(message)
            if message.raw_code() == -(nix::errno::Errno::EOPNOTSUPP as i32) =>
        {
            NetworkError::Unsupported(format!("{step}: {error}"))
        }
        _ => NetworkError::Failed { step: step.to_owned(), detail: error.to_string() },
    }
}
