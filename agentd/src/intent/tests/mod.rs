//! Intents against a real store in a folder of its own. No driver is near.

mod adopt;
mod allocations;
mod clones;
mod containers;
mod listeners;
mod objects;
mod policies;
mod refusals;
mod requests;
mod snapshots;
mod vm_actions;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use agentd_api::container::ImageRef;
use agentd_api::vm::{Accel, CpuSet, FirmwareThere};
use agentd_api::{ByteSize, Cidr, ErrorCode, ObjectKey, ObjectName, PortMap, Problem, registry};
use agentd_drivers::container::{self as driver, ForeignDef};
use agentd_drivers::network::Listener;
use agentd_store::{Options, Store, Update};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::{Caller, EngineImage, Foreign, HostFacts, Intents, Principal, Reply, Wake};

/// A host of 4 GiB that has 192.168.1.0/24.
struct SmallHost {
    stranger: Arc<Mutex<ForeignDef>>,
    ports: Arc<Ports>,
}

/// Who listens on it, and after which ports it was asked.
struct Ports {
    answer: Mutex<Result<Vec<Listener>, String>>,
    asked: Mutex<Vec<String>>,
}

impl SmallHost {
    fn new() -> Self {
        let mut db = ForeignDef::plain("db", "tool:1", &["serve", "--all"]);
        db.seen.engine_id = "ab12".repeat(16);
        let ports = Ports { answer: Mutex::new(Ok(Vec::new())), asked: Mutex::default() };
        Self { stranger: Arc::new(Mutex::new(db)), ports: Arc::new(ports) }
    }
}

#[async_trait::async_trait]
impl HostFacts for SmallHost {
    fn memory(&self) -> ByteSize {
        ByteSize::gib(4)
    }
    fn processors(&self) -> CpuSet {
        "0-3".parse().expect("a set")
    }
    fn huge_pages(&self) -> Option<ByteSize> {
        Some(ByteSize::mib(256))
    }
    fn accel(&self) -> Option<Accel> {
        Some(Accel::Tcg)
    }
    fn firmware(&self) -> FirmwareThere {
        FirmwareThere { uefi_secure: true, ..FirmwareThere::default() }
    }
    fn boot_id(&self) -> &str {
        "boot-1"
    }
    fn bind_mounts(&self) -> Vec<std::path::PathBuf> {
        vec!["/srv/data".into()]
    }
    /// It has `tool` alone, and does not say of what is called `unsaid`.
    async fn engine_image(&self, image: &ImageRef) -> EngineImage {
        match image.as_str() {
            "tool" | "tool:1" => EngineImage::There,
            "unsaid" => EngineImage::Unknown("the engine is away".to_owned()),
            _ => EngineImage::NotThere,
        }
    }
    /// It has one that somebody else made, `db`, and does not say of what is called `unsaid`.
    async fn foreign(&self, name: &str) -> Foreign {
        let def = self.stranger.lock().clone();
        match name {
            "unsaid" => Foreign::Unknown("the engine is away".to_owned()),
            _ if name == def.seen.name || name == def.seen.engine_id => {
                let bound = |mount: &driver::Mount| match &mount.source {
                    driver::MountSource::Bind(path) if !path.starts_with("/srv/data") => Some(path.clone()),
                    _ => None,
                };
                let outside = def.mounts.iter().filter_map(bound).collect();
                Foreign::There { def: Box::new(def), outside }
            }
            _ => Foreign::NotThere,
        }
    }
    async fn taken(&self) -> Result<Vec<Cidr>, String> {
        Ok(vec!["192.168.1.0/24".parse().expect("a network")])
    }
    async fn listeners(&self, ports: &[PortMap]) -> Result<Vec<Listener>, String> {
        self.ports.asked.lock().extend(ports.iter().map(ToString::to_string));
        self.ports.answer.lock().clone()
    }
}

#[derive(Default)]
struct Woken(Mutex<Vec<(String, Option<Duration>)>>);

impl Wake for Woken {
    fn wake(&self, key: ObjectKey) {
        self.0.lock().push((key.to_string(), None));
    }
    fn wake_after(&self, key: ObjectKey, delay: Duration) {
        self.0.lock().push((key.to_string(), Some(delay)));
    }
}

struct World {
    intents: Intents,
    store: Store,
    woken: Arc<Woken>,
    stranger: Arc<Mutex<ForeignDef>>,
    ports: Arc<Ports>,
    _dir: tempfile::TempDir,
}

fn open(dir: &Path) -> Store {
    Store::open(&dir.join("agentd.db"), Options::default()).expect("a store")
}

