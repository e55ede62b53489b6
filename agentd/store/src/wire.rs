//! Writes the JSON of objects. A change takes over the text of all that it does not touch, without parsing it.

use agentd_api::{ObjectName, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};
use uuid::Uuid;

use crate::json::ObjectJson;
use crate::stored::Stored;
use crate::tx::{NewObject, Update};

/// An object on the wire, in the order of its parts. `kind` stands first: [`crate::scan`] relies on it.
#[derive(Serialize)]
struct Wire<'a> {
    kind: &'a str,
    project: &'a ObjectName,
    name: &'a ObjectName,
    id: Uuid,
    revision: u64,
    generation: u64,
    labels: &'a RawValue,
    annotations: &'a RawValue,
    created_at: Timestamp,
    deleting_at: Option<Timestamp>,
    finalizers: &'a RawValue,
    spec: &'a RawValue,
    status: &'a RawValue,
}

/// The parts of an object that a change can replace, as text.
#[derive(Deserialize)]
struct Parts<'a> {
    #[serde(borrow)]
    labels: &'a RawValue,
    #[serde(borrow)]
    annotations: &'a RawValue,
    #[serde(borrow)]
    finalizers: &'a RawValue,
    #[serde(borrow)]
    spec: &'a RawValue,
    #[serde(borrow)]
    status: &'a RawValue,
}

impl Wire<'_> {
    fn json(&self) -> ObjectJson {
        ObjectJson::new(serde_json::to_vec(self).expect("an object's parts are JSON"))
    }
}

fn raw(value: &impl Serialize) -> Box<RawValue> {
    to_raw_value(value).expect("maps with text keys, lists and JSON values are JSON")
}

pub(crate) fn created(new: &NewObject, id: Uuid, revision: u64) -> ObjectJson {
    let empty = Value::Object(serde_json::Map::new());
    let status = if new.status.is_null() { &empty } else { &new.status };
    Wire {
        kind: &new.key.kind,
        project: &new.key.project,
        name: &new.key.name,
        id,
        revision,
        generation: 1,
        labels: &raw(&new.labels),
        annotations: &raw(&new.annotations),
        created_at: Timestamp::now(),
        deleting_at: None,
        finalizers: &raw(&new.finalizers),
        spec: &raw(&new.spec),
        status: &raw(status),
    }
    .json()
}

/// The object after the change, or nothing where the change changes nothing.
pub(crate) fn updated(was: &Stored, change: &Update, revision: u64) -> Option<ObjectJson> {
    let old: Parts<'_> = serde_json::from_slice(was.kept_json()).expect("the store wrote it");
    let labels = change.labels.as_ref().and_then(|new| replaced(old.labels, new));
    let annotations = change.annotations.as_ref().and_then(|new| replaced(old.annotations, new));
    let finalizers = change.finalizers.as_ref().and_then(|new| replaced(old.finalizers, new));
    let spec = change.spec.as_ref().and_then(|new| replaced(old.spec, new));
    let status = change.status.as_ref().and_then(|new| replaced(old.status, new));
    let deleting_at = match change.deleting {
        Some(true) => was.deleting_at().or_else(|| Some(Timestamp::now())),
        Some(false) => None,
        None => was.deleting_at(),
    };
    let counts = spec.is_some() || change.touch_generation;
    let others = [&labels, &annotations, &finalizers, &status].into_iter().any(Option::is_some);
    if !counts && !others && deleting_at == was.deleting_at() {
        return None;
    }
    let wire = Wire {
        kind: was.kind(),
        project: was.project(),
        name: was.name(),
        id: was.id(),
        revision,
        generation: was.generation() + u64::from(counts),
        labels: labels.as_deref().unwrap_or(old.labels),
        annotations: annotations.as_deref().unwrap_or(old.annotations),
        created_at: was.created_at(),
        deleting_at,
        finalizers: finalizers.as_deref().unwrap_or(old.finalizers),
        spec: spec.as_deref().unwrap_or(old.spec),
        status: status.as_deref().unwrap_or(old.status),
    };
    Some(wire.json())
}

/// The object under another name, and all else as it was.
pub(crate) fn renamed(was: &Stored, name: &ObjectName, revision: u64) -> ObjectJson {
    let old: Parts<'_> = serde_json::from_slice(was.kept_json()).expect("the store wrote it");
    Wire {
        kind: was.kind(),
        project: was.project(),
        name,
        id: was.id(),
        revision,
        generation: was.generation(),
        labels: old.labels,
        annotations: old.annotations,
        created_at: was.created_at(),
        deleting_at: was.deleting_at(),
        finalizers: old.finalizers,
        spec: old.spec,
        status: old.status,
    }
    .json()
}

/// The new text, or nothing where it means the same as the old.
fn replaced(old: &RawValue, new: &impl Serialize) -> Option<Box<RawValue>> {
    let new = raw(new);
    if new.get() == old.get() {
        return None;
    }
    // The same value can only differ in the order of its keys, and then not in its length.
    if new.get().len() == old.get().len() {
        let parse = |text: &RawValue| serde_json::from_str::<Value>(text.get()).ok();
        if parse(&new) == parse(old) {
            return None;
        }
    }
    Some(new)
}
