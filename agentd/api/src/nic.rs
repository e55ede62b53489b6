//! Where a guest is on the network, of whichever kind it is: its interfaces, their addresses, its published ports.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::limits::NicLimits;
use crate::name::ObjectName;
use crate::net::{MacAddr, PortMap};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NicSpec {
    pub network: ObjectName,
    /// A fixed address of the network; one is chosen where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = Ipv4)]
    pub ip: Option<Ipv4Addr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacAddr>,
    #[serde(default, skip_serializing_if = "NicLimits::is_default")]
    pub limits: NicLimits,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NicAddress {
    pub network: ObjectName,
    #[schema(value_type = String, format = Ipv4)]
    pub ip: Ipv4Addr,
    pub mac: MacAddr,
}

/// The network `default`.
pub(crate) fn default_networks() -> Vec<NicSpec> {
    let network = ObjectName::parse("default").expect("a valid name");
    vec![NicSpec { network, ip: None, mac: None, limits: NicLimits::default() }]
}

pub(crate) fn check_nics(networks: &[NicSpec], wrong: &mut impl FnMut(&str, String)) {
    let (mut ips, mut macs) = (BTreeSet::new(), BTreeSet::new());
    for (n, nic) in networks.iter().enumerate() {
        if nic.ip.is_some_and(|ip| !ips.insert((&nic.network, ip))) {
            wrong(&format!("networks[{n}].ip"), "is given to another interface of the same guest".to_owned());
        }
        if nic.mac.is_some_and(|mac| !macs.insert(mac)) {
            wrong(
                &format!("networks[{n}].mac"),
                "is given to another interface of the same guest".to_owned(),
            );
        }
    }
}

pub(crate) fn check_ports(networks: &[NicSpec], publish: &[PortMap], wrong: &mut impl FnMut(&str, String)) {
    if !publish.is_empty() && networks.is_empty() {
        wrong("publish", "a port can be published only of a guest that has a network".to_owned());
    }
    for (n, port) in publish.iter().enumerate() {
        if port.host == 0 || port.guest == 0 {
            wrong(&format!("publish[{n}]"), "a port is 1 to 65535".to_owned());
        }
        let same = |other: &PortMap| {
            other.host == port.host
                && other.protocol == port.protocol
                && (other.address == port.address || other.address.is_none() || port.address.is_none())
        };
        if publish[..n].iter().any(same) {
            wrong(
                &format!("publish[{n}].host"),
                format!("{}/{} is published twice", port.host, port.protocol),
            );
        }
    }
}
