//! Addresses as they stand in specs: IPv4 networks, MAC addresses, published ports.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::ToSchema;

use crate::schema::text_schema;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetError {
    #[error("'{0}' is not an IPv4 network; write an address and a prefix length, as in \"10.77.0.0/24\"")]
    Cidr(String),
    #[error("'{0}' has bits set behind its prefix; the network is {1}")]
    CidrHostBits(String, Cidr),
    #[error("'{0}' is not a MAC address; write six pairs of hexadecimal digits, as in \"52:54:00:12:34:56\"")]
    Mac(String),
    #[error("'{0}' is a multicast MAC address; the first pair must be even")]
    MacMulticast(String),
    #[error("'{0}' is not a published port; write [ADDRESS:]HOST:GUEST[/tcp|udp], as in \"8080:80\"")]
    Port(String),
}

/// An IPv4 network. The address is the network's own: "10.77.0.1/24" is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cidr {
    address: Ipv4Addr,
    prefix: u8,
}

impl Cidr {
    pub fn new(address: Ipv4Addr, prefix: u8) -> Result<Self, NetError> {
        let text = || format!("{address}/{prefix}");
        if prefix > 32 {
            return Err(NetError::Cidr(text()));
        }
        let network = Self { address: Ipv4Addr::from(u32::from(address) & mask(prefix)), prefix };
        if network.address == address { Ok(network) } else { Err(NetError::CidrHostBits(text(), network)) }
    }
    pub fn address(self) -> Ipv4Addr {
        self.address
    }
    pub fn prefix(self) -> u8 {
        self.prefix
    }
    pub fn netmask(self) -> Ipv4Addr {
        Ipv4Addr::from(mask(self.prefix))
    }
    pub fn broadcast(self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.address) | !mask(self.prefix))
    }
    pub fn contains(self, address: Ipv4Addr) -> bool {
        u32::from(address) & mask(self.prefix) == u32::from(self.address)
    }
    pub fn overlaps(self, other: Self) -> bool {
        let shorter = self.prefix.min(other.prefix);
        u32::from(self.address) & mask(shorter) == u32::from(other.address) & mask(shorter)
    }
    /// The first address of the network that a host can have; agentd's bridge takes it.
    pub fn gateway(self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.address).saturating_add(1))
    }
    /// The addresses that guests can have: all but the network's own, the gateway's and the broadcast address.
    pub fn guests(self) -> impl Iterator<Item = Ipv4Addr> {
        self.guest_numbers().filter_map(|n| u32::try_from(n).ok()).map(Ipv4Addr::from)
    }
    /// How many those are.
    pub fn guest_count(self) -> u64 {
        let numbers = self.guest_numbers();
        numbers.end.saturating_sub(numbers.start)
    }

    fn guest_numbers(self) -> std::ops::Range<u64> {
        u64::from(u32::from(self.address)) + 2..u64::from(u32::from(self.broadcast()))
    }
}

fn mask(prefix: u8) -> u32 {
    if prefix == 0 { 0 } else { u32::MAX << (32 - u32::from(prefix.min(32))) }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for Cidr {
    type Err = NetError;
    fn from_str(text: &str) -> Result<Self, NetError> {
        let bad = || NetError::Cidr(text.to_owned());
        let (address, prefix) = text.split_once('/').ok_or_else(bad)?;
        if prefix.is_empty() || !prefix.bytes().all(|b| b.is_ascii_digit()) {
            return Err(bad());
        }
        Self::new(address.parse().map_err(|_| bad())?, prefix.parse().map_err(|_| bad())?)
    }
}

/// A unicast MAC address, written in lower case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MacAddr(pub [u8; 6]);

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for MacAddr {
    type Err = NetError;
    fn from_str(text: &str) -> Result<Self, NetError> {
        let bad = || NetError::Mac(text.to_owned());
        let mut bytes = [0u8; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit()));
            *byte = u8::from_str_radix(part.ok_or_else(bad)?, 16).map_err(|_| bad())?;
        }
        if parts.next().is_some() {
            return Err(bad());
        }
        if bytes[0] & 1 == 1 { Err(NetError::MacMulticast(text.to_owned())) } else { Ok(Self(bytes)) }
    }
}

macro_rules! wire_text {
    ($type:ident) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
wire_text!(Cidr);
wire_text!(MacAddr);

#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    #[default]
    Tcp,
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// A port of the host that leads to a port of the guest. Without an address it is published on all of the host's.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PortMap {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = Ipv4)]
    pub address: Option<Ipv4Addr>,
    #[schema(minimum = 1)]
    pub host: u16,
    #[schema(minimum = 1)]
    pub guest: u16,
    #[serde(default)]
    pub protocol: Protocol,
}

