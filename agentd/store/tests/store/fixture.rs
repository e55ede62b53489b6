//! Names, objects and everything that can be seen of a store, for comparing.

use agentd_api::event::{Event, Outcome};
use agentd_api::{LabelKey, LabelValue, ObjectKey, ObjectName};
use agentd_store::{EventQuery, Expect, NewEvent, NewObject, Options, Query, Store, Tx, TxError, Update};
use bytes::Bytes;
use serde_json::{Value, json};
use uuid::Uuid;

pub type Open<'a> = &'a (dyn Fn(Options) -> Store + Sync);

pub fn name(text: &str) -> ObjectName {
    ObjectName::parse(text).expect("a valid name")
}

pub fn key(kind: &str, text: &str) -> ObjectKey {
    ObjectKey::new(kind, name("default"), name(text))
}

pub fn vm(text: &str) -> ObjectKey {
    key("vm", text)
}

/// A VM as the daemon would write it.
pub fn new_vm(text: &str) -> NewObject {
    let spec = json!({"image": "micro", "cpus": 1, "memory": "512MiB", "networks": [{"network": "default"}]});
    NewObject { status: json!({"state": "pending"}), ..NewObject::new(vm(text), spec) }
}

pub fn labels(pairs: &[(&str, &str)]) -> std::collections::BTreeMap<LabelKey, LabelValue> {
    let parse = |(k, v): &(&str, &str)| {
        (LabelKey::parse(k).expect("a label's key"), LabelValue::parse(v).expect("a label's value"))
    };
    pairs.iter().map(parse).collect()
}

pub fn event(of: &str, verb: &str) -> NewEvent {
    NewEvent {
        kind: "vm".to_owned(),
        project: "default".to_owned(),
        name: of.to_owned(),
        id: Uuid::nil(),
        actor: "uid:0".to_owned(),
        verb: verb.to_owned(),
        message: "as asked".to_owned(),
        outcome: Outcome::Done,
        request_id: Some(format!("request-{of}")),
    }
}

/// Runs a transaction that must succeed.
pub async fn done<T: Send + 'static>(
    store: &Store,
    closure: impl FnMut(&mut dyn Tx) -> Result<T, TxError> + Send + 'static,
) -> T {
    store.transact(closure).await.expect("the transaction succeeds")
}

pub async fn create(store: &Store, text: &str) -> std::sync::Arc<agentd_store::Stored> {
    let new = new_vm(text);
    done(store, move |tx| tx.create(new.clone())).await
}

pub async fn set_status(store: &Store, text: &str, status: Value) -> std::sync::Arc<agentd_store::Stored> {
    let key = vm(text);
    let change = Update { status: Some(status), ..Update::default() };
    done(store, move |tx| tx.update(&key, Expect::Any, change.clone())).await
}

pub async fn remove(store: &Store, text: &str) {
    let key = vm(text);
    done(store, move |tx| tx.remove(&key, Expect::Any)).await;
}

pub fn names(listed: &[std::sync::Arc<agentd_store::Stored>]) -> Vec<&str> {
    listed.iter().map(|object| object.name().as_str()).collect()
}

/// A change: its revision, what it was, the object's JSON after it and before it.
pub type Seen = (u64, &'static str, Bytes, Option<Bytes>);

/// Everything of a store that can be asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Dump {
    pub revision: u64,
    pub objects: Vec<Bytes>,
    pub allocations: Vec<(String, String, ObjectKey)>,
    pub events: Vec<Event>,
    pub changes: Vec<Seen>,
}

pub const KINDS: [&str; 3] = ["network", "thing", "vm"];

pub fn dump(store: &Store) -> Dump {
    let listed = KINDS.iter().flat_map(|kind| store.list(&Query::kind(*kind)).items);
    Dump {
        revision: store.revision(),
        objects: listed.map(|object| object.json().clone()).collect(),
        allocations: store.allocations(),
        events: store.events(&EventQuery::default()).items,
        changes: changes(store, store.stats().oldest),
    }
}

/// What a watch gives that is there already.
pub fn changes(store: &Store, since: u64) -> Vec<Seen> {
    let mut watch = store.watch(Some(since)).expect("a revision that is kept");
    let mut seen = Vec::new();
    while let Some(change) = watch.try_next() {
        let change = change.expect("nothing is compacted meanwhile");
        let before = change.before.as_ref().map(|before| before.json().clone());
        seen.push((change.revision, change.what.as_str(), change.object.json().clone(), before));
    }
    seen
}
