//! What the store alone costs on this machine: `cargo run --release -p agentd-store --example measure -- [OBJECTS] [DIR]`.
//!
//! Prints the bytes of the objects, how long opening takes, the memory that the open store holds, the time of a list,
//! and how many creates a second 1, 8 and 64 callers get.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use agentd_api::{ObjectKey, ObjectName};
use agentd_store::{NewObject, Options, Query, Store, TxError};
use serde_json::json;

fn vm(prefix: &str, at: usize) -> NewObject {
    let name = |text: &str| ObjectName::parse(text).expect("a valid name");
    let key = ObjectKey::new("vm", name("default"), name(&format!("{prefix}-{at}")));
    let spec = json!({
        "image": "debian-12", "cpus": 2, "memory": "1GiB", "disk": "10GiB", "desired": "running", "restart": "never",
        "grace": "30s", "networks": [{"network": "default"}], "ssh_keys": ["admin"]
    });
    let mac = format!("52:54:00:{:02x}:{:02x}:{:02x}", at >> 16 & 255, at >> 8 & 255, at & 255);
    let status = json!({
        "state": "running", "reason": null, "observed_generation": 1, "progress": null,
        "conditions": [{"type": "backend_available", "status": true, "since": "2026-01-02T03:04:05Z"}],
        "addresses": [{"network": "default", "ip": format!("10.77.{}.{}", at >> 8 & 255, at & 255), "mac": mac}],
        "accel": "kvm", "console_log": format!("/var/lib/agentd/vms/{at}/console.log"),
        "host_boot": "5e1f9a3c-90d4-4c5e-8f0d-0c3f3b0c4d11", "started_at": "2026-01-02T03:04:05Z"
    });
    NewObject {
        finalizers: vec!["domain".into(), "network".into(), "volume".into()],
        status,
        ..NewObject::new(key, spec)
    }
}

/// Kilobytes that are this process's own.
fn memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

async fn fill(store: &Store, objects: usize) {
    for from in (0..objects).step_by(500) {
        let made = store.transact(move |tx| {
            for at in from..objects.min(from + 500) {
                let new = vm("vm", at);
                tx.allocate(
                    "ip/0197a1b2-0000-7000-8000-000000000001",
                    &format!("10.77.{}.{}", at >> 8, at & 255),
                    &new.key,
                )?;
                tx.allocate("mac", &format!("52:54:00:{at:06x}"), &new.key)?;
                tx.create(new)?;
            }
            Ok::<_, TxError>(())
        });
        made.await.expect("written");
    }
}

async fn rate(store: &Store, callers: usize) -> f64 {
    let began = Instant::now();
    let limit = Duration::from_secs(2);
    let mut running = tokio::task::JoinSet::new();
    for caller in 0..callers {
        let store = store.clone();
        running.spawn(async move {
            let mut made = 0;
            while began.elapsed() < limit {
                let new = vm(&format!("rate-{callers}-{caller}"), made);
                store.transact(move |tx| tx.create(new.clone())).await.expect("written");
                made += 1;
            }
            made
        });
    }
    let made: usize = running.join_all().await.into_iter().sum();
    made as f64 / began.elapsed().as_secs_f64()
}

fn report(file: &Path) -> Store {
    let before = memory();
    let began = Instant::now();
    let store = Store::open(file, Options::default()).expect("opened");
    let took = began.elapsed();
    let began = Instant::now();
    let listed = store.list(&Query::kind("vm"));
    let list = began.elapsed();
    let bytes: usize = listed.items.iter().map(|object| object.json().len()).sum();
    let held = (memory() - before) * 1024;
    println!("{} objects, {bytes} bytes of JSON; opened in {took:?}, listed in {list:?}", listed.items.len());
    println!(
        "memory {held} bytes, {:.2} times the JSON; disk {}",
        held as f64 / bytes as f64,
        store.stats().engine_bytes
    );
    store
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let objects = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(50_000);
    let directory = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let file = directory.join(format!("agentd-measure-{objects}.db"));
    if !file.exists() {
        let store = Store::open(&file, Options::default()).expect("opened");
        let began = Instant::now();
        fill(&store, objects).await;
        println!("made in {:?}; run it again to measure", began.elapsed());
        store.close().await.expect("closed");
        return;
    }
    let store = report(&file);
    for callers in [1, 8, 64] {
        println!("{callers} callers: {:.0} creates a second", rate(&store, callers).await);
    }
    store.close().await.expect("closed");
}
