//! Copies that are taken while others write, and the place that one is put into.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use agentd_store::{
    Expect, NewObject, OpenError, Options, Query, Remembered, RestoreError, Store, Tx, TxError, Vacancy,
};
use bytes::Bytes;
use serde_json::json;

use crate::fixture::{Dump, create, done, dump, event, key, set_status, vm};

const WRITERS: u64 = 8;
const BACKUPS: usize = 12;
/// How far behind a writer deletes what it wrote.
const KEPT: u64 = 6;

fn thing(writer: u64, n: u64, part: &str) -> agentd_api::ObjectKey {
    key("thing", &format!("w{writer}-{n}-{part}"))
}

/// Two objects, an allocation of the first and an event: all of it is there, or none.
fn write(tx: &mut dyn Tx, writer: u64, n: u64) -> Result<(), TxError> {
    for part in ["a", "b"] {
        tx.create(NewObject::new(thing(writer, n, part), json!({"n": n})))?;
        if n > KEPT {
            tx.remove(&thing(writer, n - KEPT, part), Expect::Any)?;
        }
    }
    tx.allocate("number", &format!("{writer}-{n}"), &thing(writer, n, "a"))?;
    tx.record(event(&format!("w{writer}-{n}"), "written"));
    Ok(())
}

/// It holds for each writer what it had after one of its writes, and nothing else.
fn is_of_one_moment(store: &Store, promised: u64) {
    assert_eq!(store.revision(), promised, "the revision that was told");
    assert_eq!(store.stats().oldest, promised, "whoever watches lists again");
    let things = store.list(&Query::kind("thing")).items;
    let newest = things.iter().map(|object| object.revision()).max().unwrap_or(0);
    assert!(newest <= promised);
    let mut expected = 0;
    let mut last_seen = 0;
    for writer in 0..WRITERS {
        let last = things.iter().filter_map(|object| {
            let n = object.name().as_str().strip_prefix(&format!("w{writer}-"))?.strip_suffix("-a")?;
            n.parse::<u64>().ok()
        });
        let last = last.max().unwrap_or(0);
        for n in 1..=last {
            let there = n + KEPT > last;
            expected += 2 * usize::from(there);
            for part in ["a", "b"] {
                assert_eq!(
                    store.get(&thing(writer, n, part)).is_some(),
                    there,
                    "{writer}-{n}-{part} of {last}"
                );
            }
            let owner = store.owner_of("number", &format!("{writer}-{n}"));
            assert_eq!(owner, there.then(|| thing(writer, n, "a")), "{writer}-{n} of {last}");
        }
        last_seen += last;
    }
    assert_eq!(things.len(), expected);
    assert_eq!(store.stats().allocations * 2, expected);
    // Each write records one: those of the same moment, no more and no fewer.
    let next = store.events(&agentd_store::EventQuery::default()).next;
    assert_eq!(next, last_seen);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_that_is_taken_under_eight_writers_is_of_one_revision() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = Store::open(&directory.path().join("agentd.db"), Options::default()).expect("opened");
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let (store, stop) = (store.clone(), stop.clone());
        writers.spawn(async move {
            let mut n = 0;
            while !stop.load(Ordering::Relaxed) {
                n += 1;
                done(&store, move |tx| write(tx, writer, n)).await;
            }
            n
        });
    }
    let mut revisions = Vec::new();
    for at in 0..BACKUPS {
        let copy = directory.path().join(format!("copy-{at}.db"));
        // As much is written between two as one has at all.
        let wanted = revisions.last().unwrap_or(&0) + 60;
        while store.revision() < wanted {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        let snapshot = store.snapshot().await.expect("taken");
        let revision = snapshot.revision();
        let to = copy.clone();
        tokio::task::spawn_blocking(move || snapshot.write(&to)).await.expect("no panic").expect("written");
        assert_eq!(fs::metadata(&copy).expect("a file").permissions().mode() & 0o777, 0o600);
        let taken = Store::open(&copy, Options::default()).expect("it is a store");
        is_of_one_moment(&taken, revision);
        taken.close().await.expect("closed");
        revisions.push(revision);
    }
    stop.store(true, Ordering::Relaxed);
    let written: u64 = writers.join_all().await.into_iter().sum();
    assert!(written > 8 * KEPT, "only {written} writes");
    assert!(revisions.is_sorted(), "{revisions:?}");
    is_of_one_moment_still(&store).await;
}

