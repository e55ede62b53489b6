//! What the kernel tells of changes of nftables, read only as far as to know whose table they are about.

use rtnetlink::sys::protocols::NETLINK_NETFILTER;
use rtnetlink::sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket};

use super::attributes::{attribute, u32_at};
use super::watch::GATHER;

/// The kernel's group of changes of nftables.
const NFNLGRP_NFTABLES: u32 = 7;

pub fn open_rules() -> Option<TokioSocket> {
    let open = || {
        let mut socket = TokioSocket::new(NETLINK_NETFILTER)?;
        socket.socket_mut().bind(&SocketAddr::new(0, 0))?;
        socket.socket_mut().add_membership(NFNLGRP_NFTABLES)?;
        std::io::Result::Ok(socket)
    };
    open().inspect_err(|error| tracing::warn!(%error, "changes of rules are not told by this kernel; they are found more slowly")).ok()
}

/// None where datagrams were lost.
pub async fn datagram_of(rules: &mut Option<TokioSocket>) -> Option<Vec<u8>> {
    match rules {
        Some(socket) => match socket.recv_from_full().await {
            Ok((datagram, _)) => Some(datagram),
            Err(_) => {
                // Overrun mostly, which leaves the socket whole; should it be worse, this keeps the loop from spinning.
                tokio::time::sleep(GATHER).await;
                None
            }
        },
        None => std::future::pending().await,
    }
}

/// Whether a datagram of nftables' group is about our table, or about the one that iptables keeps there.
pub fn concerns(datagram: &[u8], table: &str) -> bool {
    let mut rest = datagram;
    // struct nlmsghdr: length, type, flags, sequence, port; then struct nfgenmsg, four bytes; then attributes. In every
    // message about a table or what is in one, attribute 1 is the table's name.
    while let Some(length) = u32_at(rest, 0).and_then(|n| usize::try_from(n).ok()) {
        if length < 20 || length > rest.len() {
            return false;
        }
        let name = attribute(&rest[20..length], 1).map(|text| text.strip_suffix(b"\0").unwrap_or(text));
        if name.is_some_and(|name| name == table.as_bytes() || name == b"filter") {
            return true;
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(table: &str) -> Vec<u8> {
        let mut name = table.as_bytes().to_vec();
        name.push(0);
        let mut body = vec![1, 0, 0, 0];
        body.extend(u16::try_from(name.len() + 4).expect("short").to_ne_bytes());
        body.extend(1u16.to_ne_bytes());
        body.extend(&name);
        let length = body.len() + 16;
        let mut message = u32::try_from(length).expect("short").to_ne_bytes().to_vec();
        message.extend([0; 12]);
        message.extend(body);
        message.resize(length.next_multiple_of(4), 0);
        message
    }

    #[test]
    fn only_our_table_and_that_of_iptables_concern_us() {
        assert!(concerns(&message("agentd"), "agentd"));
        assert!(concerns(&message("filter"), "agentd"));
        assert!(!concerns(&message("agentd_2"), "agentd"));
        let both = [message("libvirt"), message("agentd")].concat();
        assert!(concerns(&both, "agentd"));
    }

    #[test]
    fn a_broken_datagram_is_no_panic() {
        let whole = message("agentd");
        for length in 0..whole.len() {
            let _ = concerns(&whole[..length], "agentd");
        }
        assert!(!concerns(&[0xff; 64], "agentd"));
    }
}
