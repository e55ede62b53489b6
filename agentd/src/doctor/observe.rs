//! Looks at the host for `doctor`. What it looks with is given to it, so that a bare host can be shown to it in a test.

use std::path::{Path, PathBuf};

use super::{Init, PROGRAMS, RemoteSeen, Seen};

/// What to look with, and what others have found out already.
pub struct Looking {
    /// Where a program is, or nothing where it is not installed.
    pub find: fn(&str) -> Option<PathBuf>,
    /// What is amiss with /dev/kvm although it opens, and what mends it.
    pub kvm_trouble: fn() -> Option<(String, String)>,
    /// `/`, but for tests.
    pub root: PathBuf,
    pub state_dir: PathBuf,
    pub group: String,
    /// The answers of the backends and the store, which only their owners can ask.
    pub lacks: Vec<(String, String)>,
    pub libvirt: Result<String, String>,
    /// Of the container engine.
    pub engine: Result<String, String>,
    pub accel: Option<agentd_drivers::vm::AccelAnswer>,
    pub store: Result<(), String>,
    pub default_network: Option<String>,
    /// agentd's program for guests.
    pub guest_program: Option<PathBuf>,
    pub firmware: agentd_api::vm::FirmwareThere,
    pub remote: Option<RemoteSeen>,
}

/// What would serve Docker's API.
const ENGINES: [&str; 2] = ["dockerd", "podman"];

/// Reads files and asks the user database: blocks for some milliseconds.
pub fn observe(looking: Looking) -> Seen {
    let at = |path: &str| looking.root.join(path.trim_start_matches('/'));
    let text = |path: &str| std::fs::read_to_string(at(path)).ok();
    let cpuinfo = text("/proc/cpuinfo").unwrap_or_default();
    let flags = |l: &str| l.starts_with("flags") && l.split_whitespace().any(|f| f == "vmx" || f == "svm");
    Seen {
        init: if at("/run/systemd/system").is_dir() { Init::Systemd } else { Init::Other },
        root: nix::unistd::geteuid().is_root(),
        missing: PROGRAMS.iter().filter(|need| (looking.find)(need.program).is_none()).collect(),
        kvm: observe_kvm(&at("/dev/kvm")),
        kvm_trouble: (looking.kvm_trouble)(),
        vendor_flags: cpuinfo.lines().any(flags),
        group_exists: matches!(nix::unistd::Group::from_name(&looking.group), Ok(Some(_))),
        space: observe_space(&looking.state_dir),
        ip_forward: text("/proc/sys/net/ipv4/ip_forward").map(|t| t.trim() == "1"),
        huge_pages: text("/proc/meminfo").and_then(|text| crate::host::huge_pages_of(&text)),
        lacks: looking.lacks,
        libvirt: looking.libvirt,
        engine_installed: ENGINES.iter().any(|program| (looking.find)(program).is_some()),
        engine: looking.engine,
        accel: looking.accel,
        group: looking.group,
        store: looking.store,
        default_network: looking.default_network,
        guest_program: looking.guest_program,
        firmware: looking.firmware,
        remote: looking.remote,
    }
}

fn observe_kvm(path: &Path) -> Result<(), String> {
    match std::fs::OpenOptions::new().read(true).write(true).open(path) {
        Ok(_) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err("is not there".to_owned()),
        Err(e) => Err(format!("does not open ({e})")),
    }
}

fn observe_space(state_dir: &Path) -> Result<u64, String> {
    let seen = nix::sys::statvfs::statvfs(state_dir).map_err(|e| e.to_string())?;
    Ok(seen.blocks_available().saturating_mul(seen.fragment_size()))
}
