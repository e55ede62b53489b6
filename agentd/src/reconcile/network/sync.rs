//! The one task that changes networks and the firewall on the host.
//!
//! Whoever needs a network to be as the store says asks here and is answered once a round that began after the question
//! is done. All that is asked while a round runs is one round more: a hundred VMs that come at once cost two.
//!
//! A network that cannot be made fails those who asked for it, wakes its own object, which then shows why, and holds up
//! nobody else. What somebody changes on the host behind our back is told by the driver and answered by a round over
//! everything.

use std::collections::{BTreeSet, HashMap};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use agentd_api::ObjectKey;
use agentd_drivers::network::{FirewallSetup, NetworkDriver, NetworkSeen};
use agentd_store::Store;
use futures_util::FutureExt;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::setup::Setups;
use crate::reconcile::runtime::{Fault, Trigger};

/// What is seen on the host is looked into this much later: one change makes many events, our own among them.
const DEBOUNCE: Duration = Duration::from_millis(200);
const BATCH: usize = 1024;
const RELOAD: Duration = Duration::from_secs(600);

/// The handle. Cheap to clone.
#[derive(Clone)]
pub struct NetworkSync {
    requests: mpsc::Sender<Request>,
}

struct Request {
    what: What,
    answer: oneshot::Sender<Result<NetworkSeen, Fault>>,
}

#[derive(Debug, Clone)]
enum What {
    Guest(ObjectKey),
    Network(ObjectKey),
    Remove(ObjectKey, Uuid),
}

impl NetworkSync {
    /// Makes the networks of that VM or container so, with it on them as the store says, and the ports that it publishes.
    pub async fn guest(&self, guest: &ObjectKey) -> Result<(), Fault> {
        self.ask(What::Guest(guest.clone())).await.map(|_| ())
    }
    /// Makes that network so.
    pub async fn network(&self, network: &ObjectKey) -> Result<NetworkSeen, Fault> {
        self.ask(What::Network(network.clone())).await
    }
    /// Takes that network off the host. A conflict where guests are still on it.
    pub async fn remove(&self, network: &ObjectKey, id: Uuid) -> Result<(), Fault> {
        self.ask(What::Remove(network.clone(), id)).await.map(|_| ())
    }

