//! The row of `state`: the counters, and what each table must add up to. Rewritten with every commit.

use rusqlite::{Connection, Row, params_from_iter};

use super::sums::{Crc, Table, Tally};
use crate::engine::Counters;

const COLUMNS: usize = 14;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct State {
    /// Counts commits of any sort; what the mark holds.
    pub commits: u64,
    pub counters: Counters,
    tallies: [Tally; 5],
}

impl State {
    pub(super) fn tally(&mut self, table: Table) -> &mut Tally {
        &mut self.tallies[table as usize]
    }

    pub(super) fn insert(&self, connection: &Connection) -> rusqlite::Result<()> {
        let sql =
            "INSERT INTO state VALUES (1, ?15, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)";
        connection.execute(sql, params_from_iter(self.values())).map(drop)
    }

    pub(super) fn update(&self, connection: &Connection) -> rusqlite::Result<()> {
        let sql = "UPDATE state SET commits = ?1, revision = ?2, compacted = ?3, event_seq = ?4, \
                   object_rows = ?5, object_sum = ?6, change_rows = ?7, change_sum = ?8, \
                   allocation_rows = ?9, allocation_sum = ?10, event_rows = ?11, event_sum = ?12, \
                   answer_rows = ?13, answer_sum = ?14, crc = ?15";
        connection.prepare_cached(sql)?.execute(params_from_iter(self.values())).map(drop)
    }

    /// None where its checksum is wrong.
    pub(super) fn read(connection: &Connection) -> rusqlite::Result<Option<Self>> {
        connection.query_row("SELECT * FROM state", [], |row: &Row<'_>| {
            let mut numbers = [0; COLUMNS];
            for (at, number) in numbers.iter_mut().enumerate() {
                *number = row.get::<_, i64>(at + 2)?.cast_unsigned();
            }
            let mut state = Self {
                commits: numbers[0],
                counters: Counters { revision: numbers[1], compacted: numbers[2], event_seq: numbers[3] },
                ..Self::default()
            };
            for (at, tally) in state.tallies.iter_mut().enumerate() {
                *tally = Tally { rows: numbers[4 + 2 * at], sum: numbers[5 + 2 * at] };
            }
            let crc: i64 = row.get(1)?;
            Ok((crc == i64::from(state.crc())).then_some(state))
        })
    }

    fn numbers(&self) -> [u64; COLUMNS] {
        let mut numbers = [0; COLUMNS];
        numbers[0] = self.commits;
        numbers[1] = self.counters.revision;
        numbers[2] = self.counters.compacted;
        numbers[3] = self.counters.event_seq;
        for (at, tally) in self.tallies.iter().enumerate() {
            numbers[4 + 2 * at] = tally.rows;
            numbers[5 + 2 * at] = tally.sum;
        }
        numbers
    }

    fn crc(&self) -> u32 {
        self.numbers().into_iter().fold(Crc::of("state"), Crc::int).end()
    }

    fn values(&self) -> impl Iterator<Item = i64> {
        let crc = i64::from(self.crc());
        self.numbers().into_iter().map(u64::cast_signed).chain([crc])
    }
}
