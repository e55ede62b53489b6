//! Who listens on the host where a published port would catch what is theirs.
//!
//! What is caught is what `ruleset.rs` says: IPv4 to the address that the port is published on, or to any address of the
//! host, its loopback included. The program would go on listening, and nobody would come.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use agentd_api::{PortMap, Protocol};

/// A socket of the host's own network that waits for whoever comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    pub protocol: Protocol,
    /// Unspecified for all addresses of the host. That of IPv6 counts for IPv4 too, as it does unless its program has
    /// forbidden that, which /proc does not show.
    pub address: IpAddr,
    pub port: u16,
    pub holder: Holder,
}

/// Whose it is, as far as the host tells.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Holder {
    Program {
        name: String,
        pid: u32,
    },
    /// Only the control group that it was made in is known: mostly a unit of systemd.
    Group(String),
    #[default]
    Unknown,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Program { name, pid } => write!(f, "{name} (pid {pid})"),
            Self::Group(name) => write!(f, "a program of {name}"),
            Self::Unknown => f.write_str("another program"),
        }
    }
}

impl Listener {
    /// Where IPv4 finds it: unspecified for everywhere, None for nowhere.
    pub fn ipv4(&self) -> Option<Ipv4Addr> {
        match self.address.to_canonical() {
            // What is for many hosts at once is for no address of the host, and no rule of ours catches it.
            IpAddr::V4(address) if address.is_multicast() || address.is_broadcast() => None,
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(address) if address.is_unspecified() => Some(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => None,
        }
    }

    /// Whether that port, published, would catch what is for this one.
    pub fn is_met_by(&self, published: &PortMap) -> bool {
        let Some(own) = self.ipv4() else { return false };
        let meet = match published.address {
            Some(at) if !at.is_unspecified() => own == at || own.is_unspecified(),
            _ => true,
        };
        meet && self.port == published.host && self.protocol == published.protocol
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener(address: &str) -> Listener {
        let address = address.parse().expect("an address");
        Listener { protocol: Protocol::Tcp, address, port: 8080, holder: Holder::default() }
    }

    #[test]
    fn a_published_port_meets_who_listens_where_its_rule_catches() {
        // (who listens, whether it is met on all addresses, on 127.0.0.1, on 192.0.2.1)
        for (address, meets) in [
            ("0.0.0.0", [true, true, true]),
            ("::", [true, true, true]),
            ("127.0.0.1", [true, true, false]),
            ("::ffff:127.0.0.1", [true, true, false]),
            ("::ffff:0.0.0.0", [true, true, true]),
            ("192.0.2.1", [true, false, true]),
            ("127.0.0.53", [true, false, false]),
            ("::1", [false, false, false]),
            ("fe80::1", [false, false, false]),
            ("224.0.0.251", [false, false, false]),
            ("255.255.255.255", [false, false, false]),
        ] {
            for (published, meets) in ["8080:80", "127.0.0.1:8080:80", "192.0.2.1:8080:80"].iter().zip(meets)
            {
                let published: PortMap = published.parse().expect("a port");
                assert_eq!(listener(address).is_met_by(&published), meets, "{address} and {published}");
            }
        }
        for (published, meets) in
            [("0.0.0.0:8080:80", true), ("8080:80/udp", false), ("8081:8080", false), ("8080:80/tcp", true)]
        {
            let port: PortMap = published.parse().expect("a port");
            assert_eq!(listener("0.0.0.0").is_met_by(&port), meets, "{published}");
        }
    }

    #[test]
    fn whose_it_is_is_told_as_far_as_it_is_known() {
        let nginx = Holder::Program { name: "nginx".to_owned(), pid: 812 };
        assert_eq!(nginx.to_string(), "nginx (pid 812)");
        assert_eq!(Holder::Group("nginx.service".to_owned()).to_string(), "a program of nginx.service");
        assert_eq!(Holder::default().to_string(), "another program");
    }
}
