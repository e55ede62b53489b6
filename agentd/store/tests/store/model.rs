//! Random transactions, against a plain model: what the store shows is what the model shows, after each of them, and
//! after every reopening; a watch that began at the beginning has seen just what happened.

use std::collections::BTreeMap;

use agentd_api::ObjectKey;
use agentd_store::engine::memory::MemoryEngine;
use agentd_store::{Expect, NewObject, Options, Query, Store, Transact, Tx, TxError, Update};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::fixture::{KINDS, changes, labels, name};

#[derive(Debug, Clone)]
enum Step {
    /// Whether it is given up at its end.
    Transaction(Vec<Op>, bool),
    Reopen,
    Compact,
}

#[derive(Debug, Clone)]
enum Op {
    Create(ObjectKey, u8),
    Spec(ObjectKey, u8),
    Status(ObjectKey, u8),
    Label(ObjectKey, u8),
    Mark(ObjectKey),
    /// Expects the revision that the object has in the model, plus this.
    Guarded(ObjectKey, u64),
    Remove(ObjectKey),
    Take(u8, ObjectKey),
    Release(u8, ObjectKey),
}

fn keys() -> impl Strategy<Value = ObjectKey> {
    (0..KINDS.len(), 0..2usize, 0..4usize).prop_map(|(kind, project, text)| {
        ObjectKey::new(KINDS[kind], name(["default", "prod"][project]), name(["a", "b", "a-b", "c"][text]))
    })
}

fn ops() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (keys(), any::<u8>()).prop_map(|(key, n)| Op::Create(key, n)),
        2 => (keys(), 0..4u8).prop_map(|(key, n)| Op::Spec(key, n)),
        3 => (keys(), 0..4u8).prop_map(|(key, n)| Op::Status(key, n)),
        1 => (keys(), 0..3u8).prop_map(|(key, n)| Op::Label(key, n)),
        1 => keys().prop_map(Op::Mark),
        1 => (keys(), 0..2u64).prop_map(|(key, off)| Op::Guarded(key, off)),
        2 => keys().prop_map(Op::Remove),
        3 => (0..6u8, keys()).prop_map(|(value, key)| Op::Take(value, key)),
        1 => (0..6u8, keys()).prop_map(|(value, key)| Op::Release(value, key)),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => (prop::collection::vec(ops(), 1..8), prop::bool::weighted(0.2))
            .prop_map(|(ops, given_up)| Step::Transaction(ops, given_up)),
        2 => Just(Step::Reopen),
        1 => Just(Step::Compact),
    ];
    prop::collection::vec(step, 1..25)
}

#[derive(Debug, Clone, PartialEq)]
struct Thing {
    revision: u64,
    generation: u64,
    spec: Value,
    status: Value,
    labels: Value,
    deleting: bool,
}

#[derive(Debug, Clone, Default, PartialEq)]
struct Model {
    revision: u64,
    things: BTreeMap<ObjectKey, Thing>,
    taken: BTreeMap<String, ObjectKey>,
    /// The kind of change and the object's key, by revision.
    changes: Vec<(&'static str, ObjectKey)>,
}

fn spec(n: u8) -> Value {
    json!({"image": format!("image-{n}"), "networks": [{"network": format!("net-{}", n % 3)}]})
}

fn status(n: u8) -> Value {
    let state = ["pending", "running", "stopped", "failed"][usize::from(n) % 4];
    json!({"state": state})
}

impl Model {
    /// What the operation must answer: whether it succeeds.
    fn apply(&mut self, op: &Op) -> bool {
        match op {
            Op::Create(key, n) => {
                if self.things.contains_key(key) {
                    return false;
                }
                self.revision += 1;
                let thing = Thing {
                    revision: self.revision,
                    generation: 1,
                    spec: spec(*n),
                    status: status(*n),
                    labels: json!({}),
                    deleting: false,
                };
                self.things.insert(key.clone(), thing);
                self.changes.push(("added", key.clone()));
                true
            }
            Op::Spec(key, n) => self.modify(key, |thing| {
                thing.generation += u64::from(thing.spec != spec(*n));
                thing.spec = spec(*n);
            }),
            Op::Status(key, n) => self.modify(key, |thing| thing.status = status(*n)),
            Op::Label(key, n) => self.modify(key, |thing| thing.labels = json!({"n": n.to_string()})),
            Op::Mark(key) => self.modify(key, |thing| thing.deleting = true),
            Op::Guarded(key, off) => *off == 0 && self.modify(key, |thing| thing.generation += 1),
            Op::Remove(key) => {
                let known = self.things.remove(key).is_some();
                if known {
                    self.revision += 1;
                    self.changes.push(("deleted", key.clone()));
                    self.taken.retain(|_, owner| owner != key);
                }
                known
            }
            Op::Take(value, key) => {
                let owner = self.taken.entry(value.to_string()).or_insert_with(|| key.clone());
                owner == key
            }
            Op::Release(value, key) => {
                self.taken.retain(|taken, owner| *taken != value.to_string() || owner != key);
                true
            }
        }
    }

    fn modify(&mut self, key: &ObjectKey, change: impl Fn(&mut Thing)) -> bool {
        let Some(thing) = self.things.get_mut(key) else { return false };
        let was = thing.clone();
        change(thing);
        if *thing != was {
            self.revision += 1;
            thing.revision = self.revision;
            self.changes.push(("modified", key.clone()));
        }
        true
    }

