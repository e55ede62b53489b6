//! Files that are not as they were written. Whatever is flipped, cut off or taken away: either nothing of the content
//! is touched and the store goes on, or it is refused by name and the files stay as they are. Never is anything missing
//! in silence.

use std::fs;
use std::path::{Path, PathBuf};

use agentd_store::{Expect, NewObject, OpenError, Options, Remembered, Store, TxError, Update};
use bytes::Bytes;
use serde_json::json;

use crate::fixture::{Dump, changes, create, done, dump, event, key, labels, new_vm, vm};

/// The database and what stands beside it, as bytes.
#[derive(Clone, PartialEq)]
struct Files {
    database: Vec<u8>,
    log: Option<Vec<u8>>,
    mark: Option<Vec<u8>>,
}

struct Place {
    _directory: tempfile::TempDir,
    file: PathBuf,
}

impl Place {
    fn new() -> Self {
        // In memory where there is such a disk: this is about bytes, not about syncing them.
        let memory = Path::new("/dev/shm");
        let directory = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let directory = directory.expect("a directory");
        let file = directory.path().join("agentd.db");
        Self { _directory: directory, file }
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = self.file.clone().into_os_string();
        name.push(suffix);
        name.into()
    }

    fn read(&self) -> Files {
        Files {
            database: fs::read(&self.file).expect("a database"),
            // SQLite makes an empty log where there is none.
            log: fs::read(self.beside("-wal")).ok().filter(|log| !log.is_empty()),
            mark: fs::read(self.beside(".mark")).ok(),
        }
    }

