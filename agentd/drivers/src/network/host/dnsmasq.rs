//! A network's dnsmasq: started, found again, kept to what it should serve, ended.
//!
//! It makes itself a daemon: it outlives agentd, and a restarted agentd finds it by its pid file, which counts only
//! where that process's command line names our configuration. A process that merely has the number is never ended.
//!
//! ```text
//! networks/<id>/dnsmasq.conf  dnsmasq.pid  leases
//!               dhcp-hosts/<ip>   dns-hosts/<ip>     read by dnsmasq as they appear
//! ```
//!
//! A host that is added costs two small files and no pause. Where one is removed or changed dnsmasq is ended, the files
//! and leases are put right, and it is started again (some 40 ms in all): it drops neither a lease nor a DHCP host in any
//! other way, and an address must be free for its next owner when `ensure_served` returns.
//!
//! It runs as the user `dnsmasq` (`nobody` where there is none), as distributions have it, because it reads packets of
//! guests. That user must get to the host files: where a folder above them is closed to others it stays root, and says
//! so in the log.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::failed_to;
use crate::exec::{ExecError, Program};
use crate::network::dnsmasq_config::{
    CONFIG, DHCP_HOSTS, DNS_HOSTS, DnsmasqSetting, HostFiles, LEASES, PID, prune_leases, render_dnsmasq,
    render_hosts,
};
use crate::network::{NetworkError, NetworkSetup};

/// How long a dnsmasq may take to end when asked, and again when killed.
const ENDING: Duration = Duration::from_secs(3);
/// How long its address may be in use still: one that somebody else killed may not have closed its sockets yet.
const IN_USE: Duration = Duration::from_millis(500);

/// One network's dnsmasq and the bridge that it serves.
#[derive(Debug, Clone)]
pub struct Serving {
    pub folder: PathBuf,
    pub bridge: String,
    pub index: u32,
    pub upstream: Vec<IpAddr>,
}

/// Makes dnsmasq run and serve exactly `setup`. Returns its pid.
pub async fn ensure_served(serving: &Serving, setup: &NetworkSetup) -> Result<i32, NetworkError> {
    let wanted = {
        let (serving, setup) = (serving.clone(), setup.clone());
        blocking("reading the network's folder", move || Wanted::of(&serving, setup)).await?
    };
    let running = running(&serving.folder);
    if let (Some(pid), Change::Nothing | Change::Additions) = (running, wanted.change) {
        if wanted.change == Change::Additions {
            blocking("writing the network's hosts", move || wanted.write_hosts()).await?;
        }
        return Ok(pid);
    }
    stop(&serving.folder).await?;
    blocking("writing the network's folder", move || wanted.write()).await?;
    start(&serving.folder).await
}

/// The pid of the dnsmasq that serves from this folder.
pub fn running(folder: &Path) -> Option<i32> {
    let pid = fs::read_to_string(folder.join(PID)).ok()?.trim().parse().ok()?;
    is_ours(pid, folder).then_some(pid)
}

/// Whether that process is the dnsmasq of this folder. A zombie is not: it has no command line.
pub fn is_ours(pid: i32, folder: &Path) -> bool {
    let Ok(line) = fs::read(format!("/proc/{pid}/cmdline")) else { return false };
    let mut arguments = line.split(|byte| *byte == 0);
    let program = arguments.next().unwrap_or_default();
    program.rsplit(|byte| *byte == b'/').next() == Some(b"dnsmasq")
        && arguments.any(|argument| argument == config_argument(folder).as_bytes())
}

/// Ends the dnsmasq of this folder, also one whose pid file is lost, and waits for its end.
pub async fn stop(folder: &Path) -> Result<(), NetworkError> {
    let pids = match running(folder) {
        Some(pid) => vec![pid],
        None => all_of(folder),
    };
    for pid in pids {
        let Some(born) = born(pid) else { continue };
        let mut gone = false;
        for signal in [Signal::SIGTERM, Signal::SIGKILL] {
            if !gone && is_ours(pid, folder) {
                let _ = kill(Pid::from_raw(pid), signal);
            }
            gone = gone || ended(pid, born).await;
        }
        if !gone {
            let detail = format!("process {pid} is there still after SIGKILL");
            return Err(NetworkError::Failed { step: "ending dnsmasq".to_owned(), detail });
        }
    }
    Ok(())
}