    fn end_transaction(&mut self) {
        let things = &self.things;
        self.taken.retain(|_, owner| things.contains_key(owner));
    }

    fn check(&self, store: &Store) {
        let listed = KINDS.iter().flat_map(|kind| store.list(&Query::kind(*kind)).items);
        let shown: BTreeMap<_, _> =
            listed.map(|object| (object.key().clone(), thing_of(&object.value()))).collect();
        assert_eq!(shown, self.things);
        let taken = store.allocations().into_iter().map(|(_, value, owner)| (value, owner));
        assert_eq!(taken.collect::<BTreeMap<_, _>>(), self.taken);
        assert_eq!(store.revision(), self.revision);
        for state in ["pending", "running", "stopped", "failed"] {
            let by_state =
                Query { fields: vec![("state".to_owned(), true, state.to_owned())], ..Query::kind("vm") };
            let wanted =
                self.things.iter().filter(|(key, thing)| key.kind == "vm" && thing.status["state"] == state);
            let found = store.list(&by_state).items;
            let found: Vec<_> = found.iter().map(|object| object.key().clone()).collect();
            assert_eq!(found, wanted.map(|(key, _)| key.clone()).collect::<Vec<_>>());
        }
        let oldest = store.stats().oldest;
        let seen = changes(store, oldest);
        let expected = &self.changes[usize::try_from(oldest).expect("small")..];
        assert_eq!(seen.len(), expected.len());
        for (at, ((revision, what, object, before), (kind, key))) in seen.iter().zip(expected).enumerate() {
            assert_eq!((*revision, *what), (oldest + at as u64 + 1, *kind));
            let value: Value = serde_json::from_slice(object).expect("JSON");
            assert_eq!(value["name"], key.name.as_str());
            assert_eq!(before.is_none(), *kind == "added");
            if *kind != "deleted" {
                assert_eq!(value["revision"].as_u64(), Some(*revision));
            }
        }
    }
}

fn thing_of(value: &Value) -> Thing {
    Thing {
        revision: value["revision"].as_u64().expect("a number"),
        generation: value["generation"].as_u64().expect("a number"),
        spec: value["spec"].clone(),
        status: value["status"].clone(),
        labels: value["labels"].clone(),
        deleting: !value["deleting_at"].is_null(),
    }
}

/// Whether the operation succeeds in the store.
fn run(tx: &mut dyn Tx, op: &Op) -> bool {
    let mut update = |key: &ObjectKey, expect, change| tx.update(key, expect, change).is_ok();
    match op {
        Op::Create(key, n) => {
            let new = NewObject { status: status(*n), ..NewObject::new(key.clone(), spec(*n)) };
            tx.create(new).is_ok()
        }
        Op::Spec(key, n) => update(key, Expect::Any, Update { spec: Some(spec(*n)), ..Update::default() }),
        Op::Status(key, n) => {
            update(key, Expect::Any, Update { status: Some(status(*n)), ..Update::default() })
        }
        Op::Label(key, n) => {
            let labels = Some(labels(&[("n", &n.to_string())]));
            update(key, Expect::Any, Update { labels, ..Update::default() })
        }
        Op::Mark(key) => update(key, Expect::Any, Update { deleting: Some(true), ..Update::default() }),
        Op::Guarded(key, off) => {
            let is = tx.get(key).map_or(0, |object| object.revision());
            let change = Update { touch_generation: true, ..Update::default() };
            tx.update(key, Expect::Revision(is + off), change).is_ok()
        }
        Op::Remove(key) => tx.remove(key, Expect::Any).is_ok(),
        Op::Take(value, key) => tx.allocate("space", &value.to_string(), key).is_ok(),
        Op::Release(value, key) => {
            tx.release("space", &value.to_string(), key);
            true
        }
    }
}

async fn follow(open: impl Fn() -> Store, steps: Vec<Step>) {
    let mut model = Model::default();
    let mut store = open();
    for step in steps {
        match step {
            Step::Reopen => {
                store.close().await.expect("closed");
                store = open();
            }
            Step::Compact => store.compact(model.revision / 2).await.expect("compacted"),
            Step::Transaction(ops, given_up) => {
                let mut next = model.clone();
                let expected: Vec<bool> = ops.iter().map(|op| next.apply(op)).collect();
                next.end_transaction();
                let outcome = store
                    .transact(move |tx| {
                        let done: Vec<bool> = ops.iter().map(|op| run(tx, op)).collect();
                        assert_eq!(done, expected, "{ops:?}");
                        if given_up { Err(TxError::NotFound { key: ops_key() }) } else { Ok(()) }
                    })
                    .await;
                match outcome {
                    Ok(()) => model = next,
                    Err(Transact::Refused(_)) if given_up => {}
                    Err(error) => panic!("{error}"),
                }
            }
        }
        model.check(&store);
    }
    store.close().await.expect("closed");
    model.check(&open());
}

fn ops_key() -> ObjectKey {
    ObjectKey::new("thing", name("default"), name("given-up"))
}

fn block_on(future: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(future);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn the_memory_engine_follows_the_model(steps in steps()) {
        let engine = MemoryEngine::new();
        let open = || Store::with_engine(Box::new(engine.clone()), Options::default()).expect("opened");
        block_on(follow(open, steps));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn sqlite_follows_the_model(steps in steps()) {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("agentd.db");
        block_on(follow(|| Store::open(&file, Options::default()).expect("opened"), steps));
    }
}
