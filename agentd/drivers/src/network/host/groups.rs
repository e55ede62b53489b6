//! The control group that a socket was made in. The kernel tells it to everybody (NETLINK_SOCK_DIAG, `man 7 sock_diag`), by
//! the number of the group's folder. A kernel that does not tell, or a host without groups of version 2, names none.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::{fs, io};

use rtnetlink::sys::protocols::NETLINK_SOCK_DIAG;
use rtnetlink::sys::{Socket, SocketAddr};

use super::attributes::{attribute, u16_at, u32_at};
use crate::network::Holder;

/// Where groups of version 2 are: alone, or beside those of version 1.
const ROOTS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
const UNITS: [&str; 3] = [".service", ".socket", ".scope"];

const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// NLM_F_REQUEST | NLM_F_DUMP
const ALL: u16 = 0x301;
/// Of struct nlmsghdr.
const HEADER: usize = 16;
/// Of struct inet_diag_req_v2.
const QUESTION: usize = 56;
/// Where struct inet_diag_msg has the inode, and where it ends.
const INODE: usize = 68;
const ATTRIBUTES: usize = 72;
const INET_DIAG_CGROUP_ID: u16 = 21;

/// The family, the protocol, and the states in which a socket waits, as bits: AF_INET and AF_INET6, TCP that listens and
/// UDP that is not connected.
const SORTS: [(u8, u8, u32); 4] = [(2, 6, 1 << 10), (10, 6, 1 << 10), (2, 17, 1 << 7), (10, 17, 1 << 7)];

/// Blocks.
pub fn groups_with(inodes: &BTreeSet<u64>) -> BTreeMap<u64, Holder> {
    let Some(root) = ROOTS.into_iter().map(Path::new).find(|root| root.join("cgroup.controllers").exists())
    else {
        return BTreeMap::new();
    };
    let mut groups = BTreeMap::new();
    for sort in SORTS {
        if let Err(error) = ask(sort, &mut groups) {
            tracing::debug!(%error, "the kernel does not tell which group a socket is of");
        }
    }
    groups.retain(|inode, _| inodes.contains(inode));
    let named = |(inode, group)| Some((inode, Holder::Group(name_of(root, group)?)));
    groups.into_iter().filter_map(named).collect()
}

/// Adds the group of each waiting socket of that sort, by the socket's inode.
fn ask(sort: (u8, u8, u32), groups: &mut BTreeMap<u64, u64>) -> io::Result<()> {
    let socket = Socket::new(NETLINK_SOCK_DIAG)?;
    // The kernel has answered when the question is sent: there is nothing to wait for.
    socket.set_non_blocking(true)?;
    socket.send_to(&question(sort), &SocketAddr::new(0, 0), 0)?;
    loop {
        let (datagram, _) = socket.recv_from_full()?;
        if !read_answer(&datagram, groups) {
            return Ok(());
        }
    }
}

fn question((family, protocol, states): (u8, u8, u32)) -> Vec<u8> {
    let mut bytes: Vec<u8> = Vec::with_capacity(HEADER + QUESTION);
    bytes.extend(72_u32.to_ne_bytes());
    bytes.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes.extend(ALL.to_ne_bytes());
    // Neither a number nor a sender, then no attributes that would have to be asked for.
    bytes.extend([0_u8; 8]);
    bytes.extend([family, protocol, 0, 0]);
    bytes.extend(states.to_ne_bytes());
    // Of any ends.
    bytes.resize(HEADER + QUESTION, 0);
    bytes
}

