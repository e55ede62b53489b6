//! The files that a network's dnsmasq reads: its configuration, and one file a host for DHCP and for DNS. Pure.
//!
//! Nothing of a user's free text comes in: names are DNS labels by their type, a domain is checked where it is rendered.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use agentd_api::MacAddr;

use super::{HostEntry, NetworkSetup};

pub const CONFIG: &str = "dnsmasq.conf";
pub const PID: &str = "dnsmasq.pid";
pub const LEASES: &str = "leases";
pub const DHCP_HOSTS: &str = "dhcp-hosts";
pub const DNS_HOSTS: &str = "dns-hosts";
/// How long a guest keeps its address without asking again, should dnsmasq be away that long.
const LEASE: &str = "12h";

/// What the configuration depends on beside the network.
#[derive(Debug, Clone)]
pub struct DnsmasqSetting<'a> {
    pub bridge: &'a str,
    /// The bridge's index: a bridge that was made anew has another, and dnsmasq's sockets must be made anew too.
    pub index: u32,
    pub folder: &'a Path,
    pub user: &'a str,
    /// Whom to ask for names that are not ours; whom the host asks where empty.
    pub upstream: &'a [IpAddr],
}

/// The text of `dnsmasq.conf`. None where the domain is no domain name or the folder's path holds a line break.
///
/// A network without NAT asks nobody: its guests do not reach beyond the host, not by way of its name server either.
pub fn render_dnsmasq(setup: &NetworkSetup, with: &DnsmasqSetting<'_>) -> Option<String> {
    let folder = with.folder.to_str().filter(|path| !path.contains(['\n', '\r', '"', '\\']))?;
    let domain = &setup.domain;
    if !is_domain(domain) {
        return None;
    }
    let (gateway, network, mask) = (setup.cidr.gateway(), setup.cidr.address(), setup.cidr.netmask());
    let mut lines = vec![
        format!("# network {}/{} {}, link {}", setup.project, setup.name, setup.id, with.index),
        format!("interface={}", with.bridge),
        "except-interface=lo".to_owned(),
        "bind-dynamic".to_owned(),
        format!("user={}", with.user),
        format!("pid-file={folder}/{PID}"),
        "no-hosts".to_owned(),
        "domain-needed".to_owned(),
        "bogus-priv".to_owned(),
        format!("domain={domain}"),
        format!("local=/{domain}/"),
        format!("hostsdir={folder}/{DNS_HOSTS}"),
        format!("dhcp-hostsdir={folder}/{DHCP_HOSTS}"),
        format!("dhcp-range={network},static,{mask},{LEASE}"),
        format!("dhcp-lease-max={}", 1u64 << (32 - u32::from(setup.cidr.prefix()))),
        "dhcp-ignore=tag:!known".to_owned(),
        "dhcp-ignore-names".to_owned(),
        "dhcp-authoritative".to_owned(),
        "no-ping".to_owned(),
        format!("dhcp-leasefile={folder}/{LEASES}"),
        format!("dhcp-option=option:router,{gateway}"),
        format!("dhcp-option=option:dns-server,{gateway}"),
        format!("dhcp-option=option:domain-search,{domain}"),
    ];
    if !setup.nat || !with.upstream.is_empty() {
        lines.push("no-resolv".to_owned());
    }
    if setup.nat {
        lines.extend(with.upstream.iter().map(|server| format!("server={server}")));
    }
    Some(lines.join("\n") + "\n")
}

fn is_domain(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len()) && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    text.len() <= 253 && text.split('.').all(label)
}

/// The files of `dhcp-hosts` and of `dns-hosts`, by name. A file is named for all that its text depends on within its
/// network, so that the names alone tell whether the files are right: with thousands of hosts that is one listing
/// instead of thousands of reads.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct HostFiles {
    pub dhcp: BTreeMap<String, String>,
    pub dns: BTreeMap<String, String>,
}

pub fn render_hosts(setup: &NetworkSetup) -> HostFiles {
    let mut files = HostFiles::default();
    for HostEntry { name, ip, mac } in &setup.hosts {
        // `id:*`: a guest is who its MAC says, whatever client id its boot loader, installer or system makes up.
        let file = format!("{ip}_{}_{name}", mac.to_string().replace(':', "-"));
        files.dhcp.insert(file, format!("{mac},id:*,{ip},{name}\n"));
        files.dns.insert(format!("{ip}_{name}"), format!("{ip} {name}.{} {name}\n", setup.domain));
    }
    files
}

/// The lease file without the leases of those who are not listed, or None where all are.
pub fn prune_leases(leases: &str, hosts: &[HostEntry]) -> Option<String> {
    let listed: BTreeMap<Ipv4Addr, MacAddr> = hosts.iter().map(|h| (h.ip, h.mac)).collect();
    let keep = |line: &&str| {
        // expiry, MAC, address, name, client id
        let mut words = line.split_whitespace().skip(1);
        let (mac, ip) = (words.next(), words.next());
        let (Some(Ok(mac)), Some(Ok(ip))) = (mac.map(str::parse::<MacAddr>), ip.map(str::parse)) else {
            return false;
        };
        listed.get(&ip) == Some(&mac)
    };
    let mut kept = String::new();
    for line in leases.lines().filter(keep) {
        let _ = writeln!(kept, "{line}");
    }
    (kept.lines().count() != leases.lines().count()).then_some(kept)
}