    async fn ask(&self, what: What) -> Result<NetworkSeen, Fault> {
        let gone = || Fault::internal("the network task gave no answer");
        let (answer, answered) = oneshot::channel();
        self.requests.send(Request { what, answer }).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

pub struct SyncTask {
    store: Store,
    driver: Arc<dyn NetworkDriver>,
    trigger: Trigger,
    requests: mpsc::Receiver<Request>,
    state: Option<Setups>,
    loaded: Instant,
    results: HashMap<ObjectKey, Result<NetworkSeen, Fault>>,
    firewall: Option<FirewallSetup>,
}

impl SyncTask {
    pub fn new(store: Store, driver: Arc<dyn NetworkDriver>, trigger: Trigger) -> (NetworkSync, Self) {
        let (sender, requests) = mpsc::channel(BATCH);
        let (state, loaded, results, firewall) = (None, Instant::now(), HashMap::new(), None);
        (
            NetworkSync { requests: sender },
            Self { store, driver, trigger, requests, state, loaded, results, firewall },
        )
    }

    pub async fn run(mut self, cancel: CancellationToken) {
        let mut events = self.driver.events();
        let mut look: Option<Instant> = None;
        let mut deaf = false;
        loop {
            let mut batch = Vec::new();
            let at = look.unwrap_or_else(Instant::now);
            // Cancel safety: `recv_many` and `recv` take nothing when they are dropped.
            tokio::select! {
                () = cancel.cancelled() => return,
                n = self.requests.recv_many(&mut batch, BATCH) => if n == 0 { return },
                () = tokio::time::sleep_until(at), if look.is_some() => {}
                event = events.recv(), if !deaf && look.is_none() => {
                    match event {
                        Ok(()) | Err(RecvError::Lagged(_)) => look = Some(Instant::now() + DEBOUNCE),
                        Err(RecvError::Closed) => deaf = true,
                    }
                    continue;
                }
            }
            let all = look.is_some_and(|at| at <= Instant::now());
            if all {
                look = None;
                // What came meanwhile is answered by the round that follows.
                while events.try_recv().is_ok() {}
            }
            if AssertUnwindSafe(self.round(batch, all)).catch_unwind().await.is_err() {
                // Those who asked see their question dropped; what is known may be half changed.
                tracing::error!("a network round panicked");
                self.state = None;
                self.firewall = None;
            }
        }
    }

    async fn round(&mut self, batch: Vec<Request>, all: bool) {
        // Every change of a VM or network comes by a request, so that what is known is right; that it is worked out
        // anew now and then is a second rope.
        let known = self.state.take().filter(|_| !all || self.loaded.elapsed() < RELOAD);
        let mut setups = known.unwrap_or_else(|| {
            self.loaded = Instant::now();
            Setups::load(&self.store)
        });
        let (mut dirty, mut asked) = (BTreeSet::new(), BTreeSet::new());
        if all {
            dirty.extend(setups.networks().cloned());
        }
        for request in &batch {
            match &request.what {
                What::Guest(key) => {
                    dirty.extend(setups.read_guest(&self.store, key));
                    let bad = |n: &ObjectKey| !self.results.get(n).is_some_and(|r| r.as_ref().is_ok_and(up));
                    dirty.extend(setups.networks_of(key).into_iter().filter(bad));
                }
                What::Network(key) => {
                    setups.read_network(&self.store, key);
                    dirty.insert(key.clone());
                    asked.insert(key.clone());
                }
                What::Remove(key, _) => setups.forget_network(key),
            }
        }
        for key in &dirty {
            self.ensure(&setups, key, asked.contains(key)).await;
        }
        let mut removed = HashMap::new();
        for request in &batch {
            if let What::Remove(key, id) = &request.what {
                removed.insert(*id, self.remove(&setups, key, *id).await);
            }
        }
        let firewall = self.ensure_firewall(&setups, all || !asked.is_empty() || !removed.is_empty()).await;
        for Request { what, answer } in batch {
            let result = match what {
                What::Guest(key) => {
                    let made = self.of_guest(&setups, &key).and(firewall.clone());
                    if made.is_ok() {
                        setups.forget_if_off(&key);
                    }
                    made.map(|()| NetworkSeen::default())
                }
                What::Network(key) => firewall.clone().and_then(|()| {
                    self.results.get(&key).cloned().unwrap_or_else(|| Ok(NetworkSeen::default()))
                }),
                What::Remove(_, id) => firewall
                    .clone()
                    .and(removed.get(&id).cloned().unwrap_or(Ok(())))
                    .map(|()| NetworkSeen::default()),
            };
            // Whoever asked may have stopped waiting.
            let _ = answer.send(result);
        }
        self.state = Some(setups);
    }

    fn of_guest(&self, setups: &Setups, guest: &ObjectKey) -> Result<(), Fault> {
        let failed = setups.networks_of(guest).into_iter().find_map(|n| self.results.get(&n)?.clone().err());
        failed.map_or(Ok(()), Err)
    }

    async fn ensure(&mut self, setups: &Setups, key: &ObjectKey, asked: bool) {
        let Some(setup) = setups.network(key) else {
            self.results.remove(key);
            return;
        };
        let result = self.driver.ensure(&setup).await.map_err(Fault::from);
        let before = self.results.insert(key.clone(), result.clone());
        // The network's own object did not ask, and has to show what came of it.
        if !asked && before.as_ref() != Some(&result) {
            self.trigger.wake(key.clone());
        }
    }

    async fn remove(&mut self, setups: &Setups, key: &ObjectKey, id: Uuid) -> Result<(), Fault> {
        let guests = setups.hosts_on(key);
        if guests > 0 {
            return Err(Fault::conflict(format!("{guests} guests still have an address on it")));
        }
        self.results.remove(key);
        Ok(self.driver.remove(id).await?)
    }

    async fn ensure_firewall(&mut self, setups: &Setups, look: bool) -> Result<(), Fault> {
        let wanted = setups.firewall();
        if !look && self.firewall.as_ref() == Some(&wanted) {
            return Ok(());
        }
        self.firewall = None;
        self.driver.ensure_firewall(&wanted).await?;
        self.firewall = Some(wanted);
        Ok(())
    }
}

fn up(seen: &NetworkSeen) -> bool {
    seen.bridge && seen.dns
}
