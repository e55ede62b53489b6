//! What the guest is: its name, system, addresses and file systems.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use agentd_guest_wire::{Facts, Filesystem, Interface, Os};
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::SockaddrStorage;
use nix::sys::statvfs::statvfs;

pub fn read() -> Facts {
    let hostname = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned());
    let kernel = nix::sys::utsname::uname().map(|name| name.release().to_string_lossy().into_owned());
    let release =
        ["/etc/os-release", "/usr/lib/os-release"].iter().find_map(|path| fs::read_to_string(path).ok());
    Facts {
        agent: env!("CARGO_PKG_VERSION").to_owned(),
        hostname: hostname.unwrap_or_default(),
        os: os(&release.unwrap_or_default()),
        kernel: kernel.unwrap_or_default(),
        interfaces: interfaces(),
        filesystems: filesystems(),
    }
}

fn os(release: &str) -> Os {
    let value = |key: &str| {
        let line = release.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.unwrap_or_default().trim().trim_matches(['"', '\'']).to_owned()
    };
    Os { id: value("ID"), name: value("PRETTY_NAME"), version: value("VERSION_ID") }
}

/// All but the loopback.
fn interfaces() -> Vec<Interface> {
    let Ok(all) = getifaddrs() else { return Vec::new() };
    let mut found: BTreeMap<String, Interface> = BTreeMap::new();
    for one in all.filter(|one| one.interface_name != "lo") {
        let entry = found.entry(one.interface_name.clone()).or_default();
        entry.name = one.interface_name;
        let Some(address) = one.address else { continue };
        if let Some(link) = address.as_link_addr().and_then(|link| link.addr()) {
            entry.mac = link.map(|byte| format!("{byte:02x}")).join(":");
        } else if let Some(text) = with_prefix(&address, one.netmask.as_ref()) {
            entry.addresses.push(text);
        }
    }
    found.into_values().collect()
}

fn with_prefix(address: &SockaddrStorage, mask: Option<&SockaddrStorage>) -> Option<String> {
    if let Some(v4) = address.as_sockaddr_in() {
        let mask = mask.and_then(|m| m.as_sockaddr_in()).map_or(32, |m| m.ip().to_bits().count_ones());
        return Some(format!("{}/{mask}", v4.ip()));
    }
    let v6 = address.as_sockaddr_in6()?;
    let mask = mask.and_then(|m| m.as_sockaddr_in6()).map_or(128, |m| m.ip().to_bits().count_ones());
    Some(format!("{}/{mask}", v6.ip()))
}

/// A file system on a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    pub path: String,
    pub device: String,
    pub kind: String,
}

/// Those on disks, each once, outer ones first.
pub fn mounts() -> Vec<Mount> {
    mounts_in(&fs::read_to_string("/proc/self/mounts").unwrap_or_default())
}

fn mounts_in(text: &str) -> Vec<Mount> {
    let mut seen = BTreeSet::new();
    let lines = text.lines().filter_map(|line| {
        let mut words = line.split(' ');
        let (device, path, kind) = (words.next()?, words.next()?, words.next()?);
        let device = plain(device);
        (device.starts_with("/dev/") && seen.insert(device.clone())).then(|| Mount {
            path: plain(path),
            device,
            kind: kind.to_owned(),
        })
    });
    lines.collect()
}

/// Without the octal numbers that stand for spaces and the like.
fn plain(text: &str) -> String {
    let mut out = text.to_owned();
    for (code, is) in [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")] {
        out = out.replace(code, is);
    }
    out
}

fn filesystems() -> Vec<Filesystem> {
    let of = |mount: Mount| {
        let seen = statvfs(mount.path.as_str()).ok()?;
        let size = seen.blocks() * seen.fragment_size();
        let used = seen.blocks().saturating_sub(seen.blocks_free()) * seen.fragment_size();
        Some(Filesystem { path: mount.path, device: mount.device, kind: mount.kind, size, used })
    };
    mounts().into_iter().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_is_read() {
        let text =
            "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_ID=\"12\"\nVERSION=\"12\"\nID=debian\n";
        let wanted =
            Os { id: "debian".into(), name: "Debian GNU/Linux 12 (bookworm)".into(), version: "12".into() };
        assert_eq!(os(text), wanted);
        assert_eq!(os(""), Os::default());
    }

    #[test]
    fn only_what_is_on_disks_is_a_file_system() {
        let text = "/dev/vda1 / ext4 rw 0 0\nproc /proc proc rw 0 0\n/dev/vdb /a\\040b xfs rw 0 0\n/dev/vda1 /again ext4 rw 0 0\n";
        let paths: Vec<String> = mounts_in(text).into_iter().map(|m| m.path).collect();
        assert_eq!(paths, ["/", "/a b"]);
    }

    #[test]
    fn this_host_has_facts() {
        let facts = read();
        assert!(!facts.kernel.is_empty() && !facts.hostname.is_empty(), "{facts:?}");
    }
}
