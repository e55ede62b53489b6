//! Applies a batch inside a transaction, and keeps count of what each table must add up to.

use rusqlite::{Connection, OptionalExtension, Params, params};

use super::state::State;
use super::sums::{self, Table};
use crate::engine::{Op, Row};

/// Statements are prepared once and kept.
pub(super) struct Writing<'a> {
    pub connection: &'a Connection,
    /// Becomes what it is here when the transaction succeeds.
    pub state: State,
}

impl Writing<'_> {
    pub(super) fn apply(&mut self, op: &Op) -> rusqlite::Result<()> {
        match op {
            Op::Put(row) => self.put(row),
            Op::DropObject { born } => self.drop_rows(
                Table::Objects,
                "DELETE FROM objects WHERE born = ?1 RETURNING crc",
                [sql(*born)],
            ),
            Op::DropChanges { through } => self.drop_rows(
                Table::Changes,
                "DELETE FROM changes WHERE revision <= ?1 RETURNING crc",
                [sql(*through)],
            ),
            Op::DropClaim { space, value } => self.drop_rows(
                Table::Allocations,
                "DELETE FROM allocations WHERE space = ?1 AND value = ?2 RETURNING crc",
                [space, value],
            ),
            Op::DropEvents { through } => self.drop_rows(
                Table::Events,
                "DELETE FROM events WHERE seq <= ?1 RETURNING crc",
                [sql(*through)],
            ),
            Op::DropAnswer { key } => {
                self.drop_rows(Table::Answers, "DELETE FROM answers WHERE key = ?1 RETURNING crc", [key])
            }
        }
    }

    fn put(&mut self, row: &Row) -> rusqlite::Result<()> {
        match row {
            Row::Object { born, key, json } => {
                let crc = sums::object(*born, key, json);
                let known = "SELECT crc FROM objects WHERE born = ?1";
                if self.replaces(Table::Objects, known, [sql(*born)])? {
                    let update = "UPDATE objects SET crc = ?2, json = ?3 WHERE born = ?1";
                    self.run(update, params![sql(*born), crc, &json[..]])?;
                } else {
                    let (project, name) = (key.project.as_str(), key.name.as_str());
                    let insert = "INSERT INTO objects (born, crc, kind, project, name, json) \
                                  VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
                    self.run(insert, params![sql(*born), crc, key.kind, project, name, &json[..]])?;
                }
                self.state.tally(Table::Objects).add(crc);
            }
            Row::Change { revision, what, born, before } => {
                let crc = sums::change(*revision, *what, *born, before.as_deref());
                let insert =
                    "INSERT INTO changes (revision, crc, what, born, before) VALUES (?1, ?2, ?3, ?4, ?5)";
                self.run(insert, params![sql(*revision), crc, what.as_str(), sql(*born), before.as_deref()])?;
                self.state.tally(Table::Changes).add(crc);
            }
            Row::Claim { space, value, owner } => {
                let crc = sums::claim(space, value, owner);
                let known = "DELETE FROM allocations WHERE space = ?1 AND value = ?2 RETURNING crc";
                self.drop_rows(Table::Allocations, known, [space, value])?;
                let (project, name) = (owner.project.as_str(), owner.name.as_str());
                let insert = "INSERT INTO allocations (space, value, crc, kind, project, name) \
                              VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
                self.run(insert, params![space, value, crc, owner.kind, project, name])?;
                self.state.tally(Table::Allocations).add(crc);
            }
            Row::Event { seq, json } => {
                let crc = sums::event(*seq, json);
                self.run(
                    "INSERT INTO events (seq, crc, json) VALUES (?1, ?2, ?3)",
                    params![sql(*seq), crc, &json[..]],
                )?;
                self.state.tally(Table::Events).add(crc);
            }
            Row::Answer { key, at, answer } => {
                let crc = sums::answer(key, *at, answer);
                self.drop_rows(Table::Answers, "DELETE FROM answers WHERE key = ?1 RETURNING crc", [key])?;
                let insert = "INSERT INTO answers (key, crc, at, fingerprint, status, body) \
                              VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
                let (fingerprint, status, body) = (&answer.fingerprint, answer.status, &answer.body[..]);
                self.run(insert, params![key, crc, sql(*at), fingerprint, status, body])?;
                self.state.tally(Table::Answers).add(crc);
            }
        }
        Ok(())
    }

    fn run(&self, statement: &str, values: impl Params) -> rusqlite::Result<()> {
        self.connection.prepare_cached(statement)?.execute(values).map(drop)
    }

    /// Whether the row is there already; its checksum then goes out of the sum.
    fn replaces(&mut self, table: Table, select: &str, values: impl Params) -> rusqlite::Result<bool> {
        let mut statement = self.connection.prepare_cached(select)?;
        let known: Option<u32> = statement.query_row(values, |row| row.get(0)).optional()?;
        if let Some(crc) = known {
            self.state.tally(table).take(crc);
        }
        Ok(known.is_some())
    }

    fn drop_rows(&mut self, table: Table, delete: &str, values: impl Params) -> rusqlite::Result<()> {
        let mut statement = self.connection.prepare_cached(delete)?;
        let mut rows = statement.query(values)?;
        while let Some(row) = rows.next()? {
            self.state.tally(table).take(row.get(0)?);
        }
        Ok(())
    }
}

/// SQLite's integers are signed; numbers of ours never come near the difference.
fn sql(number: u64) -> i64 {
    number.cast_signed()
}
