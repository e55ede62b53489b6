//! Builds memory from the engine's rows, once, at the start, on a thread of its own beside the one that reads them. Rows
//! that do not fit together are refused: a store that lost something must not be served as if it had not.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use agentd_api::ObjectKey;
use bytes::Bytes;

use crate::engine::{Counters, Engine, Row};
use crate::error::OpenError;
use crate::json::ObjectJson;
use crate::memory::Memory;
use crate::past::{ChangeRow, PastChanges};
use crate::stored::{Interner, Stored};
use crate::tx::Remembered;

pub(crate) struct Loaded {
    pub counters: Counters,
    pub interner: Interner,
    pub memory: Memory,
    /// In the order of their revisions, without gaps from `counters.compacted` to `counters.revision`.
    pub changes: PastChanges,
    /// In the order of their numbers.
    pub events: Vec<(u64, Bytes)>,
    /// In the order of their times.
    pub answers: Vec<(String, u64, Remembered)>,
}

/// How many rows are handed to the building thread at a time, and how many such packs may wait for it: what bounds the
/// memory that loading takes beside what stays.
const PACK: usize = 256;
const PACKS: usize = 16;

/// What memory is built of. An allocation goes to its owner at once: a list of them all would be most of the memory
/// that loading takes.
enum Pack {
    Objects(Vec<(u64, ObjectKey, ObjectJson)>),
    Claims(Vec<(String, String, ObjectKey)>),
}

/// A row that is as it was written, and does not fit.
struct Misfit {
    table: &'static str,
    row: String,
    what: String,
}

/// Builds memory while the next rows are being read.
#[derive(Default)]
struct Builder {
    interner: Interner,
    objects: Vec<Arc<Stored>>,
    /// Of all objects, from the first allocation on.
    memory: Option<Memory>,
}

impl Builder {
    fn run(mut self, packs: &Receiver<Pack>) -> Result<(Memory, Interner), Misfit> {
        for pack in packs {
            match pack {
                Pack::Objects(rows) => self.objects(rows)?,
                Pack::Claims(rows) => self.claims(rows)?,
            }
        }
        self.memory()?;
        Ok((self.memory.expect("it was just built"), self.interner))
    }

    fn memory(&mut self) -> Result<&mut Memory, Misfit> {
        if self.memory.is_none() {
            let built = Memory::build(std::mem::take(&mut self.objects));
            let misfit = |what| Misfit { table: "objects", row: "any".to_owned(), what };
            self.memory = Some(built.map_err(misfit)?);
        }
        Ok(self.memory.as_mut().expect("it was just built"))
    }

    fn objects(&mut self, rows: Vec<(u64, ObjectKey, ObjectJson)>) -> Result<(), Misfit> {
        for (born, key, json) in rows {
            let key = Arc::new(key);
            let misfit = |what| Misfit { table: "objects", row: format!("{born}/{key}"), what };
            if self.memory.is_some() {
                return Err(misfit("it comes too late".to_owned()));
            }
            let object = Stored::parse(born, Some(key.clone()), json, &mut self.interner).map_err(misfit)?;
            self.objects.push(Arc::new(object));
        }
        Ok(())
    }

    fn claims(&mut self, rows: Vec<(String, String, ObjectKey)>) -> Result<(), Misfit> {
        let memory = self.memory()?;
        for (space, value, owner) in rows {
            if !memory.claim(&space, &value, &owner) {
                let what = format!("its owner {owner} does not exist");
                return Err(Misfit { table: "allocations", row: format!("{space}/{value}"), what });
            }
        }
        Ok(())
    }
}

/// Rows as they are read. What memory is built of goes on to the builder; the rest is kept as it is.
struct Rows {
    to: SyncSender<Pack>,
    objects: Vec<(u64, ObjectKey, ObjectJson)>,
    claims: Vec<(String, String, ObjectKey)>,
    changes: Vec<ChangeRow>,
    events: Vec<(u64, Bytes)>,
    answers: Vec<(String, u64, Remembered)>,
}

impl Rows {
    fn take(&mut self, row: Row) {
        match row {
            Row::Object { born, key, json } => {
                self.objects.push((born, key, json));
                if self.objects.len() == PACK {
                    self.hand_over();
                }
            }
            Row::Claim { space, value, owner } => {
                self.claims.push((space, value, owner));
                if self.claims.len() == PACK {
                    self.hand_over();
                }
            }
            Row::Change { revision, what, born, before } => {
                self.changes.push(ChangeRow { revision, what, born, before });
            }
            Row::Event { seq, json } => self.events.push((seq, json)),
            Row::Answer { key, at, answer } => self.answers.push((key, at, answer)),
        }
    }

    fn hand_over(&mut self) {
        // A builder that has ended found a misfit, and will say so.
        if !self.objects.is_empty() {
            drop(self.to.send(Pack::Objects(std::mem::take(&mut self.objects))));
        }
        if !self.claims.is_empty() {
            drop(self.to.send(Pack::Claims(std::mem::take(&mut self.claims))));
        }
    }
}

pub(crate) fn load(engine: &mut dyn Engine) -> Result<Loaded, OpenError> {
    let (to, packs) = sync_channel(PACKS);
    let mut rows = Rows {
        to,
        objects: Vec::new(),
        claims: Vec::new(),
        changes: Vec::new(),
        events: Vec::new(),
        answers: Vec::new(),
    };
    let (counters, rows, built) = std::thread::scope(|scope| {
        let builder = scope.spawn(move || Builder::default().run(&packs));
        let counters = engine.load(&mut |row| {
            rows.take(row);
            Ok(())
        });
        rows.hand_over();
        let Rows { to, changes, events, answers, .. } = rows;
        drop(to);
        (counters, (changes, events, answers), builder.join().expect("the builder does not panic"))
    });
    let counters = counters?;
    let misfit = |Misfit { table, row, what }| engine.inconsistent(table, row, what);
    let (mut memory, interner) = built.map_err(misfit)?;
    memory.revision = counters.revision;
    if let Some(late) = memory.objects().find(|object| object.revision() > counters.revision) {
        let what = format!("it is newer than the store's revision {}", counters.revision);
        return Err(engine.inconsistent("objects", late.key().to_string(), what));
    }
    let (changes, mut events, mut answers) = rows;
    let changes = PastChanges::of(changes, &memory, counters)
        .map_err(|(revision, what)| engine.inconsistent("changes", revision.to_string(), what))?;
    events.sort_unstable_by_key(|(seq, _)| *seq);
    answers.sort_unstable_by_key(|(_, at, _)| *at);
    Ok(Loaded { counters, interner, memory, changes, events, answers })
}