/// The store went on as if nothing had been taken.
async fn is_of_one_moment_still(store: &Store) {
    assert_eq!(store.health(), Ok(()));
    assert_eq!(create(store, "last").await.revision(), store.revision());
}

#[tokio::test]
async fn one_has_all_but_the_history_and_goes_on_as_the_store_would() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = Store::open(&directory.path().join("agentd.db"), Options::default()).expect("opened");
    let copy = directory.path().join("empty.db");
    store.snapshot().await.expect("taken").write(&copy).expect("an empty one too");
    let empty = Store::open(&copy, Options::default()).expect("opened");
    assert_eq!((empty.revision(), empty.stats().objects), (0, 0));
    for at in 0..700 {
        create(&store, &format!("web-{at}")).await;
    }
    set_status(&store, "web-7", json!({"state": "running"})).await;
    done(&store, |tx| {
        tx.allocate("ip", "10.77.0.2", &vm("web-7"))?;
        tx.record(event("web-7", "started"));
        let body = Bytes::from_static(b"{}");
        tx.remember("a-key", Remembered { fingerprint: "f".to_owned(), status: 201, body });
        Ok::<(), TxError>(())
    })
    .await;
    let copy = directory.path().join("copy.db");
    let snapshot = store.snapshot().await.expect("taken");
    assert_eq!((snapshot.revision(), snapshot.objects()), (701, 700));
    snapshot.write(&copy).expect("written");
    let taken = Store::open(&copy, Options::default()).expect("opened");
    assert_eq!(dump(&taken), Dump { changes: Vec::new(), ..dump(&store) });
    let known = done(&taken, |tx| Ok::<_, TxError>(tx.recall("a-key"))).await;
    assert_eq!(known.map(|answer| answer.status), Some(201));
    assert!(taken.watch(Some(700)).is_err(), "that is not known any more");
    let mut watch = taken.watch(Some(701)).expect("from where it is");
    let (one, other) = (create(&taken, "more").await, create(&store, "more").await);
    assert_eq!((one.revision(), other.revision()), (702, 702));
    assert_eq!(watch.next().await.expect("a change").revision, 702);
}

#[tokio::test]
async fn a_place_is_filled_once_and_not_where_a_store_is_or_a_daemon_runs() {
    let directory = tempfile::tempdir().expect("a directory");
    let (from, to) = (directory.path().join("copy.db"), directory.path().join("agentd.db"));
    let store = Store::open(&to, Options::default()).expect("opened");
    create(&store, "web").await;
    store.snapshot().await.expect("taken").write(&from).expect("written");
    let refused = |error: RestoreError| match error {
        RestoreError::Place(OpenError::Locked { .. }) => "locked",
        RestoreError::Occupied { .. } => "occupied",
        RestoreError::StrayLog { .. } => "a log",
        _ => "otherwise",
    };
    assert_eq!(Vacancy::take(&to).map(drop).map_err(refused), Err("locked"));
    store.close().await.expect("closed");
    let before = fs::read(&to).expect("read");
    assert_eq!(Vacancy::take(&to).map(drop).map_err(refused), Err("occupied"));
    assert_eq!(fs::read(&to).expect("read"), before);
    // As after somebody removed a damaged one, and left what belongs to it.
    fs::remove_file(&to).expect("removed");
    let log = directory.path().join("agentd.db-wal");
    fs::write(&log, "of another").expect("written");
    assert_eq!(Vacancy::take(&to).map(drop).map_err(refused), Err("a log"));
    fs::remove_file(&log).expect("removed");
    let vacancy = Vacancy::take(&to).map_err(refused).expect("free");
    let held = Store::open(&to, Options::default()).map(drop);
    assert!(matches!(held, Err(OpenError::Locked { .. })), "no daemon begins one there meanwhile: {held:?}");
    vacancy.fill(&from).expect("filled");
    assert!(!from.exists());
    let store = Store::open(&to, Options::default()).expect("the mark is that of the new one");
    assert!(store.get(&vm("web")).is_some());
}
