//! Opens the file: who may, whether it is ours, whether its pages are sound. Nothing is written to what is refused.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::failure::{open_failed, open_io};
use super::lock::Lock;
use super::mark::{Mark, Marked};
use super::schema::{self, APPLICATION_ID, MIGRATIONS, migrate};
use super::state::State;
use super::{SqliteEngine, suffixed};
use crate::error::OpenError;

impl SqliteEngine {
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        Self::open_with(path, MIGRATIONS)
    }

    pub(super) fn open_with(path: &Path, migrations: &[&str]) -> Result<Self, OpenError> {
        let lock = Lock::take(&suffixed(path, ".lock"), path)?;
        let mark = suffixed(path, ".mark");
        let marked = Mark::read(&mark).map_err(|error| open_io(&mark, &error))?;
        let damaged = |place: &str, what: String| {
            Err(OpenError::Damaged { file: path.to_owned(), place: place.to_owned(), what })
        };
        if marked == Marked::Damaged {
            return damaged("the file .mark beside it", "it does not have its checksum".to_owned());
        }
        // SQLite takes a file of one byte for an empty one.
        let empty = length(path)? <= 1;
        if empty && length(&suffixed(path, "-wal"))? > 0 {
            // SQLite would delete the log.
            return damaged("the whole file", "it is empty or gone, but has a write-ahead log".to_owned());
        }
        if let (true, Marked::Commit(last @ 1..)) = (empty, marked) {
            let what = format!("it is empty or gone, but commit {last} was acknowledged");
            return damaged("the whole file", what);
        }
        if empty {
            create(path).map_err(|error| open_io(path, &error))?;
        }
        let mut connection = connect(path)?;
        let fresh = recognise(&connection, path, migrations.len())?;
        if let (true, Marked::Commit(last @ 1..)) = (fresh, marked) {
            return damaged(
                "the whole file",
                format!("it has no tables, but commit {last} was acknowledged"),
            );
        }
        let known = i64::try_from(migrations.len()).unwrap_or(i64::MAX);
        let current = schema::version(&connection).is_ok_and(|is| is == known);
        let pages = if fresh { Pages::Sound } else { Pages::check(&connection, path, current)? };
        prepare(&connection, path)?;
        migrate(&mut connection, path, migrations, |new| State::default().insert(new))?;
        schema::check(&connection, path, migrations)?;
        let failed = |error: rusqlite::Error| open_failed(path, "table state, row 1", &error);
        let Some(state) = State::read(&connection).map_err(failed)? else {
            return damaged("table state, row 1", "its content does not have its checksum".to_owned());
        };
        let log_pages = count_log_pages(&mut connection, path)?;
        let path = path.to_owned();
        Ok(Self { path, connection, state, marked, pages, mark: None, log_pages, _lock: lock })
    }
}

fn length(path: &Path) -> Result<u64, OpenError> {
    match std::fs::metadata(path) {
        Ok(file) => Ok(file.len()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(open_io(path, &error)),
    }
}

/// An empty file that only its owner may read: specs hold user-data. SQLite gives its log the same mode.
fn create(path: &Path) -> io::Result<()> {
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    schema::sync_directory(path)
}

fn connect(path: &Path) -> Result<Connection, OpenError> {
    let failed = |error: rusqlite::Error| open_failed(path, "its header", &error);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    // Closing a file that was refused must not change it.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(failed)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true).map_err(failed)?;
    connection.set_prepared_statement_cache_capacity(64);
    // Nobody else reads it: the log's index is kept in memory, and no third file is needed.
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE").map_err(failed)?;
    if connection.is_readonly("main").map_err(failed)? {
        return Err(OpenError::ReadOnly { file: path.to_owned() });
    }
    Ok(connection)
}

/// Whether the database is new. One of others, or of a newer agentd, is refused.
fn recognise(connection: &Connection, path: &Path, known: usize) -> Result<bool, OpenError> {
    let failed = |error: rusqlite::Error| open_failed(path, "its header", &error);
    let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).map_err(failed);
    let tables = number("SELECT count(*) FROM sqlite_schema")?;
    let is = schema::version(connection).map_err(failed)?;
    if tables == 0 && is == 0 {
        return Ok(true);
    }
    if number("PRAGMA application_id")? != i64::from(APPLICATION_ID) || is < 1 {
        return Err(OpenError::Foreign { file: path.to_owned() });
    }
    let known = i64::try_from(known).unwrap_or(i64::MAX);
    if is > known {
        return Err(OpenError::Newer { file: path.to_owned(), is, known });
    }
    Ok(false)
}

