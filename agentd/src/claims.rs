//! The names under which the store keeps what can be one object's at a time: taken with a wish, given back with it or once
//! the host no longer uses it.

use agentd_api::MacAddr;
use std::net::Ipv4Addr;
use uuid::Uuid;

pub const MAC: &str = "mac";
/// Containers that were adopted, by the engine's own id.
pub const ENGINE: &str = "engine";

/// The addresses of a network, by its id.
pub fn ip_space(network: Uuid) -> String {
    format!("ip/{network}")
}

/// An interface's two claims, as pairs of space and value.
pub fn of_interface(network: Uuid, ip: Ipv4Addr, mac: MacAddr) -> [(String, String); 2] {
    [(ip_space(network), ip.to_string()), (MAC.to_owned(), mac.to_string())]
}
