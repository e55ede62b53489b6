//! A network's dnsmasq: started, found again, kept to what it should serve, ended.
//!
//! It makes itself a daemon: it outlives agentd, and a restarted agentd finds it by its pid file, which counts only
//! where that process's command line names our configuration. A process that merely has the number is never ended. Where
//! systemd runs agentd from its package it is a unit of its own, named for its folder, which systemd starts again where it
//! dies while agentd is away; else a plain process.
//!
//! A host that is added costs two small files and no pause. Where one is removed or changed dnsmasq is ended, the files
//! and leases are put right, and it is started again (some 40 ms in all): it drops neither a lease nor a DHCP host in any
//! other way, and an address must be free for its next owner when `ensure_served` returns.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::folder::{Change, Wanted};
use super::{blocking, failed_to};
use crate::exec::{ExecError, Program};
use crate::network::dnsmasq_config::{CONFIG, PID};
use crate::network::{NetworkError, NetworkSetup};
use crate::process::born;
use crate::unit;

/// The template of its unit.
const UNIT: &str = "agentd-dnsmasq";
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
    if let (Some(pid), Change::Nothing | Change::Additions) = (running, wanted.change()) {
        if wanted.change() == Change::Additions {
            blocking("writing the network's hosts", move || wanted.write_additions()).await?;
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
    if let Some(unit) = unit::of(UNIT, folder) {
        // Or systemd would start anew what is killed here.
        unit.stop().await.map_err(failed_to("ending dnsmasq"))?;
    }
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

/// Every dnsmasq of this folder that runs.
fn all_of(folder: &Path) -> Vec<i32> {
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| is_ours(*pid, folder)).collect()
}

async fn start(folder: &Path) -> Result<i32, NetworkError> {
    let deadline = Instant::now() + IN_USE;
    loop {
        let started = match unit::of(UNIT, folder) {
            Some(unit) => unit.start().await,
            None => {
                let dnsmasq = Program::new("dnsmasq").arg(config_argument(folder));
                dnsmasq.deadline(Duration::from_secs(10)).run().await.map(drop)
            }
        };
        let stderr = match started {
            Ok(()) => {
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
