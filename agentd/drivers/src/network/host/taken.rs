//! Which IPv4 networks the host is in by itself: a network of ours must be none of them.

use std::net::Ipv4Addr;

use agentd_api::Cidr;
use futures_util::TryStreamExt;
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType};

use super::bridge::{Links, failed, ipv4_of, marked_for};
use crate::Instance;
use crate::network::NetworkError;

/// The kernel's table of addresses that are the host's own; what is in it is also an address of a link.
const TABLE_LOCAL: u8 = 255;

/// IPv4 networks that a link or a route of the host is in, ours excluded. A default route is in none.
pub async fn taken(links: &Links, instance: &Instance) -> Result<Vec<Cidr>, NetworkError> {
    let ours: Vec<u32> = (links.all().await?.iter())
        .filter(|link| marked_for(link, instance).is_some())
        .map(|link| link.header.index)
        .collect();
    let mut taken: Vec<Cidr> = links
        .addresses()
        .await?
        .iter()
        .filter(|message| !ours.contains(&message.header.index))
        .filter_map(|message| ipv4_of(message).and_then(|(ip, prefix)| network_of(ip, prefix)))
        .collect();
    let wanted = RouteMessageBuilder::<Ipv4Addr>::new().build();
    let routes: Vec<RouteMessage> =
        links.handle.route().get(wanted).execute().try_collect().await.map_err(failed("listing routes"))?;
    taken.extend(routes.iter().filter_map(|route| routed(route, &ours)));
    taken.retain(|cidr| cidr.prefix() > 0);
    taken.sort();
    taken.dedup();
    Ok(taken)
}

fn network_of(ip: Ipv4Addr, prefix: u8) -> Option<Cidr> {
    let mask = if prefix == 0 { 0 } else { u32::MAX.checked_shl(32 - u32::from(prefix))? };
    Cidr::new(Ipv4Addr::from(u32::from(ip) & mask), prefix).ok()
}

fn routed(route: &RouteMessage, ours: &[u32]) -> Option<Cidr> {
    let header = &route.header;
    let plain = header.address_family == AddressFamily::Inet && header.kind == RouteType::Unicast;
    if !plain || header.table == TABLE_LOCAL {
        return None;
    }
    let mut to = None;
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Oif(index) if ours.contains(index) => return None,
            RouteAttribute::Destination(RouteAddress::Inet(ip)) => to = Some(*ip),
            _ => {}
        }
    }
    network_of(to?, header.destination_prefix_length)
}
