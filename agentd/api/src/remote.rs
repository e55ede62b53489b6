//! Where a daemon that is reached from other machines keeps what it is known by, and what its files are called: made by
//! `agentctl remote`, read by agentd.

/// Of the host, root's alone.
pub const DIR: &str = "/etc/agentd/remote";
/// Where it listens where nothing else is said. 8443 and 6443 are other clouds'.
pub const PORT: u16 = 7443;

/// The certificate of the authority that both ends are known by.
pub const CA: &str = "ca.pem";
/// The authority's key, which agentd never reads.
pub const CA_KEY: &str = "ca-key.pem";
/// The daemon's certificate, and what leads from it to the authority's.
pub const SERVER: &str = "server.pem";
pub const SERVER_KEY: &str = "server-key.pem";
/// The authority's list of the certificates that hold no more (a CRL). It is there, if empty, from the start: a list
/// that is gone lets nobody in.
pub const REVOKED: &str = "revoked.pem";
/// A certificate a client, each a file.
pub const CLIENTS: &str = "clients";

/// The longest name of a client: that of a common name (RFC 5280).
pub const NAME_MAX: usize = 64;

/// Whether a common name can stand for a caller in events and logs.
pub fn is_client_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= NAME_MAX && name.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_s_name_is_a_word_that_can_be_printed() {
        assert!(
            is_client_name("laptop") && is_client_name("ci.example.com") && is_client_name(&"x".repeat(64))
        );
        for bad in ["", "a b", "a\nb", "\u{1b}[1m", "ä", &"x".repeat(65)] {
            assert!(!is_client_name(bad), "{bad:?}");
        }
    }
}
