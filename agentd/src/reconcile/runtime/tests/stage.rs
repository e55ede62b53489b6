//! A stage for the runtime: reconcilers that are a closure each, on a real store.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use agentd_api::network::Network;
use agentd_api::ssh_key::SshKey;
use agentd_api::{Kind, Object, ObjectKey};
use async_trait::async_trait;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::super::{Controllers, Fault, Outcome, Pass, Reconciler, Trigger};
use crate::reconcile::testing::Host;

type Status<K> = <K as Kind>::Status;
type Act<K> = dyn for<'a> Fn(&'a Pass, &'a Object<K>) -> BoxFuture<'a, Outcome<Status<K>>> + Send + Sync;
type Undo = dyn Fn(&str) -> Result<(), Fault> + Send + Sync;

/// Counts what it is asked to do, and does what it was told.
pub struct Actor<K: Kind> {
    act: Box<Act<K>>,
    undo: Box<Undo>,
    pub passes: Mutex<HashMap<ObjectKey, usize>>,
    pub undone: Mutex<Vec<String>>,
    now: AtomicUsize,
    pub most: AtomicUsize,
    pub limit: usize,
    pub resync: Option<Duration>,
}

impl<K: Kind> Actor<K> {
    pub fn new(
        act: impl for<'a> Fn(&'a Pass, &'a Object<K>) -> BoxFuture<'a, Outcome<Status<K>>> + Send + Sync + 'static,
    ) -> Self {
        Self {
            act: Box::new(act),
            undo: Box::new(|_| Ok(())),
            passes: Mutex::default(),
            undone: Mutex::default(),
            now: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            limit: 4,
            resync: None,
        }
    }
    pub fn undoing(self, undo: impl Fn(&str) -> Result<(), Fault> + Send + Sync + 'static) -> Self {
        Self { undo: Box::new(undo), ..self }
    }
    pub fn passes(&self, key: &ObjectKey) -> usize {
        self.passes.lock().get(key).copied().unwrap_or_default()
    }
}

#[async_trait]
impl<K: Kind> Reconciler for Actor<K> {
    type Kind = K;

    async fn reconcile(&self, pass: &Pass, object: &Object<K>) -> Outcome<Status<K>> {
        *self.passes.lock().entry(pass.key().clone()).or_default() += 1;
        self.most.fetch_max(self.now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        let outcome = (self.act)(pass, object).await;
        self.now.fetch_sub(1, Ordering::SeqCst);
        outcome
    }
    async fn finalize(&self, _: &Pass, _: &Object<K>, finalizer: &str) -> Result<(), Fault> {
        let end = (self.undo)(finalizer);
        if end.is_ok() {
            self.undone.lock().push(finalizer.to_owned());
        }
        end
    }
    fn concurrency(&self) -> usize {
        self.limit
    }
    fn resync(&self) -> Option<Duration> {
        self.resync
    }
}

pub struct Stage {
    pub host: Host,
    pub trigger: Trigger,
    pub cancel: CancellationToken,
    pub tracker: TaskTracker,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

/// Starts the two kinds with these actors.
pub fn play(keys: &Arc<Actor<SshKey>>, networks: &Arc<Actor<Network>>) -> Stage {
    let host = Host::new();
    let (cancel, tracker) = (CancellationToken::new(), TaskTracker::new());
    let mut controllers = Controllers::of(&[SshKey::DEF.kind, Network::DEF.kind]);
    controllers.add_shared(keys.clone());
    controllers.add_shared(networks.clone());
    let trigger = controllers.start(host.store.clone(), cancel.clone(), &tracker);
    Stage { host, trigger, cancel, tracker }
}

/// An actor that finds nothing to do.
pub fn idle<K: Kind>() -> Arc<Actor<K>> {
    Arc::new(Actor::<K>::new(|_, object| {
        let status = object.status.clone();
        Box::pin(async move { Outcome::settled(status) })
    }))
}