    fn write(&self, files: &Files) {
        let write = |path: &Path, bytes: &Option<Vec<u8>>| match bytes {
            Some(bytes) => fs::write(path, bytes).expect("written"),
            None => drop(fs::remove_file(path)),
        };
        fs::write(&self.file, &files.database).expect("written");
        write(&self.beside("-wal"), &files.log);
        write(&self.beside(".mark"), &files.mark);
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(future)
}

fn options() -> Options {
    Options { history: 40, events: 20, ..Options::default() }
}

/// Something in every table, rows that were replaced and rows that were dropped.
async fn fill(store: &Store, prefix: &str) {
    for at in 0..24 {
        let text = format!("{prefix}-{at}");
        let new = NewObject { labels: labels(&[("tier", "front")]), ..new_vm(&text) };
        done(store, move |tx| {
            tx.allocate("mac", &format!("mac-{}", new.key.name), &new.key)?;
            tx.record(event(new.key.name.as_str(), "created"));
            let body = Bytes::from(format!("{{\"of\":\"{}\"}}", new.key.name));
            tx.remember(new.key.name.as_str(), Remembered { fingerprint: "f".to_owned(), status: 201, body });
            tx.create(new.clone())
        })
        .await;
    }
    done(store, {
        let prefix = prefix.to_owned();
        move |tx| {
            for at in (0..24).step_by(3) {
                let status =
                    Some(json!({"state": "running", "reason": "x".repeat(if at == 6 { 9000 } else { 9 })}));
                let key = vm(&format!("{prefix}-{at}"));
                tx.update(&key, Expect::Any, Update { status, ..Update::default() })?;
            }
            for at in (1..24).step_by(3) {
                tx.remove(&vm(&format!("{prefix}-{at}")), Expect::Any)?;
            }
            Ok::<_, TxError>(())
        }
    })
    .await;
    let other = NewObject::new(key("network", prefix), json!({"cidr": "10.77.0.0/24"}));
    done(store, move |tx| tx.create(other.clone())).await;
}

/// A store that was closed, one whose commits are all in the log, and one with a part in each.
fn made() -> Vec<(&'static str, Files, Dump)> {
    let place = Place::new();
    block_on(async {
        let store = Store::open(&place.file, options()).expect("opened");
        fill(&store, "first").await;
        let in_log = (place.read(), dump(&store));
        store.close().await.expect("closed");
        let closed = (place.read(), in_log.1.clone());
        let store = Store::open(&place.file, options()).expect("opened");
        assert_eq!(dump(&store), closed.1);
        fill(&store, "second").await;
        let both = (place.read(), dump(&store));
        store.close().await.expect("closed");
        assert!(in_log.0.log.as_ref().is_some_and(|log| log.len() > 100_000), "all of it is in the log");
        assert!(closed.0.log.as_ref().is_none_or(Vec::is_empty), "closing empties the log");
        vec![("closed", closed.0, closed.1), ("in the log", in_log.0, in_log.1), ("both", both.0, both.1)]
    })
}

/// Opens what was damaged. True where it was refused.
fn refused(place: &Place, damaged: &Files, wanted: &Dump, what: &str) -> bool {
    place.write(damaged);
    match Store::open(&place.file, options()) {
        Ok(store) => {
            assert_eq!(dump(&store), *wanted, "{what}: opened, so everything is there");
            // Nor does what was harmless to read do harm to what is written next.
            block_on(async {
                for at in 0..2 {
                    create(&store, &format!("after-{at}")).await;
                }
                let after = dump(&store);
                store.close().await.expect("closed");
                let store = Store::open(&place.file, options()).unwrap_or_else(|e| panic!("{what}: {e}"));
                assert_eq!(dump(&store), after, "{what}: and goes on");
                store.close().await.expect("closed");
            });
            false
        }
        Err(error) => {
            let text = error.to_string();
            assert!(text.contains("agentd.db"), "{what}: it names the file: {text}");
            let known = matches!(
                error,
                OpenError::Damaged { .. } | OpenError::Foreign { .. } | OpenError::Newer { .. }
            );
            assert!(known, "{what}: {error:?}");
            let log = damaged.log.clone().filter(|log| !log.is_empty());
            assert!(
                place.read() == Files { log, ..damaged.clone() },
                "{what}: refused, so nothing is changed: {text}"
            );
            true
        }
    }
}

/// All of the first bytes, where the headers are, then every so many.
fn offsets(length: usize, dense: usize, step: usize) -> impl Iterator<Item = usize> {
    (0..length.min(dense)).chain((dense..length).step_by(step))
}

fn flipped(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 1 << (at % 8);
    bytes
}

#[test]
fn a_flipped_bit_of_the_database_is_harmless_or_refused() {
    let place = Place::new();
    let mut outcomes = [0, 0];
    for (which, files, wanted) in made() {
        let step = if which == "closed" { 307 } else { 1499 };
        for at in offsets(files.database.len(), 112, step) {
            let database = flipped(&files.database, at);
            let damaged = Files { database, ..files.clone() };
            let what = format!("{which}: byte {at} of the database");
            outcomes[usize::from(refused(&place, &damaged, &wanted, &what))] += 1;
        }
    }
    assert!(outcomes[0] > 50 && outcomes[1] > 150, "harmless and refused: {outcomes:?}");
}

#[test]
fn a_flipped_bit_of_the_log_is_harmless_or_refused() {
    let place = Place::new();
    let mut outcomes = [0, 0];
    for (which, files, wanted) in made() {
        let Some(log) = files.log.as_ref().filter(|log| !log.is_empty()) else { continue };
        for at in offsets(log.len(), 56, 2503) {
            let damaged = Files { log: Some(flipped(log, at)), ..files.clone() };
            let what = format!("{which}: byte {at} of the log");
            outcomes[usize::from(refused(&place, &damaged, &wanted, &what))] += 1;
        }
    }
    assert!(outcomes[1] > 200, "harmless and refused: {outcomes:?}");
    assert!(outcomes[1] > outcomes[0] * 5, "hardly any byte of the log is idle: {outcomes:?}");
}

#[test]
fn a_flipped_bit_of_the_mark_is_refused() {
    let place = Place::new();
    for (which, files, wanted) in made() {
        let mark = files.mark.clone().expect("a mark");
        for at in 0..mark.len() {
            let damaged = Files { mark: Some(flipped(&mark, at)), ..files.clone() };
            assert!(refused(&place, &damaged, &wanted, &format!("{which}: byte {at} of the mark")));
        }
    }
}

#[test]
fn a_file_that_was_cut_off_is_harmless_or_refused() {
    let place = Place::new();
    let mut outcomes = [0, 0];
    for (which, files, wanted) in made() {
        let length = files.database.len();
        for to in (0..length)
            .step_by(1531)
            .chain([1, 15, 16, 99, 100, 4095, 4096, length - 1])
            .filter(|to| *to < length)
        {
            let damaged = Files { database: files.database[..to].to_vec(), ..files.clone() };
            let refused = refused(&place, &damaged, &wanted, &format!("{which}: database cut to {to}"));
            assert!(refused || which != "closed", "a closed database cut to {to} cannot be whole");
            outcomes[usize::from(refused)] += 1;
        }
        let Some(log) = files.log.as_ref().filter(|log| !log.is_empty()) else { continue };
        for to in (0..log.len()).step_by(3067).chain([1, 31, 32, 33, 55, 56, log.len() - 1]) {
            let damaged = Files { log: Some(log[..to].to_vec()), ..files.clone() };
            assert!(refused(&place, &damaged, &wanted, &format!("{which}: log cut to {to}")));
        }
    }
    assert!(outcomes[1] > 50, "{outcomes:?}");
}

#[test]
fn a_file_that_is_gone_is_missed() {
    let place = Place::new();
    for (which, files, wanted) in made() {
        let without_log = Files { log: None, ..files.clone() };
        let missed = refused(&place, &without_log, &wanted, &format!("{which}: no log"));
        assert_eq!(missed, which != "closed", "{which}: the log is gone");
        let empty = Files { database: Vec::new(), ..files.clone() };
        assert!(refused(&place, &empty, &wanted, &format!("{which}: an empty database")));
        // A backup comes without a mark.
        let without_mark = Files { mark: None, ..files.clone() };
        assert!(!refused(&place, &without_mark, &wanted, &format!("{which}: no mark")));
        let unwritten = Files { mark: Some(vec![0; 16]), ..files.clone() };
        assert!(!refused(&place, &unwritten, &wanted, &format!("{which}: a mark of zeros")));
        place.write(&files);
        fs::remove_file(&place.file).expect("removed");
        let error = Store::open(&place.file, options()).map(drop).expect_err("the database is gone");
        assert!(error.to_string().contains("empty or gone"), "{error}");
        assert!(!place.file.exists(), "{which}: no new one in its place");
    }
}

/// An older copy of the database beside a newer mark is one that lost something.
#[test]
fn an_older_database_is_refused_until_its_mark_is_removed() {
    let made = made();
    let place = Place::new();
    let older = Files { mark: made[2].1.mark.clone(), ..made[0].1.clone() };
    assert!(refused(&place, &older, &made[0].2, "older than its mark"));
    let restored = Files { mark: None, ..older };
    assert!(!refused(&place, &restored, &made[0].2, "as the error says to restore it"));
}

/// Changes through SQL, which leave the pages sound.
#[test]
fn a_row_that_was_changed_or_dropped_is_named() {
    let (_, files, _) = made().swap_remove(0);
    let cases = [
        (
            "UPDATE objects SET json = CAST(replace(json, 'micro', 'macro') AS BLOB) WHERE name = 'first-2'",
            "first-2",
        ),
        ("UPDATE objects SET name = 'first-99' WHERE name = 'first-2'", "first-99"),
        ("UPDATE objects SET crc = crc + 1 WHERE name = 'first-2'", "first-2"),
        ("DELETE FROM objects WHERE name = 'first-2'", "table objects"),
        ("DELETE FROM objects", "table objects"),
        (
            "INSERT INTO objects SELECT born + 1000, crc, kind, project, 'copy', json FROM objects LIMIT 1",
            "copy",
        ),
        ("DELETE FROM allocations WHERE value = 'mac-first-2'", "table allocations"),
        ("UPDATE allocations SET name = 'first-3' WHERE value = 'mac-first-2'", "mac-first-2"),
        ("DELETE FROM changes WHERE revision = 20", "table changes"),
        ("UPDATE changes SET before = NULL WHERE revision = 26", "row 26"),
        ("DELETE FROM events WHERE seq = 10", "table events"),
        ("UPDATE events SET seq = 1000 WHERE seq = 10", "row 1000"),
        ("DELETE FROM answers WHERE key = 'first-2'", "table answers"),
        ("UPDATE answers SET status = 200 WHERE key = 'first-2'", "first-2"),
        ("UPDATE state SET revision = revision + 1", "table state"),
        ("UPDATE state SET object_rows = object_rows - 1", "table state"),
        ("DELETE FROM state", "table state"),
        ("DROP TABLE events", "table sqlite_schema, row events"),
        // Two rows in each other's places add up to the same.
        (
            "UPDATE events SET json = (SELECT json FROM events AS other WHERE other.seq = 21 - events.seq) \
          WHERE seq IN (10, 11)",
            "table events",
        ),
    ];
    for (sql, named) in cases {
        let place = Place::new();
        place.write(&files);
        let database = rusqlite::Connection::open(&place.file).expect("a database");
        assert!(database.execute_batch(sql).is_ok(), "{sql}");
        database.close().map_err(|(_, error)| error).expect("closed");
        let error = Store::open(&place.file, options()).map(drop).expect_err(sql);
        assert!(matches!(error, OpenError::Damaged { .. }), "{sql}: {error:?}");
        let text = error.to_string();
        assert!(text.contains(named) && text.contains("restore"), "{sql}: {text}");
    }
}

/// A batch whose log was never synced may be there or not; what is there is whole and its history with it.
#[test]
fn a_database_without_its_last_commits_is_whole() {
    let (_, mut files, _) = made().swap_remove(1);
    files.mark = None;
    let place = Place::new();
    let log = files.log.clone().expect("a log");
    let mut revisions = std::collections::BTreeSet::new();
    for to in (log.len() / 3..log.len()).step_by(4121) {
        place.write(&Files { log: Some(log[..to].to_vec()), ..files.clone() });
        let store = Store::open(&place.file, options()).expect("an earlier state, whole");
        revisions.insert(store.revision());
        assert_eq!(
            changes(&store, store.stats().oldest).last().map_or(0, |change| change.0),
            store.revision()
        );
        block_on(store.close()).expect("closed");
    }
    assert!(revisions.len() > 10, "{revisions:?}");
}
