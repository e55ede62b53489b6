//! A host of fakes under a real store, and a daemon on it that can be killed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use agentd_api::{Kind, Object, ObjectKey, ObjectName, State};
use agentd_drivers::archive::fake::FakeArchive;
use agentd_drivers::container::fake::FakeContainers;
use agentd_drivers::image::container::fake::FakeContainerImages;
use agentd_drivers::image::fake::FakeImage;
use agentd_drivers::network::fake::FakeNetwork;
use agentd_drivers::vm::fake::FakeVm;
use agentd_drivers::volume::fake::FakeVolume;
use agentd_drivers::volume::pool::fake::FakePool;
use agentd_drivers::{Drivers, Instance};
use agentd_store::{Expect, NewObject, Options, Store, Stored, TxError, Update, WatchKind};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Runtime, Trigger};

/// How long anything may take here. Nothing does; a test that waits for what does not come ends by this.
const LIMIT: Duration = Duration::from_secs(20);
pub const BOOT: &str = "boot-1";

pub struct Host {
    pub store: Store,
    pub vm: FakeVm,
    pub container: FakeContainers,
    pub image: Arc<FakeImage>,
    pub container_image: Arc<FakeContainerImages>,
    pub volume: Arc<FakeVolume>,
    pub pool: Arc<FakePool>,
    pub archive: Arc<FakeArchive>,
    pub network: Arc<FakeNetwork>,
    pub instance: Instance,
    _dir: tempfile::TempDir,
}

