//! What a pass is given: what it may read, and how it says in between how far it is.
//!
//! Status is written by difference: the pass's status against the one it began with, key by key, applied to what the
//! store then holds. So what somebody else wrote into the status meanwhile (a restart that was asked for, attempts that
//! were forgotten) stays, and what is equal is not written at all.

use std::collections::BTreeMap;

use agentd_api::event::Outcome as EventOutcome;
use agentd_api::{ErrorCode, Kind, Meta, Object, ObjectKey, ObjectName};
use agentd_drivers::Class;
use agentd_store::{EventQuery, Expect, NewEvent, Query, Store, Stored, Tx, TxError, Update};
use parking_lot::Mutex;
use serde_json::{Map, Value};
use std::sync::Arc;
use uuid::Uuid;

use super::edges::Read;
use super::{Core, Fault, Note};

/// How many events of an object are looked through for the request that caused what a pass does.
const RECENT: usize = 8;

/// One look at one object.
pub struct Pass {
    core: Core,
    key: ObjectKey,
    id: Uuid,
    read: Mutex<Read>,
    written: Mutex<Written>,
    /// Held across a write, so that two of one pass do not overtake each other.
    writing: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Written {
    /// The status as this pass last wrote it, or as it read it.
    status: Map<String, Value>,
    revisions: Vec<u64>,
}

/// Why a pass's write was not made.
#[derive(Debug)]
pub(super) enum WriteEnd {
    /// The object is gone, or another one has its name: there is nothing to say any more.
    Gone,
    /// Its spec has changed since.
    Changed,
    Store(String),
}

/// What a pass writes of its own object.
#[derive(Debug, Default)]
pub(super) struct Write {
    pub status: Map<String, Value>,
    pub notes: Vec<Note>,
    pub delete: bool,
    /// The finalizer that is done.
    pub finalized: Option<String>,
    /// What the object gives back, as pairs of space and value.
    pub released: Vec<(String, String)>,
    /// Write only where the object's spec is of that generation.
    pub at_generation: Option<u64>,
}

impl Pass {
    pub(super) fn new(core: Core, meta: &Meta, status: &Value) -> Self {
        let status = status.as_object().cloned().unwrap_or_default();
        Self {
            core,
            key: meta.key(),
            id: meta.id,
            read: Mutex::default(),
            written: Mutex::new(Written { status, revisions: Vec::new() }),
            writing: tokio::sync::Mutex::default(),
        }
    }

    /// The daemon ends: what fails now failed for that, and says nothing of the host.
    pub(super) fn is_cut_off(&self) -> bool {
        self.core.cancel.is_cancelled()
    }

    pub fn key(&self) -> &ObjectKey {
        &self.key
    }
    pub fn id(&self) -> Uuid {
        self.id
    }
    /// The store, for what shall not wake this object when it changes.
    pub fn store(&self) -> &Store {
        &self.core.store
    }

    /// Another object of this project. The pass is made again when it changes, appears or goes.
    pub fn get<K: Kind>(&self, name: &ObjectName) -> Result<Option<Object<K>>, Fault> {
        let key = ObjectKey::of::<K>(self.key.project.clone(), name.clone());
        self.core.trigger.edges().add_object(&self.key, &key);
        self.read.lock().objects.insert(key.clone());
        let Some(stored) = self.core.store.get(&key) else { return Ok(None) };
        stored.object::<K>().map(Some).map_err(|e| Fault::internal(format!("{key} cannot be read: {e}")))
    }

    /// The objects that `query` finds. The pass is made again when one of them changes, appears or goes.
    pub fn list(&self, query: &Query) -> Vec<Arc<Stored>> {
        self.core.trigger.edges().add_list(&self.key, query);
        self.read.lock().lists.push(query.clone());
        self.core.store.list(query).items
    }

    /// Writes how far it is, while the pass goes on. Equal status is no write.
    pub async fn publish<K: Kind>(&self, status: &K::Status) -> Result<(), Fault> {
        self.publish_noting::<K>(status, Vec::new()).await
    }

    /// As [`publish`](Self::publish), with events in the same transaction.
    pub async fn publish_noting<K: Kind>(&self, status: &K::Status, notes: Vec<Note>) -> Result<(), Fault> {
        let write = Write { status: to_map::<K>(status)?, notes, ..Write::default() };
        self.write(write).await.map_err(unwritten)
    }

    /// As [`publish_noting`](Self::publish_noting), and gives back claims of the object in the same transaction. False,
    /// and nothing is written, where the spec has changed since `object` was read: it may want them again.
    pub async fn release<K: Kind>(
        &self,
        object: &Object<K>,
        status: &K::Status,
        released: Vec<(String, String)>,
        notes: Vec<Note>,
    ) -> Result<bool, Fault> {
        let at_generation = Some(object.meta.generation);
        let write =
            Write { status: to_map::<K>(status)?, notes, released, at_generation, ..Write::default() };
        match self.write(write).await {
            Ok(()) => Ok(true),
            Err(WriteEnd::Changed) => Ok(false),
            Err(end) => Err(unwritten(end)),
        }
    }

    pub(super) fn take_read(&self) -> Read {
        std::mem::take(&mut self.read.lock())
    }
    pub(super) fn revisions(&self) -> Vec<u64> {
        self.written.lock().revisions.clone()
    }
    /// Where the pass stands in the eyes of the store: the status that it last wrote or read.
    pub(super) fn status(&self) -> Value {
        Value::Object(self.written.lock().status.clone())
    }

