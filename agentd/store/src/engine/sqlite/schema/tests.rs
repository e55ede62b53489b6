use std::fs;

use agentd_api::{ObjectKey, ObjectName};
use rusqlite::Connection;

use super::super::{SqliteEngine, suffixed};
use super::{MIGRATIONS, migrate, version};
use crate::engine::{Batch, Counters, Engine, Op, Row};
use crate::error::OpenError;

const OLD: &[&str] = MIGRATIONS.split_at(1).0;

/// As a next version of the schema would be.
const NEXT: &str =
    "CREATE TABLE quotas (project TEXT PRIMARY KEY, used INTEGER NOT NULL) STRICT, WITHOUT ROWID;";
const BROKEN: &str = "CREATE TABLE half (x INTEGER); INSERT INTO no_such_table VALUES (1);";

struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().expect("a directory") }
    }
    fn file(&self) -> std::path::PathBuf {
        self.directory.path().join("agentd.db")
    }
    fn open(&self, migrations: &[&str]) -> Result<(Box<SqliteEngine>, usize), OpenError> {
        let mut engine = SqliteEngine::open_with(&self.file(), migrations)?;
        let mut rows = 0;
        engine.load(&mut |_| {
            rows += 1;
            Ok(())
        })?;
        Ok((Box::new(engine), rows))
    }
    fn copies(&self) -> Vec<String> {
        let entries = fs::read_dir(self.directory.path()).expect("a directory");
        let names = entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
        let mut names: Vec<_> = names.filter(|name| name.contains(".bak")).collect();
        names.sort();
        names
    }
}

fn name(text: &str) -> ObjectName {
    ObjectName::parse(text).expect("a name")
}

fn event(seq: u64) -> Batch {
    let ops = vec![Op::Put(Row::Event { seq, json: "{}".into() })];
    Batch { ops, counters: Counters { event_seq: seq, ..Counters::default() } }
}

/// A store of the first version with a row, all of it still in the log, as a killed daemon leaves it.
fn killed(place: &Place) {
    let (mut engine, _) = place.open(OLD).expect("a new store");
    engine.commit(&event(1)).expect("written");
    drop(engine);
    assert!(fs::metadata(suffixed(&place.file(), "-wal")).expect("a log").len() > 0);
}

#[test]
fn a_migration_keeps_the_rows_and_a_copy_of_the_file() {
    let place = Place::new();
    killed(&place);
    let (engine, rows) = place.open(&[MIGRATIONS[0], NEXT]).expect("migrated");
    assert_eq!((rows, version(&engine.connection)), (1, Ok(2)));
    engine.close().expect("closed");
    assert_eq!(place.copies(), ["agentd.db.v1.bak"]);
    let error = place.open(OLD).map(drop).expect_err("the old agentd does not know it");
    assert_eq!(error, OpenError::Newer { file: place.file(), is: 2, known: 1 });
    // The copy alone is the store as it was, log and all.
    let old = Place::new();
    fs::copy(suffixed(&place.file(), ".v1.bak"), old.file()).expect("copied");
    let (engine, rows) = old.open(OLD).expect("the copy opens");
    assert_eq!((rows, version(&engine.connection)), (1, Ok(1)));
    engine.close().expect("closed");
    // Once is enough.
    place.open(&[MIGRATIONS[0], NEXT]).expect("opened").0.close().expect("closed");
    assert_eq!(place.copies(), ["agentd.db.v1.bak"]);
}

#[test]
fn each_version_that_there_was_is_brought_to_the_newest_with_its_rows() {
    for old in 1..MIGRATIONS.len() {
        let place = Place::new();
        let (mut engine, _) = place.open(&MIGRATIONS[..old]).expect("a new store");
        let key = ObjectKey::new("vm", name("default"), name("web"));
        let ops = vec![
            Op::Put(Row::Object { born: 1, key: key.clone(), json: "{}".into() }),
            Op::Put(Row::Claim { space: "ip".to_owned(), value: "10.0.0.1".to_owned(), owner: key }),
            Op::Put(Row::Event { seq: 1, json: "{}".into() }),
        ];
        engine.commit(&Batch { ops, counters: Counters::default() }).expect("written");
        drop(engine);
        let (engine, rows) = place.open(MIGRATIONS).expect("migrated");
        assert_eq!(
            (rows, version(&engine.connection)),
            (3, Ok(i64::try_from(MIGRATIONS.len()).expect("few")))
        );
        engine.close().expect("closed");
        assert_eq!(place.open(MIGRATIONS).expect("opened").1, 3);
    }
}

#[test]
fn a_migration_that_fails_changes_nothing_and_can_be_tried_again() {
    let place = Place::new();
    killed(&place);
    for _ in 0..3 {
        assert!(place.open(&[MIGRATIONS[0], NEXT, BROKEN]).is_err());
        let (engine, rows) = place.open(OLD).expect("as it was");
        assert_eq!((rows, version(&engine.connection)), (1, Ok(1)));
        drop(engine);
        assert_eq!(place.copies(), ["agentd.db.v1.bak"], "the same content is not copied twice");
    }
    let (mut engine, _) = place.open(OLD).expect("as it was");
    engine.commit(&event(2)).expect("written");
    engine.close().expect("closed");
    place.open(&[MIGRATIONS[0], NEXT]).expect("migrated").0.close().expect("closed");
    assert_eq!(place.copies(), ["agentd.db.v1-2.bak", "agentd.db.v1.bak"], "no copy is overwritten");
}

#[test]
fn a_new_database_has_the_newest_schema_and_no_copy() {
    let place = Place::new();
    let (engine, rows) = place.open(&[MIGRATIONS[0], NEXT]).expect("new");
    assert_eq!((rows, version(&engine.connection)), (0, Ok(2)));
    engine.close().expect("closed");
    assert!(place.copies().is_empty());
}

#[test]
fn a_newer_version_is_refused_before_anything_is_done() {
    let place = Place::new();
    let mut connection = Connection::open(place.file()).expect("a database");
    connection.pragma_update(None, "user_version", 9).expect("set");
    let refused = migrate(&mut connection, &place.file(), OLD, |_| Ok(()));
    assert_eq!(refused, Err(OpenError::Newer { file: place.file(), is: 9, known: 1 }));
}
