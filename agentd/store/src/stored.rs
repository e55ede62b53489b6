//! One object as it is kept in memory: its JSON, and beside it only what lists, selectors and revisions need.
//!
//! A snapshot never changes: a write makes a new one. What many objects share (label keys and values, field values)
//! is interned, and no parsed form of the spec or status is kept: fifty thousand objects must cost less than three
//! times their JSON.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use agentd_api::{Kind, Object, ObjectKey, ObjectName, Timestamp, registry};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::Value;
use uuid::Uuid;

use crate::error::DecodeError;
use crate::json::ObjectJson;
use crate::scan::{self, Head};

/// The field that every kind has without declaring it. It has no index: names are what tables are ordered by.
pub(crate) const NAME_FIELD: &str = "name";

/// An immutable snapshot of one object.
pub struct Stored {
    /// Shared by all snapshots of the object and by its allocations.
    key: Arc<ObjectKey>,
    id: Uuid,
    /// The revision that made it: what the engines know it by.
    born: u64,
    revision: u64,
    generation: u64,
    created_at: Timestamp,
    deleting_at: Option<Timestamp>,
    json: ObjectJson,
    labels: Box<[(Arc<str>, Arc<str>)]>,
    /// By the position of the field in the kind's declaration.
    fields: Box<[(u8, Arc<str>)]>,
}

impl Stored {
    /// Reads what is needed out of an object's JSON. `key` is what it is expected to be, where that is known.
    pub(crate) fn parse(
        born: u64,
        key: Option<Arc<ObjectKey>>,
        json: ObjectJson,
        interner: &mut Interner,
    ) -> Result<Self, String> {
        let head = scan::head(&json)?;
        let key = match key {
            Some(key)
                if key.kind == head.kind
                    && key.project.as_str() == head.project
                    && key.name.as_str() == head.name =>
            {
                key
            }
            Some(key) => return Err(format!("the row of {key} holds another object")),
            None => Arc::new(key_of(&head)?),
        };
        let labels = head.labels.iter().map(|(k, v)| (interner.get(k), interner.get(v))).collect();
        let fields = head.fields.iter().map(|(at, value)| (*at, interner.get(value))).collect();
        let Head { id, revision, generation, created_at, deleting_at, .. } = head;
        Ok(Self { key, id, born, revision, generation, created_at, deleting_at, json, labels, fields })
    }

    pub fn key(&self) -> &ObjectKey {
        &self.key
    }
    pub fn kind(&self) -> &str {
        &self.key.kind
    }
    pub fn project(&self) -> &ObjectName {
        &self.key.project
    }
    pub fn name(&self) -> &ObjectName {
        &self.key.name
    }
    pub fn id(&self) -> Uuid {
        self.id
    }
    /// The store's revision at the last change of this object.
    pub fn revision(&self) -> u64 {
        self.revision
    }
    pub fn generation(&self) -> u64 {
        self.generation
    }
    pub fn created_at(&self) -> Timestamp {
        self.created_at
    }
    pub fn deleting_at(&self) -> Option<Timestamp> {
        self.deleting_at
    }
    pub fn deleting(&self) -> bool {
        self.deleting_at.is_some()
    }
    /// The whole object as on the wire.
    pub fn json(&self) -> Bytes {
        self.json.bytes()
    }
    /// The same with a comma behind it, as it stands in a list before others.
    pub fn json_and_comma(&self) -> &[u8] {
        self.json.with_comma()
    }
    pub(crate) fn kept_json(&self) -> &ObjectJson {
        &self.json
    }
    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels.iter().find(|(k, _)| **k == *key).map(|(_, v)| &**v)
    }
    pub fn labels(&self) -> impl Iterator<Item = (&str, &str)> {
        self.labels.iter().map(|(k, v)| (&**k, &**v))
    }
    /// The values of a field that the kind declares, or of `name`, which every object has; none for any other.
    pub fn field<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        let at = registry::by_kind(&self.key.kind).and_then(|def| def.field(name)).map(|(at, _)| at);
        let own = (name == NAME_FIELD).then(|| self.key.name.as_str());
        let declared =
            self.fields.iter().filter(move |(of, _)| Some(usize::from(*of)) == at).map(|(_, value)| &**value);
        own.into_iter().chain(declared)
    }

    /// The object with the types of its kind.
    pub fn object<K: Kind>(&self) -> Result<Object<K>, DecodeError> {
        let wrong = |detail: String| DecodeError { key: ObjectKey::clone(&self.key), detail };
        if self.key.kind != K::DEF.kind {
            return Err(wrong(format!("it is not of kind {}", K::DEF.kind)));
        }
        serde_json::from_slice(&self.json).map_err(|e| wrong(e.to_string()))
    }

    /// A part of the object: what `T` does not name is skipped, which costs a fraction of reading it all.
    pub fn part<T: DeserializeOwned>(&self) -> Result<T, DecodeError> {
        let wrong =
            |e: serde_json::Error| DecodeError { key: ObjectKey::clone(&self.key), detail: e.to_string() };
        serde_json::from_slice(&self.json).map_err(wrong)
    }

    pub fn value(&self) -> Value {
        serde_json::from_slice(&self.json).expect("it was parsed when it was made")
    }

    pub(crate) fn shared_key(&self) -> &Arc<ObjectKey> {
        &self.key
    }
    pub(crate) fn born(&self) -> u64 {
        self.born
    }
    pub(crate) fn interned_labels(&self) -> &[(Arc<str>, Arc<str>)] {
        &self.labels
    }
    pub(crate) fn interned_fields(&self) -> &[(u8, Arc<str>)] {
        &self.fields
    }
}

fn key_of(head: &Head<'_>) -> Result<ObjectKey, String> {
    let name = |text: &str| ObjectName::parse(text).map_err(|e| format!("the name '{text}' {e}"));
    Ok(ObjectKey::new(head.kind.clone(), name(&head.project)?, name(&head.name)?))
}

impl fmt::Debug for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.key, self.revision)
    }
}

/// The same snapshot: same id, same revision. (Revisions are never used twice.)
impl PartialEq for Stored {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id && self.revision == other.revision
    }
}

impl Eq for Stored {}

/// One copy of each text that many objects share.
#[derive(Default)]
pub(crate) struct Interner {
    texts: HashSet<Arc<str>>,
    /// Texts that nobody uses any more are dropped when there are this many.
    sweep_at: usize,
}

impl Interner {
    pub(crate) fn get(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.texts.get(text) {
            return known.clone();
        }
        if self.texts.len() >= self.sweep_at.max(1024) {
            self.texts.retain(|known| Arc::strong_count(known) > 1);
            self.sweep_at = self.texts.len() * 2;
        }
        let new: Arc<str> = text.into();
        self.texts.insert(new.clone());
        new
    }
}