fn caller() -> Caller {
    let principal = Principal::local(1000, 1000);
    Caller {
        principal,
        request_id: "req-1".to_owned(),
        dry_run: false,
        cascade: false,
        idempotency_key: None,
    }
}

fn dry() -> Caller {
    Caller { dry_run: true, ..caller() }
}

fn name(text: &str) -> ObjectName {
    ObjectName::parse(text).expect("a name")
}

fn key(kind: &str, of: &str) -> ObjectKey {
    ObjectKey::new(kind, name("default"), name(of))
}

fn body(reply: &Reply) -> Value {
    serde_json::from_slice(&reply.json).expect("JSON")
}

fn fields(problem: &Problem) -> Vec<&str> {
    problem.errors.iter().map(|e| e.field.as_str()).collect()
}

impl World {
    /// A store with the network `default` (10.77.0.0/24) and the image `micro`.
    async fn new() -> Self {
        let world = Self::empty();
        world.make("network", json!({"name": "default", "spec": {"cidr": "10.77.0.0/24"}})).await;
        world.make("image", json!({"name": "micro", "spec": {"source": {"recipe": "micro"}}})).await;
        world
    }
    fn empty() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let store = open(dir.path());
        let woken = Arc::new(Woken::default());
        let host = SmallHost::new();
        let (stranger, ports) = (host.stranger.clone(), host.ports.clone());
        let intents = Intents::new(store.clone(), Arc::new(host), woken.clone());
        Self { intents, store, woken, stranger, ports, _dir: dir }
    }
    async fn create(&self, kind: &str, draft: Value) -> Result<Reply, Problem> {
        self.create_as(&caller(), kind, draft).await
    }
    async fn create_as(&self, caller: &Caller, kind: &str, draft: Value) -> Result<Reply, Problem> {
        let def = registry::by_kind(kind).expect("a kind");
        self.intents.create(caller, def, &name("default"), draft).await
    }
    async fn make(&self, kind: &str, draft: Value) -> Value {
        let reply = self.create(kind, draft).await.expect("created");
        assert_eq!(reply.status, 201);
        body(&reply)
    }
    /// A VM of the image `micro` with these further fields of its spec.
    async fn vm(&self, of: &str, more: Value) -> Result<Reply, Problem> {
        self.create("vm", json!({"name": of, "spec": vm_spec(more)})).await
    }
    /// A container of the engine's image `tool` with these further fields of its spec.
    async fn container(&self, of: &str, more: Value) -> Result<Reply, Problem> {
        let mut spec = json!({"image": "tool"});
        for (field, value) in more.as_object().expect("an object") {
            spec[field] = value.clone();
        }
        self.create("container", json!({"name": of, "spec": spec})).await
    }
    async fn patch(&self, at: &ObjectKey, patch: Value) -> Result<Reply, Problem> {
        self.intents.patch(&caller(), at, patch, None).await
    }
    async fn act(&self, at: &ObjectKey, action: &str) -> Result<Reply, Problem> {
        self.intents.act(&caller(), at, action, Value::Null).await
    }
    async fn delete(&self, at: &ObjectKey) -> Result<Reply, Problem> {
        self.intents.delete(&caller(), at, None).await
    }
    fn get(&self, at: &ObjectKey) -> Value {
        self.store.get(at).expect("the object is there").value()
    }
    /// What a reconciler would do: writes a status over the object's own.
    async fn set_status(&self, at: &ObjectKey, change: Value) {
        let at = at.clone();
        let done = self.store.transact(move |tx| {
            let mut status = tx.get(&at).expect("there").value()["status"].clone();
            for (field, value) in change.as_object().expect("an object") {
                status[field] = value.clone();
            }
            let update = Update { status: Some(status), ..Update::default() };
            tx.update(&at, agentd_store::Expect::Any, update).map(|_| ())
        });
        done.await.expect("written");
    }
    /// Nothing of a refused wish may be left behind: neither object nor revision.
    async fn refused(&self, kind: &str, draft: Value) -> Problem {
        let before = self.store.revision();
        let problem = self.create(kind, draft.clone()).await.expect_err("refused");
        assert_eq!(self.store.revision(), before, "nothing is left of {draft}");
        problem
    }
    async fn refused_vm(&self, more: Value) -> Problem {
        self.refused("vm", json!({"name": "bad", "spec": vm_spec(more)})).await
    }
}

fn vm_spec(more: Value) -> Value {
    let mut spec = json!({"image": "micro"});
    for (field, value) in more.as_object().expect("an object") {
        spec[field] = value.clone();
    }
    spec
}

fn code(problem: &Problem) -> ErrorCode {
    problem.code
}