impl Host {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let store = Store::open(&dir.path().join("store.db"), Options::default()).expect("a store");
        let instance = Instance::new(dir.path());
        let image = FakeImage::new(instance.clone());
        let volume = FakeVolume::new(instance.clone(), image.clone());
        let pool = FakePool::new(instance.clone(), image.clone());
        let archive = FakeArchive::new(image.clone(), volume.clone());
        let network = FakeNetwork::new(instance.clone());
        Self {
            store,
            vm: FakeVm::new(),
            container: FakeContainers::new(),
            container_image: FakeContainerImages::new(image.clone()),
            image,
            volume,
            pool,
            archive,
            network,
            instance,
            _dir: dir,
        }
    }

    pub fn drivers(&self) -> Drivers {
        Drivers {
            vm: Arc::new(self.vm.clone()),
            container: Arc::new(self.container.clone()),
            image: self.image.clone(),
            container_image: self.container_image.clone(),
            volume: self.volume.clone(),
            pool: self.pool.clone(),
            archive: self.archive.clone(),
            network: self.network.clone(),
            registries: agentd_drivers::image::container::credentials::Registries::default(),
        }
    }

    pub fn start(&self) -> Daemon {
        self.start_with(self.drivers(), BOOT)
    }

    /// A daemon on threads of its own, so that killing it leaves no task of it behind.
    pub fn start_with(&self, drivers: Drivers, boot: &str) -> Daemon {
        let threads = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let (cancel, tracker) = (CancellationToken::new(), TaskTracker::new());
        let runtime = Runtime {
            head_start: Duration::ZERO,
            store: self.store.clone(),
            drivers,
            instance: self.instance.clone(),
            boot_id: boot.to_owned(),
            bind_mounts: Vec::new(),
            held: Default::default(),
            cancel: cancel.clone(),
            tracker: tracker.clone(),
        };
        let inside = threads.enter();
        let (trigger, _) = super::start(runtime);
        drop(inside);
        Daemon { threads: Some(threads), cancel, tracker, trigger }
    }

    /// Writes an object down as the intents do.
    pub async fn create(
        &self,
        key: &ObjectKey,
        finalizers: &[&str],
        spec: Value,
        status: Value,
    ) -> Arc<Stored> {
        let new = NewObject {
            key: key.clone(),
            labels: BTreeMap::default(),
            annotations: BTreeMap::default(),
            finalizers: finalizers.iter().map(|f| (*f).to_owned()).collect(),
            spec,
            status,
        };
        self.store.transact(move |tx| tx.create(new.clone())).await.expect("created")
    }

    pub async fn network(&self, name: &str, cidr: &str) -> Arc<Stored> {
        self.create(&key("network", name), &["bridge"], json!({"cidr": cidr, "nat": true}), Value::Null).await
    }

    pub async fn image(&self, name: &str) -> Arc<Stored> {
        self.create(&key("image", name), &["content"], json!({"source": {"recipe": "micro"}}), Value::Null)
            .await
    }

    /// A VM of the image `micro` on the network `default`, with `more` on top of its spec.
    pub async fn vm(&self, name: &str, last: u8, more: Value) -> Arc<Stored> {
        let mut spec = json!({"image": "micro", "networks": [{"network": "default"}], "grace": "30s"});
        if let (Some(spec), Some(more)) = (spec.as_object_mut(), more.as_object()) {
            spec.extend(more.clone());
        }
        let spec: agentd_api::vm::VmSpec = serde_json::from_value(spec).expect("a spec");
        let mac = format!("52:54:00:00:00:{last:02x}");
        let addresses = json!([{"network": "default", "ip": format!("10.77.0.{last}"), "mac": mac}]);
        let addresses = if spec.networks.is_empty() { json!([]) } else { addresses };
        let spec = serde_json::to_value(spec).expect("json");
        let status = json!({"state": "pending", "addresses": addresses});
        self.create(&key("vm", name), &["domain", "network", "volume"], spec, status).await
    }

    /// A container of the engine's image `tool` on the network `default`, with `more` on top of its spec.
    pub async fn container(&self, name: &str, last: u8, more: Value) -> Arc<Stored> {
        let mut spec = json!({"image": "tool", "networks": [{"network": "default"}], "grace": "30s"});
        if let (Some(spec), Some(more)) = (spec.as_object_mut(), more.as_object()) {
            spec.extend(more.clone());
        }
        let spec: agentd_api::container::ContainerSpec = serde_json::from_value(spec).expect("a spec");
        let mac = format!("52:54:00:00:01:{last:02x}");
        let addresses = json!([{"network": "default", "ip": format!("10.77.0.{last}"), "mac": mac}]);
        let addresses = if spec.networks.is_empty() { json!([]) } else { addresses };
        let spec = serde_json::to_value(spec).expect("json");
        let status = json!({"state": "pending", "addresses": addresses});
        self.create(&key("container", name), &["container", "network"], spec, status).await
    }

    /// The network `default` and the image `micro`.
    pub async fn furnish(&self) {
        self.network("default", "10.77.0.0/24").await;
        self.image("micro").await;
    }

    pub async fn update(&self, key: &ObjectKey, change: impl Fn(&mut Value) + Send + 'static) -> Arc<Stored> {
        let key = key.clone();
        let changed = self.store.transact(move |tx| {
            let mut value = tx.get(&key).ok_or(TxError::NotFound { key: key.clone() })?.value();
            change(&mut value);
            let mut update = Update {
                spec: Some(value["spec"].take()),
                status: Some(value["status"].take()),
                ..Update::default()
            };
            update.touch_generation = value["touch"].as_bool().unwrap_or_default();
            update.deleting = value["delete"].as_bool();
            tx.update(&key, Expect::Any, update)
        });
        changed.await.expect("changed")
    }

    pub async fn set_spec(&self, key: &ObjectKey, field: &'static str, to: Value) -> Arc<Stored> {
        self.update(key, move |o| o["spec"][field] = to.clone()).await
    }
    /// As the action `start`.
    pub async fn want(&self, key: &ObjectKey, desired: &'static str) -> Arc<Stored> {
        self.update(key, move |o| {
            o["spec"]["desired"] = json!(desired);
            o["touch"] = json!(true);
        })
        .await
    }
    pub async fn delete(&self, key: &ObjectKey) {
        self.update(key, |o| o["delete"] = json!(true)).await;
    }
    /// As the action `retry`.
    pub async fn retry(&self, key: &ObjectKey) {
        self.update(key, |o| {
            o["status"]["state"] = json!("pending");
            if let Some(status) = o["status"].as_object_mut() {
                status.remove("attempts");
            }
        })
        .await;
    }

    pub fn get<K: Kind>(&self, key: &ObjectKey) -> Object<K> {
        self.store.get(key).expect("it is there").object::<K>().expect("it can be read")
    }
    pub fn state(&self, key: &ObjectKey) -> Option<String> {
        self.store.get(key).map(|o| o.field("state").collect())
    }

    /// Waits until `is` of the object's JSON, which is shown every change of it from now on, so that none is too short
    /// to be seen. The error of a wait that does not end shows what the object was last.
    pub async fn until(&self, key: &ObjectKey, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        let mut changes = self.store.watch(None).expect("from now");
        let mut value = self.store.get(key).map_or(Value::Null, |o| o.value());
        let deadline = tokio::time::Instant::now() + LIMIT;
        while !is(&value) {
            let Ok(change) = tokio::time::timeout_at(deadline, changes.next()).await else {
                panic!("{key} does not become {what}; it is {value:#}");
            };
            let change = change.expect("nothing is compacted meanwhile");
            if change.object.key() == key {
                value = if change.what == WatchKind::Deleted { Value::Null } else { change.object.value() };
            }
        }
        value
    }
    pub async fn until_state(&self, key: &ObjectKey, state: State) -> Value {
        self.until(key, state.as_str(), |o| o["status"]["state"] == state.as_str()).await
    }
    pub async fn until_gone(&self, key: &ObjectKey) {
        self.until(key, "gone", Value::is_null).await;
    }
    /// Waits until nothing has been written for a while.
    pub async fn until_quiet(&self) {
        let started = Instant::now();
        let (mut last, mut since) = (self.store.revision(), Instant::now());
        while since.elapsed() < Duration::from_millis(400) {
            assert!(started.elapsed() < LIMIT, "the store does not come to rest");
            tokio::time::sleep(Duration::from_millis(10)).await;
            if self.store.revision() != last {
                (last, since) = (self.store.revision(), Instant::now());
            }
        }
    }
    pub fn verbs(&self, key: &ObjectKey) -> Vec<String> {
        let all = self.store.events(&agentd_store::EventQuery::default()).items;
        all.into_iter()
            .filter(|e| e.name == key.name.as_str() && e.kind == key.kind)
            .map(|e| e.verb)
            .collect()
    }
}

pub async fn wait_until(what: &str, is: impl Fn() -> bool) {
    let started = Instant::now();
    while !is() {
        assert!(started.elapsed() < LIMIT, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub struct Daemon {
    threads: Option<tokio::runtime::Runtime>,
    cancel: CancellationToken,
    tracker: TaskTracker,
    pub trigger: Trigger,
}

impl Daemon {
    /// As SIGKILL: every task ends where it stands.
    pub fn kill(mut self) {
        if let Some(threads) = self.threads.take() {
            threads.shutdown_background();
        }
    }
    /// As SIGTERM. How long it took.
    pub async fn stop(mut self) -> Duration {
        let started = Instant::now();
        self.cancel.cancel();
        self.tracker.close();
        self.tracker.wait().await;
        let took = started.elapsed();
        if let Some(threads) = self.threads.take() {
            threads.shutdown_background();
        }
        took
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(threads) = self.threads.take() {
            threads.shutdown_background();
        }
    }
}

pub fn key(kind: &str, name: &str) -> ObjectKey {
    let parse = |text: &str| ObjectName::parse(text).expect("a name");
    ObjectKey::new(kind, parse("default"), parse(name))
}
