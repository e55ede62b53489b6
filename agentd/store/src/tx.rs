//! What a transaction may do, and what it may be told.

use std::collections::BTreeMap;
use std::sync::Arc;

use agentd_api::event::Outcome;
use agentd_api::object::Labels;
use agentd_api::{ObjectKey, ObjectName};
use bytes::Bytes;
use serde_json::Value;
use uuid::Uuid;

use crate::query::Query;
use crate::stored::Stored;

/// An object to be made. The store gives it its id, its generation (1), its time and its revision.
#[derive(Debug, Clone)]
pub struct NewObject {
    pub key: ObjectKey,
    pub labels: Labels,
    pub annotations: BTreeMap<String, String>,
    pub finalizers: Vec<String>,
    pub spec: Value,
    /// Null is written as an empty object: every status has defaults.
    pub status: Value,
}

impl NewObject {
    pub fn new(key: ObjectKey, spec: Value) -> Self {
        let status = Value::Null;
        Self {
            key,
            labels: Labels::new(),
            annotations: BTreeMap::new(),
            finalizers: Vec::new(),
            spec,
            status,
        }
    }
}

/// What to change of an object; what is absent stays. A spec that differs counts the generation up.
#[derive(Debug, Clone, Default)]
pub struct Update {
    pub spec: Option<Value>,
    pub status: Option<Value>,
    pub labels: Option<Labels>,
    pub annotations: Option<BTreeMap<String, String>>,
    pub finalizers: Option<Vec<String>>,
    /// True sets `deleting_at` to now unless it is set already; false clears it.
    pub deleting: Option<bool>,
    /// Counts the generation up even where the spec is the same.
    pub touch_generation: bool,
}

/// What the object must still be for the change to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    Any,
    Revision(u64),
    /// Not another one that has come under the same name since.
    Id(Uuid),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TxError {
    #[error("{key} exists already")]
    AlreadyExists { key: ObjectKey },
    #[error("{key} does not exist")]
    NotFound { key: ObjectKey },
    #[error("{key} is at revision {is}, not {wanted}")]
    RevisionMismatch { key: ObjectKey, wanted: u64, is: u64 },
    #[error("{value} in {space} is taken by {owner}")]
    Taken { space: String, value: String, owner: ObjectKey },
}

/// An event as it is reported: the store gives it its number and its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    pub kind: String,
    pub project: String,
    pub name: String,
    pub id: Uuid,
    pub actor: String,
    pub verb: String,
    pub message: String,
    pub outcome: Outcome,
    pub request_id: Option<String>,
}

/// What a request with an idempotency key was answered, so that the same request is answered the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remembered {
    /// Of the request: the same key with another request is a mistake of the client's.
    pub fingerprint: String,
    pub status: u16,
    pub body: Bytes,
}

/// A transaction: sees what is committed, what earlier transactions of the same batch did and what it did itself. All
/// of it is kept or none. It runs on the store's writer thread: it must not block and must not wait for the store.
pub trait Tx {
    fn get(&self, key: &ObjectKey) -> Option<Arc<Stored>>;
    fn by_id(&self, id: Uuid) -> Option<Arc<Stored>>;
    fn list(&self, query: &Query) -> Vec<Arc<Stored>>;

    fn create(&mut self, new: NewObject) -> Result<Arc<Stored>, TxError>;
    /// A change that changes nothing is none: the revision stays and no watcher hears of it.
    fn update(&mut self, key: &ObjectKey, expect: Expect, change: Update) -> Result<Arc<Stored>, TxError>;
    /// The object under another name of its project: with its id, its time, its spec and status, and all its allocations.
    /// To watchers it goes under the one name and comes under the other, in this order.
    fn rename(&mut self, key: &ObjectKey, name: &ObjectName) -> Result<Arc<Stored>, TxError>;
    /// The object is gone, and all its allocations are free.
    fn remove(&mut self, key: &ObjectKey, expect: Expect) -> Result<(), TxError>;

    /// Takes a value for an owner, once in each space. Taking it again for the same owner changes nothing. The owner
    /// may be created later in the same transaction; an allocation without an owner at its end is not kept.
    fn allocate(&mut self, space: &str, value: &str, owner: &ObjectKey) -> Result<(), TxError>;
    fn owner_of(&self, space: &str, value: &str) -> Option<ObjectKey>;
    /// How many values of a space are taken.
    fn taken_of(&self, space: &str) -> usize;
    /// Pairs of space and value, in their order.
    fn allocations(&self, owner: &ObjectKey) -> Vec<(String, String)>;
    /// Does nothing where the value is another owner's.
    fn release(&mut self, space: &str, value: &str, owner: &ObjectKey);
    fn release_all(&mut self, owner: &ObjectKey);

    fn record(&mut self, event: NewEvent);

    /// Keeps the answer to a request for 24 hours, or until there are too many.
    fn remember(&mut self, key: &str, answer: Remembered);
    fn recall(&self, key: &str) -> Option<Remembered>;
}
