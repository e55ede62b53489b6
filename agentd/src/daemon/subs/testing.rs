//! A VM on the fake driver, and its subresources opened as a caller does.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use agentd_api::frame::Frame;
use agentd_api::vm::{Accel, Vm};
use agentd_api::{ByteSize, Kind, ObjectKey, ObjectName, Problem};
use agentd_drivers::Instance;
use agentd_drivers::console::Watches;
use agentd_drivers::vm::{DomainSpec, VmDriver};
use agentd_store::{Expect, NewObject, Options, Store};
use futures_util::StreamExt;
use serde_json::json;
use tokio::io::{ReadHalf, WriteHalf};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Subs;
use super::frames::{FrameSink, FrameSource, frames};
use crate::http::{Channel, SubCall, SubReply, Subresources};
use crate::intent::{Caller, HostFacts, Intents, Principal, Wake};
use crate::reconcile::Held;
use crate::sim::Fakes;

/// No test waits longer than this for anything.
pub const LIMIT: Duration = Duration::from_secs(20);

pub struct Bed {
    pub folder: tempfile::TempDir,
    pub store: Store,
    pub fakes: Fakes,
    pub subs: Subs,
    pub id: Uuid,
    pub stop: CancellationToken,
}

/// Knows of no host and wakes nobody.
struct Nothing;

#[async_trait::async_trait]
impl HostFacts for Nothing {
    fn memory(&self) -> ByteSize {
        ByteSize::gib(4)
    }
    fn processors(&self) -> agentd_api::vm::CpuSet {
        "0".parse().expect("a set")
    }
    fn huge_pages(&self) -> Option<ByteSize> {
        None
    }
    fn accel(&self) -> Option<Accel> {
        None
    }
    fn boot_id(&self) -> &str {
        "boot-1"
    }
    async fn taken(&self) -> Result<Vec<agentd_api::Cidr>, String> {
        Ok(Vec::new())
    }
}

impl Wake for Nothing {
    fn wake(&self, _: ObjectKey) {}
    fn wake_after(&self, _: ObjectKey, _: Duration) {}
}

/// The caller's end of a stream.
pub struct Stream {
    from: FrameSource<ReadHalf<Channel>>,
    pub to: FrameSink<WriteHalf<Channel>>,
}

impl Bed {
    /// The VM `web`, defined, started where `running`, with that in its console's log.
    pub async fn new(graphics: bool, running: bool, said: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(&folder.path().join("store.db"), Options::default()).expect("a store");
        let fakes = Fakes::new(&Instance::new(folder.path()));
        let log = folder.path().join("console.log");
        std::fs::write(&log, said).expect("a log");
        let name: ObjectName = "web".parse().expect("a name");
        let key = ObjectKey::of::<Vm>("default".parse().expect("a name"), name.clone());
        let mut new = NewObject::new(
            key.clone(),
            json!({"image": "micro", "cpus": 1, "memory": "64MiB", "networks": [], "desired": "running",
                   "restart": "never", "grace": "30s"}),
        );
        new.status = json!({"state": "running", "console_log": log});
        let made = store.transact(move |tx| tx.create(new.clone()).map(|_| ())).await;
        made.expect("created");
        let id = store.get(&key).expect("it is there").id();
        let spec = DomainSpec {
            id,
            project: key.project,
            name,
            cpus: 1,
            cpus_max: 1,
            memory: ByteSize::mib(64),
            memory_max: ByteSize::mib(64),
            disk: "/d".into(),
            boot: None,
            seed: None,
            disks: Vec::new(),
            cdrom: None,
            nics: Vec::new(),
            console_log: log,
            agent: None,
            accel: Accel::Tcg,
            hardware: Default::default(),
            tuning: Default::default(),
            graphics,
        };
        fakes.vm.ensure_defined(&spec).await.expect("defined");
        if running {
            fakes.vm.start(id).await.expect("started");
        }
        let intents = Intents::new(store.clone(), Arc::new(Nothing), Arc::new(Nothing));
        let with = (&intents, &Held::default());
        let subs = Subs::new(&store, &fakes.drivers(), &Arc::new(Watches::begin()), with);
        Self { folder, store, fakes, subs, id, stop: CancellationToken::new() }
    }

    pub fn log(&self) -> PathBuf {
        self.folder.path().join("console.log")
    }

    pub async fn open(&self, sub: &str, params: &[(&'static str, &str)]) -> Result<SubReply, Problem> {
        let principal = Principal::local(7, 7);
        let params: BTreeMap<_, _> =
            params.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        self.subs
            .open(SubCall {
                caller: Caller {
                    principal,
                    request_id: "r".to_owned(),
                    dry_run: false,
                    idempotency_key: None,
                    cascade: false,
                },
                object: self.store.by_id(self.id).expect("the VM is there"),
                sub: Vm::DEF.sub(sub).expect("declared"),
                params,
                body: futures_util::stream::empty().boxed(),
                length: None,
                stop: self.stop.clone(),
            })
            .await
    }

    pub async fn stream(&self, sub: &str, params: &[(&'static str, &str)]) -> Stream {
        let Ok(SubReply::Session(session)) = self.open(sub, params).await else {
            panic!("{sub} is no stream")
        };
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        tokio::spawn(session(Box::new(theirs)));
        let (from, to) = frames(Box::new(ours));
        Stream { from, to }
    }

    /// Why it is not opened.
    pub async fn refusal(&self, sub: &str, params: &[(&'static str, &str)]) -> Problem {
        match self.open(sub, params).await {
            Ok(_) => panic!("{sub} was opened"),
            Err(problem) => problem,
        }
    }

    pub async fn remove_vm(&self) {
        let key = self.store.by_id(self.id).expect("the VM is there").key().clone();
        self.store.transact(move |tx| tx.remove(&key, Expect::Any)).await.expect("removed");
    }
}

impl Stream {
    pub fn new(from: FrameSource<ReadHalf<Channel>>, to: FrameSink<WriteHalf<Channel>>) -> Self {
        Self { from, to }
    }

    pub async fn next(&mut self) -> Option<Frame> {
        let next = tokio::time::timeout(LIMIT, self.from.next()).await;
        next.expect("a frame in time").expect("a stream in order")
    }

    /// What the guest says until it has said that; with what is noted meanwhile.
    pub async fn until(&mut self, wanted: &str) -> String {
        let mut said = String::new();
        while !said.contains(wanted) {
            match self.next().await {
                Some(Frame::Out(bytes)) => said.push_str(&String::from_utf8_lossy(&bytes)),
                Some(Frame::Note(_)) => {}
                other => panic!("{wanted:?} was not said but {said:?}, then {other:?}"),
            }
        }
        said
    }

    /// The next note.
    pub async fn note(&mut self) -> String {
        loop {
            match self.next().await {
                Some(Frame::Note(note)) => return note,
                Some(Frame::Out(_)) => {}
                other => panic!("no note but {other:?}"),
            }
        }
    }

    pub async fn types(&mut self, text: &str) {
        self.to.send(&Frame::In(text.as_bytes().to_vec())).await.expect("typed");
    }
}
