//! Where a daemon is: the socket of this host's, or another machine's host and port.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use agentd_api::remote;
use rustls::pki_types::ServerName;

/// Where a [`Client`](crate::Client) calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    Socket(PathBuf),
    Remote(RemoteAddress),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path) => path.display().fmt(f),
            Self::Remote(remote) => remote.fmt(f),
        }
    }
}

/// `HOST[:PORT]`, `ADDRESS[:PORT]` or `[V6ADDRESS]:PORT`. The host is what the daemon's certificate must be for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteAddress {
    host: String,
    port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no address; write HOST, HOST:PORT or [V6ADDRESS]:PORT")]
pub struct AddressError(String);

impl RemoteAddress {
    pub fn host(&self) -> &str {
        &self.host
    }
    pub fn port(&self) -> u16 {
        self.port
    }
    /// What the certificate is held against.
    pub(crate) fn server_name(&self) -> Result<ServerName<'static>, AddressError> {
        ServerName::try_from(self.host.clone()).map_err(|_| AddressError(self.host.clone()))
    }
}

impl fmt::Display for RemoteAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

impl FromStr for RemoteAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let wrong = || AddressError(text.to_owned());
        let (host, port) = match text.strip_prefix('[').map(|inner| inner.split_once(']').ok_or_else(wrong)) {
            Some(split) => {
                let (host, rest) = split?;
                // Only an address of IPv6 stands in brackets.
                host.parse::<std::net::Ipv6Addr>().map_err(|_| wrong())?;
                (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':').ok_or_else(wrong)?) })
            }
            None if text.matches(':').count() > 1 => (text, None),
            None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
        };
        let port = match port {
            None => remote::PORT,
            Some(digits) => digits.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?,
        };
        let address = Self { host: host.to_owned(), port };
        address.server_name().map_err(|_| wrong())?;
        Ok(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_addresses_are_read_with_a_port_or_without() {
        for (text, host, port) in [
            ("rack1", "rack1", 7443),
            ("rack1.example.com:8000", "rack1.example.com", 8000),
            ("192.0.2.7", "192.0.2.7", 7443),
            ("192.0.2.7:1", "192.0.2.7", 1),
            ("2001:db8::1", "2001:db8::1", 7443),
            ("[2001:db8::1]", "2001:db8::1", 7443),
            ("[2001:db8::1]:8000", "2001:db8::1", 8000),
        ] {
            let address: RemoteAddress = text.parse().unwrap_or_else(|e| panic!("{e}"));
            assert_eq!((address.host(), address.port()), (host, port), "{text}");
            assert_eq!(address.to_string().parse(), Ok(address));
        }
        for bad in
            ["", ":1", "a:0", "a:b", "a:65536", "a b", "[::1", "[a]:1", "[::1]1", "https://a", "a/b", "ä"]
        {
            assert!(bad.parse::<RemoteAddress>().is_err(), "{bad}");
        }
    }
}
