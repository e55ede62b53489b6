//! The part of reconciling that is the same for every kind: what wakes a pass, which passes run when, how a failure is
//! taken, how an object goes.
//!
//! ```text
//!   store's watch --> watcher --+            +--> pass --> Reconciler of the kind --> drivers
//!   edges (who read what) ------+--> queue --+      |
//!   driver events, timers ------+   (a kind) |      +--> settle: status, attempts, events, in one transaction
//!   Trigger (a person) ---------+            +--> pass ...
//! ```
//!
//! A wake carries no data: a pass reads its object anew, and everything it depends on through [`Pass::get`] and
//! [`Pass::list`], which is how the runtime learns what wakes it next time. One object has one pass at a time; a kind
//! has so many at once.
//!
//! A pass that fails is tried again ever more slowly (0.5 s to 60 s), and the object shows the attempts; a failure that
//! cannot pass by itself stops at `failed` until the spec changes or somebody says `retry`. A pass that panics is such
//! a failed attempt and takes nothing else down. When the store cannot be written nothing is lost: the pass is made
//! again a second later, from what the host and the store then show.

mod backoff;
mod controller;
mod edges;
mod fault;
mod outcome;
mod pass;
mod queue;
mod settle;
#[cfg(test)]
mod tests;
mod trigger;
mod watcher;

use std::sync::Arc;
use std::time::Duration;

use agentd_api::{Kind, Object};
use agentd_store::Store;
use async_trait::async_trait;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use backoff::plain as backoff;
pub use fault::Fault;
pub use outcome::{Note, Outcome};
pub use pass::Pass;
pub use trigger::Trigger;

/// Who acts, in the events of passes.
pub const ACTOR: &str = "agentd";

/// How one kind is made so.
#[async_trait]
pub trait Reconciler: Send + Sync + 'static {
    type Kind: Kind;

    /// Looks at the host, changes what has to be changed, and tells what it saw. Idempotent: it may be dropped at any
    /// await and begun again. Not called for an object that is being deleted.
    async fn reconcile(
        &self,
        pass: &Pass,
        object: &Object<Self::Kind>,
    ) -> Outcome<<Self::Kind as Kind>::Status>;

    /// Undoes on the host what `finalizer` stands for. Idempotent. Ok means that it is gone.
    async fn finalize(&self, pass: &Pass, object: &Object<Self::Kind>, finalizer: &str) -> Result<(), Fault>;

    /// How many objects are worked on at once.
    fn concurrency(&self) -> usize {
        8
    }
    /// How often every object is looked at without being woken. None where the kind sees to that in a cheaper way.
    fn resync(&self) -> Option<Duration> {
        Some(Duration::from_secs(60))
    }
    /// Whether every object gets a pass when the daemon starts, after the first moments, which are left to those who waited
    /// for it. False where the kind finds out by itself which need one.
    fn all_at_start(&self) -> bool {
        true
    }
}

/// What the parts of the runtime share.
#[derive(Clone)]
struct Core {
    store: Store,
    trigger: Trigger,
    cancel: CancellationToken,
    /// How long after the start all are looked at.
    head_start: Duration,
}

type Spawn = Box<dyn FnOnce(Core, &TaskTracker) + Send>;

/// Gathers the kinds, then starts them all.
pub struct Controllers {
    trigger: Trigger,
    spawn: Vec<Spawn>,
    head_start: Duration,
}

impl Controllers {
    /// The handle works at once; what it wakes runs once [`start`](Self::start) was called.
    pub fn of(kinds: &[&'static str]) -> Self {
        let queues = kinds.iter().map(|kind| (*kind, Arc::default())).collect();
        Self { trigger: Trigger::new(queues), spawn: Vec::new(), head_start: Duration::ZERO }
    }

    /// Looks at all objects only so long after the start; whoever changes one has it looked at at once.
    pub fn with_head_start(self, head_start: Duration) -> Self {
        Self { head_start, ..self }
    }

    pub fn trigger(&self) -> Trigger {
        self.trigger.clone()
    }

    /// `R`'s kind must be one of those named at first.
    pub fn add<R: Reconciler>(&mut self, reconciler: R) {
        self.add_shared(Arc::new(reconciler));
    }

    pub fn add_shared<R: Reconciler>(&mut self, reconciler: Arc<R>) {
        let queue = self.trigger.queue(R::Kind::DEF.kind).expect("its kind was named").clone();
        self.spawn.push(Box::new(move |core, tracker| controller::spawn(core, queue, reconciler, tracker)));
    }

    /// Runs until `cancel`. What is in flight then is given a short while to finish; all tasks are in `tracker`.
    pub fn start(self, store: Store, cancel: CancellationToken, tracker: &TaskTracker) -> Trigger {
        let (trigger, head_start) = (self.trigger.clone(), self.head_start);
        let core = Core { store, trigger, cancel, head_start };
        tracker.spawn(watcher::run(core.clone(), watcher::from_now(&core.store)));
        for spawn in self.spawn {
            spawn(core.clone(), tracker);
        }
        self.trigger
    }
}
