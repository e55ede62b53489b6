//! Whose a socket is: the first program that has it among its files, by /proc. The files of another program are shown to
//! whoever could trace it, which agentd within its unit may not: then the control group that the socket was made in has to
//! do (`groups.rs`). Where neither tells, it is another program's. Nothing here fails: that somebody listens is known.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::groups;
use super::listeners::Waiting;
use crate::network::Holder;
use crate::process;

/// Looks only where there is something to find.
pub fn find_holders(sockets: &mut [Waiting]) {
    // A socket that nobody has any more has the number 0.
    let mut open: BTreeSet<u64> = sockets.iter().map(|s| s.inode).filter(|inode| *inode != 0).collect();
    if open.is_empty() {
        return;
    }
    let mut found = programs_with(&mut open);
    if !open.is_empty() {
        found.extend(groups::groups_with(&open));
    }
    for socket in sockets {
        if let Some(holder) = found.get(&socket.inode) {
            socket.listener.holder = holder.clone();
        }
    }
}

/// What is found is taken out of `open`.
fn programs_with(open: &mut BTreeSet<u64>) -> BTreeMap<u64, Holder> {
    let mut found = BTreeMap::new();
    let Ok(processes) = fs::read_dir("/proc") else { return found };
    let mut pids: Vec<u32> =
        processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    // A server has its socket from its parent: that one is the better answer, and mostly the older process.
    pids.sort_unstable();
    for pid in pids {
        if open.is_empty() {
            break;
        }
        let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else { continue };
        for inode in files.flatten().filter_map(|file| socket_of(&fs::read_link(file.path()).ok()?)) {
            if open.remove(&inode) {
                found.insert(inode, Holder::Program { name: name_of(pid), pid });
            }
        }
    }
    found
}

fn socket_of(file: &Path) -> Option<u64> {
    file.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// Its name, fit to be shown.
fn name_of(pid: u32) -> String {
    let name = printable(&process::name(pid).unwrap_or_default());
    if name.is_empty() { "a program".to_owned() } else { name }
}

fn printable(said: &[u8]) -> String {
    let text = String::from_utf8_lossy(said);
    text.trim_end().chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_known_by_its_number_among_files() {
        assert_eq!(socket_of(Path::new("socket:[5046705]")), Some(5_046_705));
        for other in ["pipe:[5046705]", "/dev/null", "socket:[x]", "socket:[1", "anon_inode:[eventpoll]"] {
            assert_eq!(socket_of(Path::new(other)), None, "{other}");
        }
    }

    #[test]
    fn a_name_breaks_no_sentence() {
        assert_eq!(printable(b"nginx\n"), "nginx");
        assert_eq!(printable(b"a\nb\x1b[2J\n"), "a?b?[2J");
        assert_eq!(printable(b"\n"), "");
    }
}