/// Until it has closed its sockets, which is later than it has lost its command line.
async fn ended(pid: i32, birth: u64) -> bool {
    let deadline = Instant::now() + ENDING;
    while born(pid) == Some(birth) {
        if Instant::now() > deadline {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    true
}

/// When a process began, in the kernel's ticks: with its pid, who it is. None where it is gone or a zombie.
fn born(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The program's name is in parentheses and may hold anything; state is field 3, the begin field 22.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") { None } else { fields.nth(18)?.parse().ok() }
}

/// Every dnsmasq of this folder that runs.
fn all_of(folder: &Path) -> Vec<i32> {
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| is_ours(*pid, folder)).collect()
}

async fn start(folder: &Path) -> Result<i32, NetworkError> {
    let deadline = Instant::now() + IN_USE;
    loop {
        let dnsmasq = Program::new("dnsmasq").arg(config_argument(folder)).deadline(Duration::from_secs(10));
        let stderr = match dnsmasq.run().await {
            Ok(_) => {
                return running(folder).ok_or_else(|| NetworkError::Failed {
                    step: "starting dnsmasq".to_owned(),
                    detail: "it ended right after its start; the system's log says why".to_owned(),
                });
            }
            Err(ExecError::Status { stderr, .. }) if stderr.contains("Address already in use") => stderr,
            Err(error) => return Err(failed_to("starting dnsmasq")(error)),
        };
        if Instant::now() > deadline {
            let what = "another name or DHCP server on the bridge's address".to_owned();
            return Err(NetworkError::Conflict { what, detail: stderr });
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn config_argument(folder: &Path) -> String {
    format!("--conf-file={}", folder.join(CONFIG).display())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Nothing,
    /// Files that dnsmasq reads by itself as they appear.
    Additions,
    /// Only a new dnsmasq can take it up.
    Restart,
}

/// What the folder should hold, and how that differs from what it does.
struct Wanted {
    folder: PathBuf,
    setup: NetworkSetup,
    config: String,
    files: HostFiles,
    change: Change,
}

impl Wanted {
    fn of(serving: &Serving, setup: NetworkSetup) -> io::Result<Self> {
        let folder = serving.folder.clone();
        for folder in [folder.clone(), folder.join(DHCP_HOSTS), folder.join(DNS_HOSTS)] {
            make_folder(&folder)?;
        }
        let user = user_for(&folder);
        let Serving { bridge, index, upstream, .. } = serving;
        let setting = DnsmasqSetting { bridge, index: *index, folder: &folder, user, upstream };
        let config = render_dnsmasq(&setup, &setting).ok_or_else(|| {
            let why = format!(
                "neither the domain '{}' nor {} may hold such characters",
                setup.domain,
                folder.display()
            );
            io::Error::new(ErrorKind::InvalidInput, why)
        })?;
        let files = render_hosts(&setup);
        let mut wanted = Self { folder, setup, config, files, change: Change::Nothing };
        wanted.change = wanted.compare()?;
        Ok(wanted)
    }

    fn compare(&self) -> io::Result<Change> {
        if read_where_there(&self.folder.join(CONFIG))?.as_ref() != Some(&self.config)
            || self.pruned_leases()?.is_some()
        {
            return Ok(Change::Restart);
        }
        let mut change = Change::Nothing;
        for (name, wanted) in [(DHCP_HOSTS, &self.files.dhcp), (DNS_HOSTS, &self.files.dns)] {
            let there = read_folder(&self.folder.join(name))?;
            if there.iter().any(|(file, text)| wanted.get(file) != Some(text)) {
                return Ok(Change::Restart);
            }
            if there.len() < wanted.len() {
                change = Change::Additions;
            }
        }
        Ok(change)
    }

    fn pruned_leases(&self) -> io::Result<Option<String>> {
        let leases = read_where_there(&self.folder.join(LEASES))?;
        Ok(leases.and_then(|leases| prune_leases(&leases, &self.setup.hosts)))
    }

    /// While no dnsmasq of this folder runs.
    fn write(&self) -> io::Result<()> {
        self.write_hosts()?;
        if let Some(leases) = self.pruned_leases()? {
            write_file(&self.folder.join(LEASES), &leases)?;
        }
        let _ = fs::remove_file(self.folder.join(PID));
        // Last: while it differs, this is done again.
        write_file(&self.folder.join(CONFIG), &self.config)
    }

    fn write_hosts(&self) -> io::Result<()> {
        // Names first: a guest that has its address may be asked for at once.
        for (name, wanted) in [(DNS_HOSTS, &self.files.dns), (DHCP_HOSTS, &self.files.dhcp)] {
            let folder = self.folder.join(name);
            let there = read_folder(&folder)?;
            for file in there.keys().filter(|file| !wanted.contains_key(*file)) {
                fs::remove_file(folder.join(file))?;
            }
            for (file, text) in wanted.iter().filter(|(file, text)| there.get(*file) != Some(text)) {
                write_file(&folder.join(file), text)?;
            }
        }
        Ok(())
    }
}

/// Whom dnsmasq becomes once it has its sockets.
fn user_for(folder: &Path) -> &'static str {
    let closed = folder
        .ancestors()
        .skip(1)
        .find(|above| !fs::metadata(above).is_ok_and(|found| found.permissions().mode() & 0o001 != 0));
    if let Some(closed) = closed {
        let closed = closed.display();
        tracing::warn!(%closed, "dnsmasq runs as root, because only root gets past this folder (chmod o+x mends it)");
        return "root";
    }
    match nix::unistd::User::from_name("dnsmasq") {
        Ok(Some(_)) => "dnsmasq",
        _ => "nobody",
    }
}

/// Made where it is not there; open to others for reading, whatever the umask.
fn make_folder(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o755).create(folder)?;
    let found = fs::metadata(folder)?.permissions().mode() & 0o777;
    if found == 0o755 { Ok(()) } else { fs::set_permissions(folder, fs::Permissions::from_mode(0o755)) }
}

/// Whole, by a rename. dnsmasq passes over names that begin with a dot.
fn write_file(path: &Path, text: &str) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = path.with_file_name(format!(".{name}.new"));
    fs::write(&new, text)?;
    fs::set_permissions(&new, fs::Permissions::from_mode(0o644))?;
    fs::rename(&new, path)
}

fn read_where_there(path: &Path) -> io::Result<Option<String>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The files of a folder by name; left-overs of `write_file` among them.
fn read_folder(folder: &Path) -> io::Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if let Some(text) = read_where_there(&entry.path())? {
            files.insert(entry.file_name().to_string_lossy().into_owned(), text);
        }
    }
    Ok(files)
}

async fn blocking<T: Send + 'static>(
    step: &'static str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, NetworkError> {
    let failed = |detail: String| NetworkError::Failed { step: step.to_owned(), detail };
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| failed(e.to_string()))?
        .map_err(|e| failed(e.to_string()))
}
