//! An agentd-sim under measurement.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::caller::{Caller, get, post};

pub struct Sim {
    child: Child,
    pub socket: PathBuf,
    pub state: PathBuf,
}

pub fn binary(name: &str) -> Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(name);
    ensure!(
        path.is_file(),
        "{} is not built: cargo build --release -p agentd --features sim -p agentctl",
        path.display()
    );
    Ok(path)
}

impl Sim {
    /// Starts it, and waits until it answers a list.
    #[expect(clippy::disallowed_methods, reason = "the rule is for the daemon")]
    pub fn start(state: &Path, preload: usize) -> Result<(Self, f64)> {
        let socket = state.with_extension("sock");
        let mut command = Command::new(binary("agentd-sim")?);
        command.arg("--state-dir").arg(state).arg("--socket").arg(&socket);
        if preload > 0 {
            command.arg("--preload").arg(preload.to_string());
        }
        let log = std::fs::File::create(state.with_extension("log"))?;
        let from = Instant::now();
        let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;
        let mut sim = Self { child, socket, state: state.to_owned() };
        let list = get("/v1/vms");
        loop {
            if let Ok(mut caller) = Caller::connect(&sim.socket)
                && let Ok((200, _)) = caller.call(&list)
            {
                break;
            }
            ensure!(sim.child.try_wait()?.is_none(), "agentd-sim ended: see {}", state.display());
            ensure!(from.elapsed() < Duration::from_secs(300), "agentd-sim did not answer");
            std::thread::sleep(Duration::from_micros(500));
        }
        let took = from.elapsed().as_secs_f64();
        Ok((sim, took))
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until there are `n` VMs and none of them is being worked on.
    pub fn settled(&self, n: usize) -> Result<()> {
        let from = Instant::now();
        loop {
            let mut caller = Caller::connect(&self.socket)?;
            let count = |caller: &mut Caller, fields: &str| -> Result<usize> {
                let (_, body) = caller.call(&get(&format!("/v1/vms?{fields}")))?;
                let value: serde_json::Value = serde_json::from_slice(body)?;
                Ok(value["items"].as_array().map_or(0, Vec::len))
            };
            let all = count(&mut caller, "")?;
            let busy = count(&mut caller, "fields=state=pending")?
                + count(&mut caller, "fields=state=provisioning")?;
            if all == n && busy == 0 {
                return self.at_rest();
            }
            ensure!(from.elapsed() < Duration::from_secs(600), "{all} of {n} VMs, {busy} of them busy");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Waits until it does nothing any more: what follows a state's last change is work too.
    fn at_rest(&self) -> Result<()> {
        for _ in 0..120 {
            let before = self.cpu()?;
            std::thread::sleep(Duration::from_secs(1));
            if self.cpu()? - before < 0.03 {
                return Ok(());
            }
        }
        anyhow::bail!("agentd-sim does not come to rest")
    }

    /// SIGTERM to its end, in seconds.
    pub fn stop(mut self) -> Result<f64> {
        let from = Instant::now();
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id())?);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM)?;
        self.child.wait()?;
        Ok(from.elapsed().as_secs_f64())
    }

    /// Resident memory in bytes.
    pub fn memory(&self) -> Result<u64> {
        let text = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", self.pid()))?;
        let line = text.lines().find(|l| l.starts_with("Pss:")).context("Pss")?;
        let kib: u64 = line.split_whitespace().nth(1).context("a number")?.parse()?;
        Ok(kib * 1024)
    }

    /// CPU seconds used so far.
    pub fn cpu(&self) -> Result<f64> {
        cpu_of(&format!("/proc/{}/stat", self.pid()))
    }

    /// Bytes handed to the disk so far.
    pub fn written(&self) -> Result<u64> {
        let text = std::fs::read_to_string(format!("/proc/{}/io", self.pid()))?;
        let line = text.lines().find_map(|l| l.strip_prefix("write_bytes: ")).context("write_bytes")?;
        Ok(line.parse()?)
    }
}

fn cpu_of(stat: &str) -> Result<f64> {
    let text = std::fs::read_to_string(stat)?;
    let (_, rest) = text.rsplit_once(')').context("a stat line")?;
    let ticks: Vec<u64> = rest.split_whitespace().skip(11).take(2).filter_map(|t| t.parse().ok()).collect();
    Ok(ticks.iter().sum::<u64>() as f64 / 100.0)
}

impl Drop for Sim {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A VM that is written down and not started, on no network: the least that a create can be.
pub fn create(name: &str) -> Vec<u8> {
    let body = format!(r#"{{"name":"{name}","spec":{{"image":"micro","desired":"stopped","networks":[]}}}}"#);
    post("/v1/vms", &body)
}