    /// The request that events are put down to: the last one that somebody made about this object, if that is not long
    /// ago. What nobody asked for has none.
    fn request_id(&self, notes: &[Note]) -> Option<String> {
        if notes.iter().all(|note| note.outcome == EventOutcome::Seen) {
            return None;
        }
        let query = EventQuery { id: Some(self.id), limit: Some(RECENT), ..EventQuery::default() };
        let recent = self.core.store.events(&query).items;
        recent.into_iter().rev().filter(|e| e.actor != super::ACTOR).find_map(|e| e.request_id)
    }

    pub(super) async fn write(&self, write: Write) -> Result<(), WriteEnd> {
        let _one_at_a_time = self.writing.lock().await;
        let change = difference(&self.written.lock().status, &write.status);
        if change.is_empty() && write.notes.is_empty() && !write.delete && write.finalized.is_none() {
            return Ok(());
        }
        let (key, id) = (self.key.clone(), self.id);
        let request_id = self.request_id(&write.notes);
        let status = write.status.clone();
        let done = self
            .core
            .store
            .transact(move |tx| {
                apply(tx, &Target { key: &key, id, request_id: request_id.as_deref() }, &change, &write)
            })
            .await
            .map_err(|e| WriteEnd::Store(e.to_string()))?;
        let mut written = self.written.lock();
        match done {
            Applied::Gone => return Err(WriteEnd::Gone),
            Applied::Changed => return Err(WriteEnd::Changed),
            Applied::Same => {}
            Applied::At(revision) => written.revisions.push(revision),
        }
        written.status = status;
        Ok(())
    }
}

fn unwritten(end: WriteEnd) -> Fault {
    match end {
        WriteEnd::Gone => Fault::internal("the object is gone"),
        WriteEnd::Changed => Fault::internal("the object has changed"),
        WriteEnd::Store(detail) => Fault::new(Class::Transient, ErrorCode::StoreUnavailable, detail),
    }
}

struct Target<'a> {
    key: &'a ObjectKey,
    id: Uuid,
    request_id: Option<&'a str>,
}

enum Applied {
    Gone,
    Changed,
    Same,
    At(u64),
}

type Change = BTreeMap<String, Option<Value>>;

/// The keys of `new` that differ from `old`, and those that it lacks.
fn difference(old: &Map<String, Value>, new: &Map<String, Value>) -> Change {
    let changed =
        new.iter().filter(|(k, v)| old.get(*k) != Some(v)).map(|(k, v)| (k.clone(), Some(v.clone())));
    let gone = old.keys().filter(|k| !new.contains_key(*k)).map(|k| (k.clone(), None));
    changed.chain(gone).collect()
}

fn apply(tx: &mut dyn Tx, to: &Target, change: &Change, write: &Write) -> Result<Applied, TxError> {
    let Some(now) = tx.get(to.key).filter(|now| now.id() == to.id) else { return Ok(Applied::Gone) };
    let mut value = now.value();
    if write.at_generation.is_some_and(|wanted| value["generation"].as_u64() != Some(wanted)) {
        return Ok(Applied::Changed);
    }
    let mut update = Update::default();
    if !change.is_empty() {
        let mut status = value["status"].take().as_object().cloned().unwrap_or_default();
        for (key, value) in change {
            match value {
                Some(value) => drop(status.insert(key.clone(), value.clone())),
                None => drop(status.remove(key)),
            }
        }
        update.status = Some(Value::Object(status));
    }
    if let Some(done) = &write.finalized {
        let left = value["finalizers"].as_array().into_iter().flatten().filter_map(Value::as_str);
        update.finalizers = Some(left.filter(|f| f != done).map(ToOwned::to_owned).collect());
    }
    if write.delete && !now.deleting() {
        update.deleting = Some(true);
    }
    let after = tx.update(to.key, Expect::Id(to.id), update)?;
    for (space, claim) in &write.released {
        tx.release(space, claim, to.key);
    }
    for note in &write.notes {
        tx.record(event(to, note));
    }
    Ok(if after.revision() == now.revision() { Applied::Same } else { Applied::At(after.revision()) })
}

fn event(of: &Target, note: &Note) -> NewEvent {
    NewEvent {
        kind: of.key.kind.clone(),
        project: of.key.project.to_string(),
        name: of.key.name.to_string(),
        id: of.id,
        actor: super::ACTOR.to_owned(),
        verb: note.verb.to_owned(),
        message: note.message.clone(),
        outcome: note.outcome,
        request_id: of.request_id.filter(|_| note.outcome != EventOutcome::Seen).map(ToOwned::to_owned),
    }
}

impl Pass {
    /// Takes the object out of the store, once it has no finalizer left.
    pub(super) async fn remove(&self, note: Note) -> Result<(), WriteEnd> {
        let (key, id) = (self.key.clone(), self.id);
        let request_id = self.request_id(std::slice::from_ref(&note));
        let removed = self.core.store.transact(move |tx| {
            if tx.get(&key).is_none_or(|now| now.id() != id) {
                return Ok::<(), TxError>(());
            }
            tx.remove(&key, Expect::Id(id))?;
            tx.record(event(&Target { key: &key, id, request_id: request_id.as_deref() }, &note));
            Ok(())
        });
        removed.await.map_err(|e| WriteEnd::Store(e.to_string()))
    }
}

pub(super) fn to_map<K: Kind>(status: &K::Status) -> Result<Map<String, Value>, Fault> {
    match serde_json::to_value(status) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(other) => Err(Fault::internal(format!("a status of {} is no object: {other}", K::DEF.kind))),
        Err(error) => Err(Fault::internal(format!("a status of {} cannot be written: {error}", K::DEF.kind))),
    }
}