/// False at the end, which may be an error: a kernel that does not know the sort.
fn read_answer(datagram: &[u8], groups: &mut BTreeMap<u64, u64>) -> bool {
    let mut rest = datagram;
    while let Some(length) = u32_at(rest, 0).and_then(|n| usize::try_from(n).ok()) {
        let Some(message) = rest.get(HEADER..length) else { return false };
        if u16_at(rest, 4) != Some(SOCK_DIAG_BY_FAMILY) {
            return false;
        }
        if let Some((inode, group)) = group_of(message) {
            groups.insert(inode, group);
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    true
}

fn group_of(message: &[u8]) -> Option<(u64, u64)> {
    let inode = u32_at(message, INODE)?;
    let group = attribute(message.get(ATTRIBUTES..)?, INET_DIAG_CGROUP_ID)?;
    Some((inode.into(), u64::from_ne_bytes(group.try_into().ok()?)))
}

/// What the group of that number below `root` is called.
fn name_of(root: &Path, group: u64) -> Option<String> {
    let mut open: Vec<PathBuf> = vec![root.to_owned()];
    while let Some(folder) = open.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            let Ok(about) = entry.metadata() else { continue };
            if !about.is_dir() {
                continue;
            }
            if about.ino() == group {
                return unit_of(entry.path().strip_prefix(root).ok()?);
            }
            open.push(entry.path());
        }
    }
    None
}

/// The unit that it is of, also where that has divided itself up; its own name where it is of none.
fn unit_of(group: &Path) -> Option<String> {
    let names: Vec<&str> = group.iter().filter_map(OsStr::to_str).collect();
    let unit = names.iter().rev().find(|name| UNITS.iter().any(|end| name.ends_with(*end)));
    unit.or(names.last()).map(|name| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::fd::AsRawFd;

    use super::*;

    fn message(kind: u16, inode: u32, group: u64) -> Vec<u8> {
        let mut bytes = 88_u32.to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.resize(HEADER + INODE, 0);
        bytes.extend(inode.to_ne_bytes());
        // One attribute of one byte, and the group's.
        bytes.extend(5_u16.to_ne_bytes());
        bytes.extend(8_u16.to_ne_bytes());
        bytes.extend([7, 0, 0, 0]);
        bytes.extend(12_u16.to_ne_bytes());
        bytes.extend(INET_DIAG_CGROUP_ID.to_ne_bytes());
        bytes.extend(group.to_ne_bytes());
        let length = u32::try_from(bytes.len()).expect("short").to_ne_bytes();
        bytes[..4].copy_from_slice(&length);
        bytes
    }

    #[test]
    fn an_answer_has_a_group_for_each_socket() {
        let mut groups = BTreeMap::new();
        let two =
            [message(SOCK_DIAG_BY_FAMILY, 700, 0x1_0000_0063), message(SOCK_DIAG_BY_FAMILY, 701, 5)].concat();
        assert!(read_answer(&two, &mut groups), "more may follow");
        assert_eq!(groups, BTreeMap::from([(700, 0x1_0000_0063), (701, 5)]));
        // NLMSG_DONE, NLMSG_ERROR
        for end in [3, 2] {
            assert!(!read_answer(&message(end, 702, 9), &mut groups));
        }
        assert_eq!(groups.len(), 2);
    }

    #[test]
    fn a_broken_answer_is_no_panic() {
        let whole = message(SOCK_DIAG_BY_FAMILY, 700, 5);
        for length in 0..whole.len() {
            let _ = read_answer(&whole[..length], &mut BTreeMap::new());
        }
        assert!(!read_answer(&[0; 64], &mut BTreeMap::new()));
        assert!(!read_answer(&[0xff; 64], &mut BTreeMap::new()));
    }

    #[test]
    fn the_kernel_tells_the_group_of_a_socket() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let link = fs::read_link(format!("/proc/self/fd/{}", listener.as_raw_fd())).expect("its file");
        let inode =
            link.to_str().and_then(|link| link.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok());
        let inode: u64 = inode.expect("its inode");
        let mut groups = BTreeMap::new();
        ask(SORTS[0], &mut groups).expect("an answer");
        assert!(groups.contains_key(&inode), "{inode} is not among {groups:?}");
    }

    #[test]
    fn a_group_is_called_as_its_unit() {
        let root = tempfile::tempdir().expect("a folder");
        let inner = root.path().join("system.slice/docker.service/inner");
        fs::create_dir_all(&inner).expect("folders");
        let number = |path: &Path| fs::metadata(path).expect("a folder").ino();
        let name = |path: &Path| name_of(root.path(), number(path));
        assert_eq!(name(&inner).as_deref(), Some("docker.service"));
        assert_eq!(name(&root.path().join("system.slice")).as_deref(), Some("system.slice"));
        assert_eq!(name_of(root.path(), number(root.path())), None, "the root is nobody's");
    }
}
