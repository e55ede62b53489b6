//! Facts of this host that do not change while the daemon runs: its name, kernel, processors, memory and boot.
//!
//! Read once, from /proc and the kernel; a fact that cannot be read takes the value that refuses least, and the daemon
//! goes on.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use agentd_api::ByteSize;
use agentd_api::vm::CpuSet;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    pub hostname: String,
    pub kernel: String,
    pub cpus: u32,
    /// All of its RAM, as the kernel counts it.
    pub memory: ByteSize,
    /// Differs after each boot of the host.
    pub boot_id: String,
}

impl Host {
    pub fn read() -> Self {
        let named = nix::sys::utsname::uname().ok();
        let text = |value: Option<&std::ffi::OsStr>| {
            value.map_or_else(|| "unknown".to_owned(), |v| v.to_string_lossy().into_owned())
        };
        let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        Self {
            hostname: text(named.as_ref().map(|n| n.nodename())),
            kernel: text(named.as_ref().map(|n| n.release())),
            cpus: cpus(),
            memory: memory_total(&meminfo).unwrap_or(ByteSize(u64::MAX)),
            boot_id: boot_id().to_owned(),
        }
    }
}

/// As many processors as this process may use.
pub fn cpus() -> u32 {
    std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX))
}

/// Differs after each boot of the host.
pub fn boot_id() -> &'static str {
    static READ: OnceLock<String> = OnceLock::new();
    READ.get_or_init(|| {
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        text.trim().to_owned()
    })
}

/// The processors that were there when the daemon started. Empty where the kernel does not say.
pub fn online() -> &'static CpuSet {
    static READ: OnceLock<CpuSet> = OnceLock::new();
    READ.get_or_init(|| {
        let text = std::fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
        text.trim().parse().unwrap_or_default()
    })
}

/// What is reserved in huge pages, in use or not; read anew, since it is changed while the host runs. None where the
/// kernel has none at all.
pub fn huge_pages() -> Option<ByteSize> {
    huge_pages_of(&std::fs::read_to_string("/proc/meminfo").ok()?).map(|(all, _)| all)
}

/// All and free ones: the lines `HugePages_Total:     128`, `HugePages_Free:     64` and `Hugepagesize:       2048 kB`.
pub fn huge_pages_of(meminfo: &str) -> Option<(ByteSize, ByteSize)> {
    let value = |name: &str| -> Option<u64> {
        let line = meminfo.lines().find_map(|l| l.strip_prefix(name))?;
        line.trim().trim_end_matches("kB").trim().parse().ok()
    };
    let size = value("Hugepagesize:")?;
    let bytes = |name: &str| Some(ByteSize::kib(value(name)?.checked_mul(size)?));
    Some((bytes("HugePages_Total:")?, bytes("HugePages_Free:")?))
}

/// The disk that a folder's files are on, as /dev/sda: what a kernel counts requests of is a disk, not its partition.
pub fn disk_of(folder: &Path) -> Result<PathBuf, String> {
    let there =
        nix::sys::stat::stat(folder).map_err(|e| format!("{} cannot be seen: {e}", folder.display()))?;
    let (major, minor) = (nix::sys::stat::major(there.st_dev), nix::sys::stat::minor(there.st_dev));
    let none = || format!("{} is on no disk of its own that could be limited", folder.display());
    let at = std::fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")).map_err(|_| none())?;
    let whole = if at.join("partition").exists() { at.parent().map(Path::to_owned) } else { Some(at) };
    let name = whole.as_deref().and_then(Path::file_name).ok_or_else(none)?;
    Ok(Path::new("/dev").join(name))
}

/// The line `MemTotal:  16384256 kB` of /proc/meminfo.
fn memory_total(meminfo: &str) -> Option<ByteSize> {
    let line = meminfo.lines().find_map(|l| l.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(ByteSize::kib(kib))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_memory_is_read() {
        let text = "MemTotal:       16384256 kB\nMemFree:          123 kB\n";
        assert_eq!(memory_total(text), Some(ByteSize::kib(16_384_256)));
        assert_eq!(memory_total("MemFree: 1 kB\n"), None);
    }

    #[test]
    fn huge_pages_are_counted_in_bytes() {
        let text = "HugePages_Total:     128\nHugePages_Free:       64\nHugepagesize:       2048 kB\n";
        assert_eq!(huge_pages_of(text), Some((ByteSize::mib(256), ByteSize::mib(128))));
        assert_eq!(huge_pages_of("MemTotal: 1 kB\n"), None);
    }

    #[test]
    fn what_is_on_no_disk_is_said() {
        assert!(disk_of(Path::new("/proc")).is_err_and(|why| why.contains("/proc")));
        assert!(disk_of(Path::new("/nowhere")).is_err());
    }

    #[test]
    fn this_host_has_facts() {
        let host = Host::read();
        assert!(host.cpus >= 1 && host.memory > ByteSize::mib(64) && host.memory < ByteSize(u64::MAX));
        assert!(online().contains(0));
        assert_eq!(host.boot_id.len(), 36);
        assert!(!host.hostname.is_empty() && !host.kernel.is_empty());
    }
}
