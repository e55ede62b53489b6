//! Who may open which file.

use std::os::unix::fs::PermissionsExt;

use agentd_store::{OpenError, Options, Store};

use crate::fixture::create;

fn place() -> (tempfile::TempDir, std::path::PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("agentd.db");
    (directory, file)
}

#[tokio::test]
async fn a_second_daemon_is_refused_and_told_whom_to_look_for() {
    let (_directory, file) = place();
    let store = Store::open(&file, Options::default()).expect("opened");
    create(&store, "web").await;
    let error = Store::open(&file, Options::default()).map(drop).expect_err("it is in use");
    assert_eq!(error, OpenError::Locked { file: file.clone(), holder: Some(std::process::id()) });
    assert!(error.to_string().contains("in use by another agentd (process "), "{error}");
    create(&store, "still-served").await;
    store.close().await.expect("closed");
    let store = Store::open(&file, Options::default()).expect("free again");
    assert_eq!(store.stats().objects, 2);
}

#[tokio::test]
async fn a_newer_schema_is_refused_and_left_alone() {
    let (_directory, file) = place();
    let store = Store::open(&file, Options::default()).expect("opened");
    create(&store, "web").await;
    store.close().await.expect("closed");
    let database = rusqlite::Connection::open(&file).expect("a database");
    let known: i64 = database.query_row("PRAGMA user_version", [], |row| row.get(0)).expect("set");
    database.pragma_update(None, "user_version", known + 1).expect("set");
    database.close().map_err(|(_, error)| error).expect("closed");
    let before = std::fs::read(&file).expect("read");
    let error = Store::open(&file, Options::default()).map(drop).expect_err("it is newer");
    assert_eq!(error, OpenError::Newer { file: file.clone(), is: known + 1, known });
    assert_eq!(std::fs::read(&file).expect("read"), before);
}

#[test]
fn a_database_of_others_is_refused_and_left_alone() {
    let (_directory, file) = place();
    let database = rusqlite::Connection::open(&file).expect("a database");
    database.execute_batch("CREATE TABLE theirs (x); INSERT INTO theirs VALUES (1)").expect("made");
    database.close().map_err(|(_, error)| error).expect("closed");
    let before = std::fs::read(&file).expect("read");
    let error = Store::open(&file, Options::default()).map(drop).expect_err("it is not ours");
    assert_eq!(error, OpenError::Foreign { file: file.clone() });
    assert_eq!(std::fs::read(&file).expect("read"), before);
    std::fs::write(
        &file,
        "not a database at all, but a text that is long enough to be looked at. ".repeat(20),
    )
    .expect("written");
    let error = Store::open(&file, Options::default()).map(drop).expect_err("it is no database");
    assert!(matches!(error, OpenError::Damaged { .. }), "{error:?}");
}

#[test]
fn a_missing_directory_is_named() {
    let (directory, _) = place();
    let file = directory.path().join("none/agentd.db");
    let error = Store::open(&file, Options::default()).map(drop).expect_err("there is no such directory");
    assert!(matches!(error, OpenError::Io { .. }) && error.to_string().contains("none/agentd.db"), "{error}");
}

/// Specs hold user-data with passwords and keys.
#[tokio::test]
async fn only_the_owner_may_read_the_files() {
    let (directory, file) = place();
    let store = Store::open(&file, Options::default()).expect("opened");
    create(&store, "web").await;
    let mut seen = Vec::new();
    for entry in std::fs::read_dir(directory.path()).expect("a directory") {
        let entry = entry.expect("an entry");
        let mode = entry.metadata().expect("metadata").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", entry.path().display());
        seen.push(entry.file_name());
    }
    assert_eq!(seen.len(), 4, "the database, its log, its lock and its mark: {seen:?}");
}

#[tokio::test]
async fn a_store_that_was_dropped_without_closing_is_whole() {
    let (_directory, file) = place();
    let store = Store::open(&file, Options::default()).expect("opened");
    let made = create(&store, "web").await;
    drop(store);
    // Its writer ends by itself; until then the file is in use.
    let began = std::time::Instant::now();
    let store = loop {
        match Store::open(&file, Options::default()) {
            Ok(store) => break store,
            Err(OpenError::Locked { .. }) if began.elapsed().as_secs() < 10 => {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(store.get(made.key()).map(|object| object.json().clone()), Some(made.json().clone()));
}
