//! Which sockets of the host wait for whoever comes, of /proc/net: a line a socket. Whose they are is in `holder.rs`.

use std::net::IpAddr;
use std::{fs, io};

use agentd_api::{PortMap, Protocol};

use super::holder;
use crate::network::{Holder, Listener};

/// Of the network that agentd itself is in. Those of IPv6 serve IPv4 as well.
const TABLES: [(Protocol, &str); 4] = [
    (Protocol::Tcp, "/proc/self/net/tcp"),
    (Protocol::Tcp, "/proc/self/net/tcp6"),
    (Protocol::Udp, "/proc/self/net/udp"),
    (Protocol::Udp, "/proc/self/net/udp6"),
];

/// A socket that waits, and the number by which its program has it among its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    pub listener: Listener,
    pub inode: u64,
}

/// Those that one of these ports would meet, each with who has it. Blocks.
pub fn listeners_met_by(ports: &[PortMap]) -> io::Result<Vec<Listener>> {
    let mut met = Vec::new();
    for (protocol, table) in TABLES {
        if ports.iter().all(|port| port.protocol != protocol) {
            continue;
        }
        let text = match fs::read_to_string(table) {
            Ok(text) => text,
            // A kernel without IPv6.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(io::Error::new(error.kind(), format!("{table}: {error}"))),
        };
        let mut waiting = parse_waiting(&text, protocol);
        waiting.retain(|waiting| ports.iter().any(|port| waiting.listener.is_met_by(port)));
        met.append(&mut waiting);
    }
    holder::find_holders(&mut met);
    Ok(met.into_iter().map(|waiting| waiting.listener).collect())
}

/// The sockets of one table that wait: TCP that listens, UDP that is bound and not connected. What is no socket's line,
/// such as the head, is passed over.
pub fn parse_waiting(text: &str, protocol: Protocol) -> Vec<Waiting> {
    text.lines().filter_map(|line| waiting(line, protocol)).collect()
}

/// Number, own address and port, the other end's, state, queues, timer, retransmissions, user, timeout, inode.
fn waiting(line: &str, protocol: Protocol) -> Option<Waiting> {
    let waits = match protocol {
        Protocol::Tcp => "0A",
        Protocol::Udp => "07",
    };
    let mut fields = line.split_whitespace();
    let (address, port) = fields.nth(1)?.split_once(':')?;
    if fields.nth(1)? != waits {
        return None;
    }
    let inode = fields.nth(5)?.parse().ok()?;
    let (address, port) = (address_of(address)?, u16::from_str_radix(port, 16).ok()?);
    Some(Waiting { listener: Listener { protocol, address, port, holder: Holder::Unknown }, inode })
}

/// One word of 32 bits for IPv4, four for IPv6: each is in the network's order in memory, and written as the number that
/// this host takes it for.
fn address_of(hex: &str) -> Option<IpAddr> {
    match hex.len() {
        8 => Some(IpAddr::from(word(hex)?)),
        32 => {
            let mut octets = [0_u8; 16];
            for (n, part) in octets.chunks_exact_mut(4).enumerate() {
                part.copy_from_slice(&word(hex.get(n * 8..n * 8 + 8)?)?);
            }
            Some(IpAddr::from(octets))
        }
        _ => None,
    }
}

fn word(hex: &str) -> Option<[u8; 4]> {
    Some(u32::from_str_radix(hex, 16).ok()?.to_ne_bytes())
}

// Addresses are in a host's own order: these are a little-endian one's.
#[cfg(all(test, target_endian = "little"))]
mod tests {
    use super::*;

    const TCP: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 5046705 1 000000004c572d0e 100 0 0 10 0
   1: 3500007F:0035 00000000:0000 0A 00000000:00000000 00:00000000 00000000   101        0 628 1 0000000093b8f954 100 0 0 10 5
   2: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 629 1 0000000093b8f955 20 4 30 10 -1
   3: 0100007F:C350 0100007F:1F90 06 00000000:00000000 03:00000A3B 00000000     0        0 0 3 0000000093b8f956
";
    const TCP6: &str = "\
  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000000000000000000000000000:0016 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 700 1 000000002228cee6 100 0 0 10 0
   1: 00000000000000000000000001000000:18EB 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 701 1 000000002228cee7 100 0 0 10 0
   2: 0000000000000000FFFF0000050200C0:1F91 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 702 1 000000002228cee8 100 0 0 10 0
   3: B80D0120000000000000000001000000:01BB 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 703 1 000000002228cee9 100 0 0 10 0
";
    const UDP: &str = "\
   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
 1156: 00000000:0043 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 800 2 000000003c01d1b1 0
 1157: 0202000A:BDF0 08080808:0035 01 00000000:00000000 00:00000000 00000000     0        0 801 2 000000003c01d1b2 0
";

    fn parsed(text: &str, protocol: Protocol) -> Vec<(String, u16, u64)> {
        let all = parse_waiting(text, protocol).into_iter();
        all.map(|w| (w.listener.address.to_string(), w.listener.port, w.inode)).collect()
    }

    fn line(address: &str, port: u16, inode: u64) -> (String, u16, u64) {
        (address.to_owned(), port, inode)
    }

    #[test]
    fn who_listens_is_read_and_who_is_connected_is_not() {
        assert_eq!(
            parsed(TCP, Protocol::Tcp),
            [line("0.0.0.0", 8080, 5_046_705), line("127.0.0.53", 53, 628)]
        );
        assert_eq!(parsed(UDP, Protocol::Udp), [line("0.0.0.0", 67, 800)]);
    }

    #[test]
    fn addresses_of_ipv6_are_read_also_those_that_are_ipv4s() {
        let wanted = [
            line("::", 22, 700),
            line("::1", 6379, 701),
            line("::ffff:192.0.2.5", 8081, 702),
            line("2001:db8::1", 443, 703),
        ];
        assert_eq!(parsed(TCP6, Protocol::Tcp), wanted);
    }

    #[test]
    fn what_is_no_line_of_a_socket_is_passed_over() {
        let whole = TCP.lines().nth(1).expect("a line");
        for end in 0..whole.len() {
            // An inode of fewer digits is still one: what counts is that nothing panics.
            let _ = parse_waiting(&whole[..end], Protocol::Tcp);
        }
        for bad in [
            "",
            "   0: 0000000Z:1F90 00000000:0000 0A 0:0 0:0 0 0 0 1",
            "   0: 00000000:1F901 00000000:0000 0A 0:0 0:0 0 0 0 1",
            "   0: 000000000000:1F90 00000000:0000 0A 0:0 0:0 0 0 0 1",
            "   0: 00000000:1F90 00000000:0000 0A 0:0 0:0 0 0 0 x",
        ] {
            assert!(parsed(bad, Protocol::Tcp).is_empty(), "{bad}");
        }
    }
}