/// Whether the pages are sound.
pub(super) enum Pages {
    Sound,
    /// They are still being looked at, on a thread of its own.
    Checking(JoinHandle<Result<(), OpenError>>),
}

impl Pages {
    /// Where all of the database is in its file, and nothing will be written before its rows are read, the check goes
    /// on beside the reading. Otherwise it is made here and now.
    fn check(connection: &Connection, path: &Path, current: bool) -> Result<Self, OpenError> {
        if current
            && length(&suffixed(path, "-wal"))? == 0
            && let Some(second) = as_it_is(path)
        {
            let owned = path.to_owned();
            let beside = std::thread::Builder::new().name("agentd-check".to_owned());
            if let Ok(checking) = beside.spawn(move || check_pages(&second, &owned)) {
                return Ok(Self::Checking(checking));
            }
        }
        check_pages(connection, path).map(|()| Self::Sound)
    }

    /// To be called before anything is written.
    pub(super) fn sound(&mut self, path: &Path) -> Result<(), OpenError> {
        match std::mem::replace(self, Self::Sound) {
            Self::Sound => Ok(()),
            Self::Checking(checking) => checking.join().unwrap_or_else(|_| {
                let detail = "the check of its pages panicked".to_owned();
                Err(OpenError::Io { file: path.to_owned(), detail })
            }),
        }
    }
}

/// A second connection that reads the file and takes nothing else into account, neither locks nor a log.
fn as_it_is(path: &Path) -> Option<Connection> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_' | '.');
    let path = path.to_str().filter(|path| path.chars().all(plain))?;
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let connection = Connection::open_with_flags(format!("file:{path}?immutable=1"), flags).ok()?;
    read_through(&connection).ok()?;
    Some(connection)
}

/// For one who reads all pages once, from the first to the last: the fewer are kept, the less memory is touched for it.
/// How many it kept before.
pub(super) fn read_through(connection: &Connection) -> rusqlite::Result<i64> {
    const PAGES: i64 = 32;
    let before = connection.pragma_query_value(None, "cache_size", |row| row.get(0))?;
    connection.pragma_update(None, "cache_size", PAGES)?;
    Ok(before)
}

/// The structure of all pages, the free ones too, and that indexes agree with their tables.
fn check_pages(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let found: String = connection
        .query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))
        .map_err(|error| open_failed(path, "its pages", &error))?;
    if found == "ok" {
        return Ok(());
    }
    Err(OpenError::Damaged {
        file: path.to_owned(),
        place: "its pages".to_owned(),
        what: found.replace('\n', " "),
    })
}

fn prepare(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let failed = |error: rusqlite::Error| open_failed(path, "its header", &error);
    let mode: String =
        connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).map_err(failed)?;
    if mode != "wal" {
        let detail = format!("SQLite keeps journal mode {mode} where a write-ahead log is needed");
        return Err(OpenError::Io { file: path.to_owned(), detail });
    }
    connection.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
    // The file can be written to, as was seen before its header was read.
    if connection.is_readonly("main").map_err(failed)? {
        let what = "it asks for a version of SQLite that there is not".to_owned();
        return Err(OpenError::Damaged { file: path.to_owned(), place: "its header".to_owned(), what });
    }
    Ok(())
}

/// Counts the pages in the log; SQLite's own checkpoints, which would make a caller wait, are thereby off.
fn count_log_pages(connection: &mut Connection, path: &Path) -> Result<Arc<AtomicU32>, OpenError> {
    let pages = Arc::new(AtomicU32::new(0));
    let counter = pages.clone();
    connection
        .wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, count: std::ffi::c_int| {
            counter.store(u32::try_from(count).unwrap_or(0), Ordering::Relaxed);
            Ok(())
        }))
        .map_err(|error| open_failed(path, "its write-ahead log", &error))?;
    Ok(pages)
}
