//! A thousand watchers and ten thousand changes: every one delivered, in order, soon; and one watcher more that never
//! reads.
//!
//! Changes are made at a fixed rate by a few callers, each of which waits for its answer, so that what is measured is
//! how late a change comes and not how long a queue grows that somebody made too fast. All watchers are read by one
//! thread: what it costs to read ten million lines is part of the machine's load, as it is wherever watchers run beside
//! their daemon.

use std::cell::RefCell;
use std::io::Write;
use std::os::unix::net::UnixStream as Blocking;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tokio::net::UnixStream;

use crate::Bench;
use crate::caller::{Caller, get, post};
use crate::daemon::Sim;
use crate::table::{Table, line, millis};

const WATCHERS: usize = 1000;
const CALLERS: usize = 4;
/// One change in every so many is timed at every watcher; the order and the number of all are checked.
const TIMED: u64 = 16;
/// Changes a second, and how many of them: the row itself, and how it goes on beyond it.
const RUNS: [(usize, usize); 4] = [(200, 10_000), (500, 2500), (1000, 2500), (2000, 2500)];
const LONGEST: Duration = Duration::from_secs(120);

pub fn rows(bench: &Bench, table: &mut Table) -> Result<()> {
    let (sim, _) = Sim::start(&bench.path("watch"), 0)?;
    let mut caller = Caller::connect(&sim.socket)?;
    for n in 0..CALLERS {
        let key = format!("ssh-ed25519 {} k{n}", "A".repeat(68));
        let request = post("/v1/ssh-keys", &format!(r#"{{"name":"k{n}","spec":{{"public_key":"{key}"}}}}"#));
        ensure!(caller.call(&request)?.0 == 201, "a key");
    }
    sim.settled(0)?;
    let watchers = bench.times(WATCHERS);
    for (rate, changes) in RUNS {
        let changes = bench.times(changes);
        let cpu = sim.cpu()?;
        let from = Instant::now();
        let mut late = run(&sim, watchers, rate, changes)?;
        late.sort_by(f64::total_cmp);
        ensure!(!late.is_empty(), "nothing was timed");
        let at = |percent: usize| millis(late[(late.len() * percent / 100).min(late.len() - 1)]);
        let cores = (sim.cpu()? - cpu) / from.elapsed().as_secs_f64();
        table.add(line(
            format!("watch: {watchers} watchers and one that does not read, {changes} changes, {rate}/s"),
            format!("p50 {}, p99 {} after the answer, {cores:.1} cores", at(50), at(99)),
            "all in order, p99 under 50 ms",
        ));
    }
    Ok(())
}

/// One run: how late each timed change came at each watcher, in seconds. An error where a watcher missed one.
fn run(sim: &Sim, watchers: usize, rate: usize, changes: usize) -> Result<Vec<f64>> {
    let mut caller = Caller::connect(&sim.socket)?;
    let (_, body) = caller.call(&get("/v1/ssh-keys"))?;
    let since =
        serde_json::from_slice::<serde_json::Value>(body)?["revision"].as_u64().context("a revision")?;
    let begin = Instant::now();
    // When the change with that number, counted from `since`, was answered.
    let answered: Vec<AtomicU64> = (0..=changes).map(|_| AtomicU64::new(0)).collect();
    let ready = AtomicUsize::new(0);
    let mut deaf = Blocking::connect(&sim.socket)?;
    deaf.write_all(&watch(since))?;
    let seen = std::thread::scope(|scope| -> Result<Vec<(u64, u64)>> {
        let all = scope.spawn(|| read_all(sim, (since, changes as u64), watchers, (&ready, begin)));
        while ready.load(Ordering::SeqCst) < watchers {
            let began = ready.load(Ordering::SeqCst);
            ensure!(begin.elapsed() < LONGEST && !all.is_finished(), "only {began} watchers began");
            std::thread::sleep(Duration::from_millis(20));
        }
        let first = Instant::now();
        let callers: Vec<_> = (0..CALLERS)
            .map(|me| {
                let answered = &answered;
                scope.spawn(move || -> Result<()> {
                    let mut caller = Caller::connect(&sim.socket)?;
                    for n in (me..changes).step_by(CALLERS) {
                        let due = first + Duration::from_secs_f64(n as f64 / rate as f64);
                        std::thread::sleep(due.saturating_duration_since(Instant::now()));
                        let revision = change(&mut caller, me, n)?;
                        let number = usize::try_from(revision - since)?;
                        let slot = answered.get(number).context("a change that is not ours")?;
                        slot.store(nanos(begin), Ordering::SeqCst);
                    }
                    Ok(())
                })
            })
            .collect();
        for caller in callers {
            caller.join().map_err(|_| anyhow::anyhow!("a caller panicked"))??;
        }
        all.join().map_err(|_| anyhow::anyhow!("the reader panicked"))?
    })?;
    drop(deaf);
    let late = |(number, at): (u64, u64)| {
        let answered = answered[usize::try_from(number).unwrap_or_default()].load(Ordering::SeqCst);
        at.saturating_sub(answered) as f64 / 1e9
    };
    Ok(seen.into_iter().map(late).collect())
}

fn nanos(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

fn watch(since: u64) -> Vec<u8> {
    get(&format!("/v1/ssh-keys?watch=true&since={since}"))
}

/// Each caller writes its own key again and again: its labels change, nothing is reconciled.
fn change(caller: &mut Caller, key: usize, n: usize) -> Result<u64> {
    let mut bytes = post(&format!("/v1/ssh-keys/k{key}"), &format!(r#"{{"labels":{{"n":"{n}"}}}}"#));
    bytes.splice(0..4, b"PATCH".iter().copied());
    let text = String::from_utf8(bytes)?.replace("application/json", "application/merge-patch+json");
    let (status, body) = caller.call(text.as_bytes())?;
    ensure!(status == 200, "{status}: {}", String::from_utf8_lossy(body));
    serde_json::from_slice::<serde_json::Value>(body)?["revision"].as_u64().context("a revision")
}

/// Reads all watchers until each has had `changes` after `since`; which change came when, of those that are timed.
fn read_all(
    sim: &Sim,
    (since, changes): (u64, u64),
    watchers: usize,
    (ready, begin): (&AtomicUsize, Instant),
) -> Result<Vec<(u64, u64)>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // One buffer for all: they are read one after the other.
    let (buffer, times) = (RefCell::new(vec![0; 1 << 18]), RefCell::new(Vec::new()));
    let watcher = async || -> Result<()> {
        let stream = UnixStream::connect(&sim.socket).await?;
        stream.writable().await?;
        ensure!(stream.try_write(&watch(since))? > 0, "a request");
        let mut lines = Lines { next: 1, part: Vec::new(), answered: false };
        while lines.next <= changes {
            stream.readable().await?;
            let mut buffer = buffer.borrow_mut();
            let read = match stream.try_read(&mut buffer) {
                Ok(0) => bail!("the watch ended before change {}", lines.next),
                Ok(read) => read,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error.into()),
            };
            let answered = lines.answered;
            lines.take(&buffer[..read], since, (nanos(begin), &mut times.borrow_mut()))?;
            ready.fetch_add(usize::from(lines.answered && !answered), Ordering::SeqCst);
        }
        Ok(())
    };
    let all = futures_util::future::try_join_all((0..watchers).map(|_| watcher()));
    runtime.block_on(async { tokio::time::timeout(LONGEST, all).await })??;
    Ok(times.into_inner())
}

/// What one watcher has read.
struct Lines {
    /// The change that is due, counted from the revision that the watch began after.
    next: u64,
    /// A line that has not come to its end.
    part: Vec<u8>,
    answered: bool,
}

impl Lines {
    fn take(&mut self, read: &[u8], since: u64, (now, times): (u64, &mut Vec<(u64, u64)>)) -> Result<()> {
        for piece in read.split_inclusive(|b| *b == b'\n') {
            if !piece.ends_with(b"\n") {
                self.part.extend_from_slice(piece);
            } else if self.part.is_empty() {
                self.line(piece, since, (now, times))?;
            } else {
                self.part.extend_from_slice(piece);
                let whole = std::mem::take(&mut self.part);
                self.line(&whole, since, (now, times))?;
            }
        }
        Ok(())
    }

    fn line(&mut self, line: &[u8], since: u64, (now, times): (u64, &mut Vec<(u64, u64)>)) -> Result<()> {
        const CHANGE: &[u8] = b"{\"event\":\"modified\",\"revision\":";
        let Some(rest) = line.strip_prefix(CHANGE) else {
            // Heads of the answer and of its chunks, and bookmarks.
            self.answered |= line.starts_with(b"HTTP/1.1 200 ");
            ensure!(!line.starts_with(b"{\"event\":\"error\""), "{}", String::from_utf8_lossy(line));
            return Ok(());
        };
        let digits = rest.iter().take_while(|b| b.is_ascii_digit());
        let revision = digits.fold(0u64, |n, b| n * 10 + u64::from(b - b'0'));
        let due = since + self.next;
        ensure!(revision == due, "revision {revision} came where {due} was due");
        if self.next.is_multiple_of(TIMED) {
            times.push((self.next, now));
        }
        self.next += 1;
        Ok(())
    }
}