impl fmt::Display for PortMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(address) = self.address {
            write!(f, "{address}:")?;
        }
        write!(f, "{}:{}/{}", self.host, self.guest, self.protocol)
    }
}

impl FromStr for PortMap {
    type Err = NetError;
    fn from_str(text: &str) -> Result<Self, NetError> {
        let bad = || NetError::Port(text.to_owned());
        let (ports, protocol) = match text.split_once('/') {
            None => (text, Protocol::Tcp),
            Some((ports, "tcp")) => (ports, Protocol::Tcp),
            Some((ports, "udp")) => (ports, Protocol::Udp),
            Some(_) => return Err(bad()),
        };
        let port = |text: &str| text.parse::<u16>().ok().filter(|p| *p != 0).ok_or_else(bad);
        let parts: Vec<&str> = ports.split(':').collect();
        match parts[..] {
            [host, guest] => Ok(Self { address: None, host: port(host)?, guest: port(guest)?, protocol }),
            [address, host, guest] => {
                let address = address.parse().map_err(|_| bad())?;
                Ok(Self { address: Some(address), host: port(host)?, guest: port(guest)?, protocol })
            }
            _ => Err(bad()),
        }
    }
}

/// Whether an address can be a guest's: unicast, not loopback, not unspecified.
pub fn usable(address: IpAddr) -> bool {
    !(address.is_loopback() || address.is_multicast() || address.is_unspecified())
}

text_schema!(Cidr, "^10\\.[0-9]{1,2}\\.0\\.0/24$");
text_schema!(MacAddr, "^52:54:00(:[0-9a-f]{2}){3}$");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_knows_its_hosts() {
        let net: Cidr = "10.77.0.0/29".parse().expect("a network");
        assert_eq!(net.gateway(), Ipv4Addr::new(10, 77, 0, 1));
        let guests: Vec<_> = net.guests().map(|a| a.octets()[3]).collect();
        assert_eq!(guests, [2, 3, 4, 5, 6]);
        for cidr in ["10.77.0.0/29", "10.77.0.0/30", "10.77.0.0/31", "10.77.0.0/32", "10.64.0.0/12"] {
            let net: Cidr = cidr.parse().expect("a network");
            assert_eq!(net.guest_count(), net.guests().count() as u64, "{cidr}");
        }
        assert!(net.contains(Ipv4Addr::new(10, 77, 0, 7)) && !net.contains(Ipv4Addr::new(10, 77, 0, 8)));
        assert_eq!(net.netmask().to_string(), "255.255.255.248");
    }

    #[test]
    fn overlap_is_by_bits_and_not_by_text() {
        let net = |t: &str| t.parse::<Cidr>().expect("a network");
        assert!(net("10.0.0.0/8").overlaps(net("10.77.0.0/24")));
        assert!(!net("10.7.0.0/24").overlaps(net("10.77.0.0/24")));
        assert!(net("0.0.0.0/0").overlaps(net("192.168.0.0/16")));
    }

    #[test]
    fn bad_networks_and_addresses_are_named() {
        assert!(matches!("10.77.0.1/24".parse::<Cidr>(), Err(NetError::CidrHostBits(..))));
        for bad in ["10.77.0.0", "10.77.0.0/33", "10.77.0/24", "fe80::/64", "10.77.0.0/+4", ""] {
            assert!(bad.parse::<Cidr>().is_err(), "{bad}");
        }
        assert!(matches!("53:54:00:00:00:01".parse::<MacAddr>(), Err(NetError::MacMulticast(_))));
        for bad in [
            "52:54:00:00:00",
            "52:54:00:00:00:00:00",
            "52:54:00:00:0:01",
            "525400000001",
            "+2:54:00:00:00:01",
        ] {
            assert!(bad.parse::<MacAddr>().is_err(), "{bad}");
        }
    }

    #[test]
    fn ports_read_as_docker_writes_them() {
        let full: PortMap = "127.0.0.1:8080:80/udp".parse().expect("a port");
        assert_eq!(full.to_string(), "127.0.0.1:8080:80/udp");
        assert_eq!("8080:80".parse::<PortMap>().map(|p| p.to_string()), Ok("8080:80/tcp".to_owned()));
        for bad in ["80", "0:80", "80:0", "80:65536", "a:b", "80:80/sctp", "1.2.3:1:2", "1:2:3:4"] {
            assert!(bad.parse::<PortMap>().is_err(), "{bad}");
        }
    }
}
