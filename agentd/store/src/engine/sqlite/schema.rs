//! The tables, as numbered migrations. `user_version` is the number of the last one that was applied. A migration that
//! was released is never changed; a new one is added behind it.
//!
//! All that are missing are applied in one transaction, after a copy of the file was made. A file of a higher number
//! was written by a newer agentd and is refused.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::failure::{open_failed, open_io};
use super::suffixed;
use crate::error::OpenError;

/// "agd1": tells our databases from others.
pub(super) const APPLICATION_ID: i32 = 0x6167_6431;

/// Every table has a checksum over the other columns of each row; `state` has for each table the number of rows and
/// the sum of these checksums. What is long stands last in its row.
const V1: &str = "
    CREATE TABLE objects (
        born INTEGER PRIMARY KEY, crc INTEGER NOT NULL,
        kind TEXT NOT NULL, project TEXT NOT NULL, name TEXT NOT NULL, json BLOB NOT NULL,
        UNIQUE (kind, project, name)
    ) STRICT;
    CREATE TABLE changes (
        revision INTEGER PRIMARY KEY, crc INTEGER NOT NULL,
        what TEXT NOT NULL, born INTEGER NOT NULL, before BLOB
    ) STRICT;
    CREATE TABLE allocations (
        space TEXT NOT NULL, value TEXT NOT NULL, crc INTEGER NOT NULL,
        kind TEXT NOT NULL, project TEXT NOT NULL, name TEXT NOT NULL,
        PRIMARY KEY (space, value)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE events (
        seq INTEGER PRIMARY KEY, crc INTEGER NOT NULL, json BLOB NOT NULL
    ) STRICT;
    CREATE TABLE answers (
        key TEXT NOT NULL PRIMARY KEY, crc INTEGER NOT NULL,
        at INTEGER NOT NULL, fingerprint TEXT NOT NULL, status INTEGER NOT NULL, body BLOB NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE state (
        only INTEGER PRIMARY KEY CHECK (only = 1), crc INTEGER NOT NULL,
        commits INTEGER NOT NULL, revision INTEGER NOT NULL, compacted INTEGER NOT NULL, event_seq INTEGER NOT NULL,
        object_rows INTEGER NOT NULL, object_sum INTEGER NOT NULL,
        change_rows INTEGER NOT NULL, change_sum INTEGER NOT NULL,
        allocation_rows INTEGER NOT NULL, allocation_sum INTEGER NOT NULL,
        event_rows INTEGER NOT NULL, event_sum INTEGER NOT NULL,
        answer_rows INTEGER NOT NULL, answer_sum INTEGER NOT NULL
    ) STRICT;
";

/// Objects without an index of their names: that a name is taken once is seen to in memory, by the one writer, and again
/// when the rows are read at the start. An index in the order of the names is touched by every create in another place,
/// which costs the more the more objects there are, and reading it is a good part of a start.
const V2: &str = "
    CREATE TABLE objects_by_born (
        born INTEGER PRIMARY KEY, crc INTEGER NOT NULL,
        kind TEXT NOT NULL, project TEXT NOT NULL, name TEXT NOT NULL, json BLOB NOT NULL
    ) STRICT;
    INSERT INTO objects_by_born SELECT born, crc, kind, project, name, json FROM objects;
    DROP TABLE objects;
    ALTER TABLE objects_by_born RENAME TO objects;
";

pub(super) const MIGRATIONS: &[&str] = &[V1, V2];

/// The number of the newest schema, which is the one that is written.
pub const SCHEMA: u32 = MIGRATIONS.len() as u32;

pub(super) fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// Applies what is missing. `first` is run in the same transaction when the database is new.
pub(super) fn migrate(
    connection: &mut Connection,
    path: &Path,
    migrations: &[&str],
    first: impl FnOnce(&Connection) -> rusqlite::Result<()>,
) -> Result<(), OpenError> {
    let failed = |error: rusqlite::Error| open_failed(path, "its schema", &error);
    let is = version(connection).map_err(failed)?;
    let known = i64::try_from(migrations.len()).unwrap_or(i64::MAX);
    if is > known {
        return Err(OpenError::Newer { file: path.to_owned(), is, known });
    }
    if is == known {
        return Ok(());
    }
    if is > 0 {
        let copy = keep_copy(connection, path, is)?;
        tracing::info!(from = is, to = known, copy = %copy.display(), "migrating the store");
    }
    let applied = usize::try_from(is).unwrap_or(0);
    let apply = || {
        let tx = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        for migration in &migrations[applied..] {
            tx.execute_batch(migration)?;
        }
        if is == 0 {
            tx.pragma_update(None, "application_id", APPLICATION_ID)?;
            first(&tx)?;
        }
        tx.pragma_update(None, "user_version", known)?;
        tx.commit()
    };
    apply().map_err(failed)
}

/// The tables' own declarations, against those of a new database: one wrong letter in them, and a column is not found.
pub(super) fn check(connection: &Connection, path: &Path, migrations: &[&str]) -> Result<(), OpenError> {
    let failed = |error: rusqlite::Error| open_failed(path, "table sqlite_schema, all rows", &error);
    let new = || {
        let new = Connection::open_in_memory()?;
        migrations.iter().try_for_each(|migration| new.execute_batch(migration))?;
        declared(&new)
    };
    let (is, wanted) = (declared(connection).map_err(failed)?, new().map_err(failed)?);
    let Some(odd) = is.symmetric_difference(&wanted).next() else { return Ok(()) };
    let place = format!("table sqlite_schema, row {}", odd.0);
    Err(OpenError::Damaged { file: path.to_owned(), place, what: "it is not as it was written".to_owned() })
}

/// A table or an index: its name, which of the two, its table, and how it was declared.
type Declared = (String, String, String, Option<String>);

fn declared(connection: &Connection) -> rusqlite::Result<BTreeSet<Declared>> {
    let mut statement = connection.prepare("SELECT name, type, tbl_name, sql FROM sqlite_schema")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
    rows.collect()
}

/// Copies the database to `<db>.v<N>.bak`, or finds that a copy of just this content is there from an earlier try.
fn keep_copy(connection: &Connection, path: &Path, is: i64) -> Result<PathBuf, OpenError> {
    // All of the log goes into the file, so that the file alone is the database.
    checkpoint(connection).map_err(|error| open_failed(path, "its write-ahead log", &error))?;
    let io = |error: io::Error| open_io(path, &error);
    for attempt in 1.. {
        let more = if attempt == 1 { String::new() } else { format!("-{attempt}") };
        let copy = suffixed(path, &format!(".v{is}{more}.bak"));
        if copy.exists() {
            if same(&copy, path).map_err(io)? {
                return Ok(copy);
            }
            continue;
        }
        let partial = suffixed(path, ".bak.partial");
        fs::copy(path, &partial).map_err(io)?;
        File::open(&partial).and_then(|file| file.sync_all()).map_err(io)?;
        fs::rename(&partial, &copy).map_err(io)?;
        sync_directory(path).map_err(io)?;
        return Ok(copy);
    }
    unreachable!("the loop has no end")
}

fn same(a: &Path, b: &Path) -> io::Result<bool> {
    Ok(fs::metadata(a)?.len() == fs::metadata(b)?.len() && fs::read(a)? == fs::read(b)?)
}

/// Moves all of the log into the file and empties the log.
pub(super) fn checkpoint(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| {
        let busy: i64 = row.get(0)?;
        debug_assert_eq!(busy, 0, "nobody else has the database open");
        Ok(())
    })
}

/// Makes the names of new files in the database's directory durable.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}

#[cfg(test)]
#[path = "schema/tests.rs"]
mod tests;
