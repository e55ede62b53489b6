//! A thousand watchers and ten thousand changes: every one delivered, in order, soon.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::Bench;
use crate::caller::{Caller, get, post};
use crate::daemon::Sim;
use crate::table::{Table, line, millis};

/// One change in every so many is timed at every watcher; all are counted and their order checked.
const TIMED: usize = 97;

pub fn rows(bench: &Bench, table: &mut Table) -> Result<()> {
    let (watchers, changes) = (bench.times(1000), bench.times(10_000));
    let (sim, _) = Sim::start(&bench.path("watch"), 100)?;
    sim.settled(100)?;
    let mut caller = Caller::connect(&sim.socket)?;
    let (_, body) = caller.call(&get("/v1/ssh-keys"))?;
    let since =
        serde_json::from_slice::<serde_json::Value>(body)?["revision"].as_u64().context("a revision")?;
    let acknowledged: Mutex<HashMap<u64, Instant>> = Mutex::new(HashMap::new());
    let (ready, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let lateness: Mutex<Vec<(u64, Instant)>> = Mutex::new(Vec::new());
    std::thread::scope(|scope| -> Result<()> {
        for _ in 0..watchers {
            std::thread::Builder::new().stack_size(128 << 10).spawn_scoped(scope, || {
                let seen = follow(&sim, since, changes, &ready);
                match seen {
                    Ok(mut times) => lateness.lock().expect("no panic").append(&mut times),
                    Err(error) => {
                        eprintln!("a watcher: {error:#}");
                        failed.fetch_add(1, Ordering::SeqCst);
                    }
                }
            })?;
        }
        let from = Instant::now();
        while ready.load(Ordering::SeqCst) < watchers {
            ensure!(
                from.elapsed() < Duration::from_secs(60),
                "only {} watchers began",
                ready.load(Ordering::SeqCst)
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        for n in 0..changes {
            let revision = change(&mut caller, n)?;
            acknowledged.lock().expect("no panic").insert(revision, Instant::now());
        }
        Ok(())
    })?;
    let acknowledged = acknowledged.into_inner().expect("no panic");
    let mut late: Vec<f64> = lateness
        .into_inner()
        .expect("no panic")
        .into_iter()
        .filter_map(|(revision, at)| {
            Some(at.saturating_duration_since(*acknowledged.get(&revision)?).as_secs_f64())
        })
        .collect();
    late.sort_by(f64::total_cmp);
    ensure!(!late.is_empty(), "nothing was timed");
    let p99 = late[late.len() * 99 / 100];
    let lost = failed.load(Ordering::SeqCst);
    let said = format!("{lost} watchers missed any, p99 {} after the answer", millis(p99));
    table.add(line(
        format!("watch: {watchers} watchers, {changes} changes"),
        said,
        "all in order, p99 under 50 ms",
    ));
    Ok(())
}

/// One key is written again and again: its labels change, nothing is reconciled.
fn change(caller: &mut Caller, n: usize) -> Result<u64> {
    let key = format!("ssh-ed25519 {} k{n}", "A".repeat(68));
    let request = if n == 0 {
        post("/v1/ssh-keys", &format!(r#"{{"name":"k","spec":{{"public_key":"{key}"}}}}"#))
    } else {
        let body = format!(r#"{{"labels":{{"n":"{n}"}}}}"#);
        let mut bytes = post("/v1/ssh-keys/k", &body);
        bytes.splice(0..4, b"PATCH".iter().copied());
        let text = String::from_utf8(bytes)?.replace("application/json", "application/merge-patch+json");
        text.into_bytes()
    };
    let (status, body) = caller.call(&request)?;
    ensure!(status == 200 || status == 201, "{status}: {}", String::from_utf8_lossy(body));
    serde_json::from_slice::<serde_json::Value>(body)?["revision"].as_u64().context("a revision")
}

/// Follows until the last change; an error where one is missing or out of order.
fn follow(sim: &Sim, since: u64, changes: usize, ready: &AtomicUsize) -> Result<Vec<(u64, Instant)>> {
    let mut stream = UnixStream::connect(&sim.socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(120)))?;
    write!(stream, "GET /v1/ssh-keys?watch=true&since={since} HTTP/1.1\r\nhost: agentd\r\n\r\n")?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    ensure!(line.contains(" 200 "), "{line}");
    ready.fetch_add(1, Ordering::SeqCst);
    let (mut times, mut next, mut last) = (Vec::new(), 1usize, 0u64);
    let wanted = format!("\"n\":\"{}\"", changes - 1);
    loop {
        line.clear();
        ensure!(reader.read_line(&mut line)? > 0, "the watch ended");
        let now = Instant::now();
        if !line.starts_with('{') || line.contains("\"bookmark\"") {
            continue;
        }
        let after = line.split("\"revision\":").nth(1).context("a revision")?;
        let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
        let revision: u64 = digits.parse()?;
        ensure!(revision > last, "revision {revision} after {last}");
        last = revision;
        if let Some(rest) = line.split("\"n\":\"").nth(1) {
            let n: usize = rest.split('"').next().unwrap_or_default().parse()?;
            ensure!(n == next || n + 1 == next, "change {n} where {next} was due");
            next = n + 1;
            if n.is_multiple_of(TIMED) {
                times.push((revision, now));
            }
        }
        if line.contains(&wanted) {
            return Ok(times);
        }
    }
}
