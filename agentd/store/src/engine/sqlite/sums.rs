//! Checksums: one over all columns of each row, and for each table the number of its rows and the sum of their
//! checksums, so that a row that is changed is found and so is one that is gone.

use agentd_api::ObjectKey;
use agentd_api::list::WatchKind;

use crate::tx::Remembered;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Table {
    Objects,
    Changes,
    Allocations,
    Events,
    Answers,
}

impl Table {
    pub(super) const ALL: [Self; 5] =
        [Self::Objects, Self::Changes, Self::Allocations, Self::Events, Self::Answers];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Objects => "objects",
            Self::Changes => "changes",
            Self::Allocations => "allocations",
            Self::Events => "events",
            Self::Answers => "answers",
        }
    }
}

/// Of a table: how many rows, and the sum of their checksums, in whatever order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Tally {
    pub rows: u64,
    pub sum: u64,
}

impl Tally {
    pub(super) fn add(&mut self, crc: u32) {
        self.rows = self.rows.wrapping_add(1);
        self.sum = self.sum.wrapping_add(u64::from(crc));
    }
    pub(super) fn take(&mut self, crc: u32) {
        self.rows = self.rows.wrapping_sub(1);
        self.sum = self.sum.wrapping_sub(u64::from(crc));
    }
}

/// Over columns one after the other, each with its length, so that no text can move from one to the next unseen.
pub(super) struct Crc(crc32fast::Hasher);

impl Crc {
    pub(super) fn of(table: &str) -> Self {
        Self(crc32fast::Hasher::new()).text(table)
    }
    pub(super) fn int(mut self, value: u64) -> Self {
        self.0.update(&value.to_le_bytes());
        self
    }
    pub(super) fn bytes(mut self, value: &[u8]) -> Self {
        self = self.int(value.len() as u64);
        self.0.update(value);
        self
    }
    pub(super) fn text(self, value: &str) -> Self {
        self.bytes(value.as_bytes())
    }
    pub(super) fn end(self) -> u32 {
        self.0.finalize()
    }
}

pub(super) fn object(born: u64, key: &ObjectKey, json: &[u8]) -> u32 {
    owner(Crc::of("objects").int(born), key).bytes(json).end()
}

pub(super) fn change(revision: u64, what: WatchKind, born: u64, before: Option<&[u8]>) -> u32 {
    let crc = Crc::of("changes").int(revision).text(what.as_str()).int(born);
    match before {
        Some(json) => crc.int(1).bytes(json).end(),
        None => crc.int(0).end(),
    }
}

pub(super) fn claim(space: &str, value: &str, key: &ObjectKey) -> u32 {
    owner(Crc::of("allocations").text(space).text(value), key).end()
}

pub(super) fn event(seq: u64, json: &[u8]) -> u32 {
    Crc::of("events").int(seq).bytes(json).end()
}

pub(super) fn answer(key: &str, at: u64, answer: &Remembered) -> u32 {
    let crc = Crc::of("answers").text(key).int(at).text(&answer.fingerprint);
    crc.int(u64::from(answer.status)).bytes(&answer.body).end()
}

fn owner(crc: Crc, key: &ObjectKey) -> Crc {
    crc.text(&key.kind).text(key.project.as_str()).text(key.name.as_str())
}
