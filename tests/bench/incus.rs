//! Incus beside us, where it is installed and runs: the same work on its Unix socket.
//!
//! It is measured with as many instances as it has: make them first (`incus init --empty`), as many as the row says. The
//! instances that `create` makes are named `agentd-bench-*` and removed again.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::caller::{Caller, Figures, delete, get, load, post};

/// How many seconds one of its operations may take, which is less than an answer may: those of many callers wait for each
/// other.
const WAIT: u32 = 240;

pub struct Incus {
    socket: PathBuf,
}

impl Incus {
    pub fn find() -> Result<Self> {
        let socket = ["/var/lib/incus/unix.socket", "/run/incus/unix.socket"]
            .into_iter()
            .map(Path::new)
            .find(|path| path.exists())
            .context("--peer incus: no Incus runs here (no unix.socket in /var/lib/incus or /run/incus)")?;
        let incus = Self { socket: socket.to_owned() };
        let instances = incus.instances()?;
        eprintln!("Incus has {} instances", instances.len());
        Ok(incus)
    }

    fn instances(&self) -> Result<Vec<String>> {
        let mut caller = Caller::connect(&self.socket)?;
        let (status, body) = caller.call(&get("/1.0/instances"))?;
        ensure!(status == 200, "Incus answers {status}");
        let value: serde_json::Value = serde_json::from_slice(body)?;
        let all = value["metadata"].as_array().cloned().unwrap_or_default();
        Ok(all.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect())
    }

    pub fn get_one(&self, connections: usize, span: Duration) -> Result<Figures> {
        let paths = self.instances()?;
        ensure!(!paths.is_empty(), "Incus has no instance to get");
        let pick = |thread: usize, n: usize| get(&paths[(thread * 131 + n * 7) % paths.len()]);
        load(&self.socket, connections, span, pick, 200)
    }

    pub fn list(&self, span: Duration) -> Result<Figures> {
        load(&self.socket, 1, span, |_, _| get("/1.0/instances?recursion=2"), 200)
    }

    /// Creates of empty instances a second, each waited for as Incus wants it: by its operation.
    pub fn create(&self, callers: usize, span: Duration) -> Result<f64> {
        // Of a run that was cut off.
        self.remove_made()?;
        let (counter, made) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let from = Instant::now();
        std::thread::scope(|scope| -> Result<()> {
            let threads: Vec<_> = (0..callers)
                .map(|_| {
                    scope.spawn(|| -> Result<()> {
                        let mut caller = Caller::connect(&self.socket)?;
                        while from.elapsed() < span {
                            let n = counter.fetch_add(1, Ordering::Relaxed);
                            let body = format!(r#"{{"name":"agentd-bench-{n}","source":{{"type":"none"}}}}"#);
                            self.operation(&mut caller, &post("/1.0/instances", &body))?;
                            made.fetch_add(1, Ordering::Relaxed);
                        }
                        Ok(())
                    })
                })
                .collect();
            for thread in threads {
                thread.join().map_err(|_| anyhow::anyhow!("a caller panicked"))??;
            }
            Ok(())
        })?;
        let rate = made.load(Ordering::Relaxed) as f64 / from.elapsed().as_secs_f64();
        self.remove_made()?;
        Ok(rate)
    }

    fn remove_made(&self) -> Result<()> {
        // Before there is a connection: one that says nothing holds up the next with Incus.
        let all = self.instances()?;
        let mut caller = Caller::connect(&self.socket)?;
        for path in all.iter().filter(|p| p.contains("/agentd-bench-")) {
            self.operation(&mut caller, &delete(path))?;
        }
        Ok(())
    }

    fn operation(&self, caller: &mut Caller, request: &[u8]) -> Result<()> {
        let (status, body) = caller.call(request)?;
        let value: serde_json::Value = serde_json::from_slice(body)?;
        if status != 202 {
            bail!("Incus answers {status}: {value}");
        }
        let operation = value["operation"].as_str().context("an operation")?.to_owned();
        let (status, body) = caller.call(&get(&format!("{operation}/wait?timeout={WAIT}")))?;
        ensure!(status == 200, "its operation ended with {status}");
        let value: serde_json::Value = serde_json::from_slice(body)?;
        ensure!(value["metadata"]["status"] == "Success", "its operation has not succeeded: {value}");
        Ok(())
    }
}
