//! Reads all rows back, each against its checksum, each table against what it must add up to.

use std::path::Path;

use agentd_api::list::WatchKind;
use agentd_api::{ObjectKey, ObjectName};
use bytes::Bytes;
use rusqlite::types::{FromSqlError, Type};
use rusqlite::{Connection, Row as SqlRow};

use super::failure::open_failed;
use super::state::State;
use super::sums::{self, Table, Tally};
use crate::engine::Row;
use crate::error::OpenError;
use crate::json::ObjectJson;
use crate::tx::Remembered;

type Each<'a> = &'a mut dyn FnMut(Row) -> Result<(), String>;

/// A row as it was read, with its checksum as it should be.
type Read = fn(&SqlRow<'_>) -> rusqlite::Result<(Row, u32)>;

pub(super) fn load(
    connection: &Connection,
    path: &Path,
    state: &mut State,
    each: Each<'_>,
) -> Result<(), OpenError> {
    for table in Table::ALL {
        let seen = read_table(connection, path, table, &mut *each)?;
        let wanted = *state.tally(table);
        if seen != wanted {
            let what = format!(
                "{} rows with checksum {:x} were found where {} with {:x} were written",
                seen.rows, seen.sum, wanted.rows, wanted.sum
            );
            let place = format!("table {}, all rows", table.name());
            return Err(OpenError::Damaged { file: path.to_owned(), place, what });
        }
    }
    Ok(())
}

fn read_table(
    connection: &Connection,
    path: &Path,
    table: Table,
    each: Each<'_>,
) -> Result<Tally, OpenError> {
    let (sql, key, read): (_, _, Read) = match table {
        Table::Objects => ("SELECT crc, born, kind, project, name, json FROM objects", 1..5, object),
        Table::Changes => ("SELECT crc, revision, what, born, before FROM changes", 1..2, change),
        Table::Allocations => ("SELECT crc, space, value, kind, project, name FROM allocations", 1..3, claim),
        Table::Events => ("SELECT crc, seq, json FROM events", 1..2, event),
        Table::Answers => ("SELECT crc, key, at, fingerprint, status, body FROM answers", 1..2, answer),
    };
    let mut last = "the first".to_owned();
    let place = |row: &str| format!("table {}, row {row}", table.name());
    let damaged =
        |row: &str, what: String| OpenError::Damaged { file: path.to_owned(), place: place(row), what };
    let mut statement = connection.prepare(sql).map_err(|error| open_failed(path, &place(&last), &error))?;
    let mut rows = statement.query([]).map_err(|error| open_failed(path, &place(&last), &error))?;
    let mut seen = Tally::default();
    loop {
        let row = match rows.next() {
            Ok(Some(row)) => row,
            Ok(None) => return Ok(seen),
            Err(error) => return Err(open_failed(path, &place(&last), &error)),
        };
        let (read, wanted) =
            read(row).map_err(|error| open_failed(path, &place(&name(row, key.clone())), &error))?;
        let crc: i64 =
            row.get(0).map_err(|error| open_failed(path, &place(&name(row, key.clone())), &error))?;
        if crc != i64::from(wanted) {
            return Err(damaged(&name(row, key), "its content does not have its checksum".to_owned()));
        }
        seen.add(wanted);
        each(read).map_err(|what| damaged(&name(row, key.clone()), what))?;
        if seen.rows == 1 {
            last = format!("behind {}", name(row, key.clone()));
        }
    }
}

/// The columns that tell a row from the others, as far as they can be read.
fn name(row: &SqlRow<'_>, columns: std::ops::Range<usize>) -> String {
    let text = |at: usize| match row.get_ref(at) {
        Ok(rusqlite::types::ValueRef::Integer(number)) => number.to_string(),
        Ok(rusqlite::types::ValueRef::Text(text)) => String::from_utf8_lossy(text).into_owned(),
        _ => "?".to_owned(),
    };
    columns.map(text).collect::<Vec<_>>().join("/")
}

fn int(row: &SqlRow<'_>, at: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(at).map(i64::cast_unsigned)
}

fn text<'a>(row: &'a SqlRow<'_>, at: usize) -> rusqlite::Result<&'a str> {
    row.get_ref(at)?.as_str().map_err(|error| unreadable(at, error))
}

fn blob(row: &SqlRow<'_>, at: usize) -> rusqlite::Result<Bytes> {
    row.get_ref(at)?.as_blob().map(Bytes::copy_from_slice).map_err(|error| unreadable(at, error))
}

fn unreadable(at: usize, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(at, Type::Blob, error.into())
}

fn key(row: &SqlRow<'_>, at: usize) -> rusqlite::Result<ObjectKey> {
    let name = |at| ObjectName::parse(text(row, at)?).map_err(|error| unreadable(at, error));
    Ok(ObjectKey::new(text(row, at)?, name(at + 1)?, name(at + 2)?))
}

fn object(row: &SqlRow<'_>) -> rusqlite::Result<(Row, u32)> {
    let (born, key) = (int(row, 1)?, key(row, 2)?);
    let json = row.get_ref(5)?.as_blob().map_err(|error| unreadable(5, error))?;
    let crc = sums::object(born, &key, json);
    Ok((Row::Object { born, key, json: ObjectJson::copy(json) }, crc))
}

fn change(row: &SqlRow<'_>) -> rusqlite::Result<(Row, u32)> {
    let (revision, born) = (int(row, 1)?, int(row, 3)?);
    let what = match text(row, 2)? {
        "added" => WatchKind::Added,
        "modified" => WatchKind::Modified,
        "deleted" => WatchKind::Deleted,
        _ => return Err(unreadable(2, FromSqlError::InvalidType)),
    };
    let before = row.get_ref(4)?.as_blob_or_null().map_err(|error| unreadable(4, error))?;
    let crc = sums::change(revision, what, born, before);
    Ok((Row::Change { revision, what, born, before: before.map(Bytes::copy_from_slice) }, crc))
}

fn claim(row: &SqlRow<'_>) -> rusqlite::Result<(Row, u32)> {
    let (space, value, owner) = (text(row, 1)?.to_owned(), text(row, 2)?.to_owned(), key(row, 3)?);
    let crc = sums::claim(&space, &value, &owner);
    Ok((Row::Claim { space, value, owner }, crc))
}

fn event(row: &SqlRow<'_>) -> rusqlite::Result<(Row, u32)> {
    let (seq, json) = (int(row, 1)?, blob(row, 2)?);
    let crc = sums::event(seq, &json);
    Ok((Row::Event { seq, json }, crc))
}

fn answer(row: &SqlRow<'_>) -> rusqlite::Result<(Row, u32)> {
    let (key, at, fingerprint) = (text(row, 1)?.to_owned(), int(row, 2)?, text(row, 3)?.to_owned());
    let answer = Remembered { fingerprint, status: row.get(4)?, body: blob(row, 5)? };
    let crc = sums::answer(&key, at, &answer);
    Ok((Row::Answer { key, at, answer }, crc))
}
