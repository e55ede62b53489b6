//! A process that is killed while eight writers write: what it had acknowledged is there, and of what it had not,
//! either all or nothing.
//!
//! The process is this test once more, told by its environment to be the one that is killed.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use agentd_store::{Expect, NewObject, Options, Query, Store, Tx, TxError};
use serde_json::json;

use crate::fixture::{event, key};

const FILE: &str = "AGENTD_STORE_TEST_CRASH_FILE";
const TEST: &str = "crash::what_was_acknowledged_survives_sigkill";
const WRITERS: u64 = 8;
const ROUNDS: u64 = 50;
/// How far behind a writer deletes what it wrote.
const KEPT: u64 = 4;

#[test]
fn what_was_acknowledged_survives_sigkill() {
    if let Ok(file) = std::env::var(FILE) {
        write_until_killed(&PathBuf::from(file));
    }
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("agentd.db");
    let mut acknowledged = Acknowledged::default();
    let mut total = 0;
    for round in 0..ROUNDS {
        let mut child = start(&file);
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        // A different moment each time: from the first acknowledgement to the sixtieth.
        let fatal = 1 + (round * 37) % 60;
        let mut seen = 0;
        for line in lines {
            let line = line.expect("text");
            // libtest's own lines, and its "test x ... " in front of the first of ours.
            let Some((_, ack)) = line.split_once("ack ") else { continue };
            acknowledged.add(ack);
            seen += 1;
            if seen == fatal {
                child.kill().expect("SIGKILL");
            }
        }
        let ended = child.wait().expect("it ended");
        assert!(seen >= fatal, "round {round}: it ended by itself, {ended}, after {seen} acknowledgements");
        total += seen;
        acknowledged.check(&file, round);
    }
    assert!(total > ROUNDS * 20, "only {total} writes were acknowledged");
}

#[expect(clippy::disallowed_methods, reason = "the process to be killed is this test")]
fn start(file: &Path) -> Child {
    let this = std::env::current_exe().expect("this program");
    let arguments = ["--exact", TEST, "--nocapture", "--test-threads=1"];
    Command::new(this).args(arguments).env(FILE, file).stdout(Stdio::piped()).spawn().expect("started")
}

/// The last number that each writer has acknowledged.
#[derive(Default)]
struct Acknowledged(BTreeMap<u64, u64>);

impl Acknowledged {
    fn add(&mut self, line: &str) {
        let mut numbers = line.split(' ').map(|number| number.parse::<u64>().expect("a number"));
        let (writer, number) = (numbers.next().expect("a writer"), numbers.next().expect("a number"));
        let before = self.0.insert(writer, number);
        assert!(before.is_none_or(|before| before < number), "writer {writer}: {number} after {before:?}");
    }

    fn check(&mut self, file: &Path, round: u64) {
        let store = Store::open(file, Options::default()).expect("what a killed process left can be opened");
        for writer in 0..WRITERS {
            let there = |part: &str, n: u64| store.get(&thing(writer, n, part)).is_some();
            let acknowledged = self.0.get(&writer).copied().unwrap_or(0);
            let mut last = acknowledged;
            // One more may be durable without its acknowledgement having been heard.
            while there("a", last + 1) {
                last += 1;
            }
            assert!(
                last <= acknowledged + 1,
                "round {round}, writer {writer}: {last} but heard {acknowledged}"
            );
            for n in 1..=last + 2 {
                let expected = n <= last && n + KEPT > last;
                for part in ["a", "b"] {
                    assert_eq!(there(part, n), expected, "round {round}: {writer}-{n}-{part}, last {last}");
                }
                let owner = store.owner_of("number", &format!("{writer}-{n}"));
                assert_eq!(owner.is_some(), expected, "round {round}: allocation of {writer}-{n}");
            }
            // What was read is as good as acknowledged: it too must still be there next time.
            self.0.insert(writer, last);
        }
        let things = store.list(&Query::kind("thing")).items;
        let whole =
            |object: &std::sync::Arc<agentd_store::Stored>| object.value()["spec"]["text"] == payload();
        assert!(things.iter().all(whole), "round {round}: each is as it was written");
        assert_eq!(store.stats().allocations * 2, things.len());
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(store.close()).expect("closed");
    }
}

fn thing(writer: u64, n: u64, part: &str) -> agentd_api::ObjectKey {
    key("thing", &format!("w{writer}-{n}-{part}"))
}

fn payload() -> String {
    "x".repeat(700)
}

fn write(tx: &mut dyn Tx, writer: u64, n: u64) -> Result<(), TxError> {
    for part in ["a", "b"] {
        tx.create(NewObject::new(thing(writer, n, part), json!({"text": payload()})))?;
        if n > KEPT {
            tx.remove(&thing(writer, n - KEPT, part), Expect::Any)?;
        }
    }
    tx.allocate("number", &format!("{writer}-{n}"), &thing(writer, n, "a"))?;
    tx.record(event("w", "written"));
    Ok(())
}

fn write_until_killed(file: &Path) -> ! {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let store = Store::open(file, Options::default()).expect("opened");
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..WRITERS {
            let mut n = next_of(&store, writer);
            let store = store.clone();
            writers.spawn(async move {
                loop {
                    if let Err(error) = store.transact(move |tx| write(tx, writer, n)).await {
                        return error;
                    }
                    // One write of one line: a line is heard whole or not at all.
                    println!("ack {writer} {n}");
                    n += 1;
                }
            });
        }
        let ended = writers.join_next().await;
        panic!("a writer ended: {ended:?}");
    });
    unreachable!("the writers do not end")
}

/// Behind the last one that is there, or from the beginning.
fn next_of(store: &Store, writer: u64) -> u64 {
    let number = |object: &std::sync::Arc<agentd_store::Stored>| -> Option<u64> {
        let mut parts = object.name().as_str().split('-');
        (parts.next()? == format!("w{writer}")).then(|| parts.next()?.parse().ok())?
    };
    store.list(&Query::kind("thing")).items.iter().filter_map(number).max().map_or(1, |last| last + 1)
}
