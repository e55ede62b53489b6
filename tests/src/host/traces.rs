//! What agentd leaves on a host: domains, links, rules, processes, files, leases.

use std::path::Path;
use std::time::Duration;

use super::namespace::run;
use super::{Agentd, virsh};

/// Everything on this host that is some agentd's, one line each.
pub fn of_vms(agentd: &Agentd) -> Vec<String> {
    let mut found = Vec::new();
    for domain in
        virsh(&["list", "--all", "--name"]).unwrap_or_default().lines().filter(|l| !l.trim().is_empty())
    {
        found.push(format!("domain {domain}"));
    }
    for link in links().iter().filter(|l| l.starts_with("agt")) {
        found.push(format!("tap {link}"));
    }
    for folder in files_below(&agentd.state().join("vms"), 1) {
        found.push(format!("folder {folder}"));
    }
    for folder in files_below(&agentd.state().join("disk-sets"), 1) {
        found.push(format!("set of disks {folder}"));
    }
    for file in files_below(&agentd.state().join("networks"), 3) {
        if file.contains("lease") {
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            found.extend(text.lines().filter(|l| !l.trim().is_empty()).map(|l| format!("lease {l}")));
        }
    }
    let rules = run("/usr/sbin/nft", &["list", "ruleset"]).unwrap_or_default();
    found.extend(
        rules
            .lines()
            .filter(|l| l.contains("dnat") && l.contains(" to "))
            .map(|l| format!("rule {}", l.trim())),
    );
    found
}

/// The names of the host's links.
pub fn links() -> Vec<String> {
    let text = run("/usr/sbin/ip", &["-o", "link", "show"]).expect("ip link");
    text.lines()
        .filter_map(|line| line.split(": ").nth(1))
        .map(|name| name.split('@').next().unwrap_or(name).to_owned())
        .collect()
}

/// Bridges of ours, tables of ours, dnsmasq processes: what is left when even the networks are gone.
pub fn of_networks() -> Vec<String> {
    let mut found: Vec<String> = links().into_iter().filter(|l| l.starts_with("agb")).collect();
    let tables = run("/usr/sbin/nft", &["list", "tables"]).unwrap_or_default();
    found.extend(tables.lines().filter(|l| l.contains("agentd")).map(str::to_owned));
    found.extend(processes("dnsmasq"));
    found
}

/// The processes of that name, with their arguments.
pub fn processes(name: &str) -> Vec<String> {
    let Ok(folder) = std::fs::read_dir("/proc") else { return Vec::new() };
    folder
        .filter_map(Result::ok)
        .filter_map(|entry| {
            let comm = std::fs::read_to_string(entry.path().join("comm")).ok()?;
            let arguments = std::fs::read_to_string(entry.path().join("cmdline")).ok()?;
            let pid = entry.file_name().to_string_lossy().into_owned();
            (comm.trim() == name && !arguments.is_empty())
                .then(|| format!("{pid} {}", arguments.replace('\0', " ")))
        })
        .collect()
}

/// How long processors have been at a guest that runs, by its QEMU.
pub fn cpu_of_guest(agentd: &Agentd, name: &str) -> Duration {
    let id = agentd.vm(name)["id"].as_str().expect("an id").to_owned();
    let guests = processes("qemu-system-x86");
    let guest = guests.iter().find(|line| line.contains(&id)).unwrap_or_else(|| panic!("{id}: {guests:?}"));
    let pid = guest.split(' ').next().expect("a pid");
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    // The program's name is in parentheses and may hold anything; what follows are numbers.
    let (_, numbers) = stat.rsplit_once(')').expect("a name");
    let ticks: u64 = numbers.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<u64>().ok()).sum();
    // Linux counts hundredths of a second here, whatever its own clock is.
    Duration::from_millis(ticks * 10)
}

fn files_below(folder: &Path, depth: usize) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut found = Vec::new();
    for entry in entries.filter_map(Result::ok) {
        found.push(entry.path().display().to_string());
        if depth > 1 && entry.path().is_dir() {
            found.extend(files_below(&entry.path(), depth - 1));
        }
    }
    found
}
