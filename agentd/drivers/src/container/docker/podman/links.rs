//! The links of Podman's containers: made, marked, removed.
//!
//! The mark (`../plugs.rs`) is put on last, so that what is marked is whole; what a daemon that was killed has left half
//! made is made anew by the next, under the same name.

use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;

use futures_util::TryStreamExt;
use rtnetlink::packet_route::link::{InfoData, InfoVeth, LinkMessage};
use rtnetlink::{Handle, LinkUnspec, LinkVeth, RouteMessageBuilder};

use super::super::plugs::{Plug, bear, mark, name_of, open, step};
use super::netns;
use crate::Instance;
use crate::container::{Endpoint, EngineNetwork};

/// Makes it, in place of what is there by its name.
pub async fn plug(instance: &Instance, plug: &Plug, network: &EngineNetwork) -> Result<(), String> {
    let name = instance.plug(plug.container, network.id);
    unplug(&name).await?;
    let bridge = nix::net::if_::if_nametoindex(network.bridge.as_str());
    let bridge = bridge.map_err(|_| format!("there is no bridge {}", network.bridge))?;
    // A worker's, as all of this process but threads that `netns` makes.
    let host = File::open("/proc/thread-self/ns/net").map_err(|error| error.to_string())?;
    let inner = Inner { peer: name.clone(), endpoint: plug.endpoint.clone(), network: network.clone() };
    netns::within(instance.netns(plug.container), async move |handle| inner.make(&handle, &host).await)
        .await?;
    let hosts = open()?;
    let index = nix::net::if_::if_nametoindex(name.as_str()).map_err(|error| error.to_string())?;
    let link = LinkUnspec::new_with_index(index).controller(bridge).up().build();
    hosts.handle.link().set(link).execute().await.map_err(step("putting it on its bridge"))?;
    bear(&hosts, index, mark(plug, instance)).await
}

/// Whether it was there. Both ends are gone with one.
pub async fn unplug(name: &str) -> Result<bool, String> {
    let Ok(index) = nix::net::if_::if_nametoindex(name) else { return Ok(false) };
    let hosts = open()?;
    let deleted = hosts.handle.link().del(index).execute().await;
    match deleted {
        Err(_) if nix::net::if_::if_nametoindex(name).is_err() => Ok(false),
        Err(error) => Err(step("removing a link")(error)),
        Ok(()) => Ok(true),
    }
}

/// What is made in the container's namespace.
struct Inner {
    peer: String,
    endpoint: Endpoint,
    network: EngineNetwork,
}

impl Inner {
    async fn make(self, handle: &Handle, host: &File) -> Result<(), String> {
        let links: Vec<LinkMessage> =
            handle.link().get().execute().try_collect().await.map_err(step("listing its links"))?;
        let taken: Vec<&str> = links.iter().filter_map(name_of).collect();
        let number = (0..).find(|n| !taken.contains(&format!("eth{n}").as_str())).unwrap_or_default();
        let name = format!("eth{number}");
        let peer = LinkUnspec::new_with_name(&self.peer).setns_by_fd(host.as_raw_fd()).build();
        let link = LinkVeth::new(&name, &self.peer)
            .address(self.endpoint.mac.0.to_vec())
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
            .build();
        handle.link().add(link).execute().await.map_err(step("making a link"))?;
        let index = nix::net::if_::if_nametoindex(name.as_str()).map_err(|error| error.to_string())?;
        let add = handle.address().add(index, self.endpoint.ip.into(), self.network.cidr.prefix());
        add.execute().await.map_err(step("giving it its address"))?;
        let up = LinkUnspec::new_with_index(index).up().build();
        handle.link().set(up).execute().await.map_err(step("bringing it up"))?;
        // The first link is the way out, and the next one where it is taken away.
        let route = RouteMessageBuilder::<Ipv4Addr>::new()
            .gateway(self.network.gateway)
            .output_interface(index)
            .priority(number)
            .build();
        handle.route().add(route).execute().await.map_err(step("giving it its way out"))
    }
}
