//! Runs the passes of one kind.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use agentd_api::{Kind, Object, ObjectKey, State};
use agentd_store::{Query, Stored};
use futures_util::FutureExt;
use tokio::task::JoinSet;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use super::pass::{Pass, Write, to_map};
use super::queue::{Finish, Queue};
use super::settle::{self, Next};
use super::{Core, Fault, Note, Outcome, Reconciler};

/// How long passes in flight are given to end when the daemon stops. What a driver has begun goes on to its end.
const STOP_LIMIT: Duration = Duration::from_secs(3);
/// Into how many parts a resync is spread.
const RESYNC_PARTS: u32 = 60;

struct Controller<R> {
    core: Core,
    queue: Arc<Queue>,
    reconciler: Arc<R>,
}

impl<R> Clone for Controller<R> {
    fn clone(&self) -> Self {
        Self { core: self.core.clone(), queue: self.queue.clone(), reconciler: self.reconciler.clone() }
    }
}

pub(super) fn spawn<R: Reconciler>(core: Core, queue: Arc<Queue>, reconciler: Arc<R>, tracker: &TaskTracker) {
    let controller = Controller { core, queue, reconciler };
    let reconciler = &controller.reconciler;
    if reconciler.all_at_start() {
        let after = controller.core.head_start;
        for object in controller.all() {
            controller.core.trigger.wake_after(object.key().clone(), after);
        }
    }
    if let Some(every) = controller.reconciler.resync() {
        tracker.spawn(controller.clone().resync(every));
    }
    tracker.spawn(controller.run());
}

impl<R: Reconciler> Controller<R> {
    fn all(&self) -> Vec<Arc<Stored>> {
        self.core.store.list(&Query::kind(R::Kind::DEF.kind)).items
    }

    async fn run(self) {
        let mut passes = JoinSet::new();
        let limit = self.reconciler.concurrency().max(1);
        while !self.core.cancel.is_cancelled() {
            while passes.len() < limit
                && let Some(key) = self.queue.pop()
            {
                let span =
                    tracing::info_span!("pass", kind = %key.kind, project = %key.project, name = %key.name);
                passes.spawn(self.clone().one(key).instrument(span));
            }
            // Cancel safety: no arm takes anything that is lost; what a finished pass had to say is said.
            tokio::select! {
                () = self.core.cancel.cancelled() => break,
                () = self.queue.wait(), if passes.len() < limit => {}
                Some(_) = passes.join_next(), if !passes.is_empty() => {}
            }
        }
        let rest = async { while passes.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_LIMIT, rest).await.is_err() {
            tracing::info!(kind = R::Kind::DEF.kind, "passes in flight are left where they are");
            passes.abort_all();
        }
    }

    /// Wakes every object once in `every`, a part of them at a time.
    async fn resync(self, every: Duration) {
        loop {
            let objects = self.all();
            let part = objects.len().div_ceil(RESYNC_PARTS as usize).max(1);
            let parts = u32::try_from(objects.len().div_ceil(part)).unwrap_or(1).max(1);
            let mut chunks = objects.chunks(part);
            for _ in 0..parts {
                // Cancel safety: neither arm holds anything.
                tokio::select! {
                    () = self.core.cancel.cancelled() => return,
                    () = tokio::time::sleep(every / parts) => {}
                }
                for object in chunks.next().unwrap_or_default() {
                    self.core.trigger.seen(object.key());
                }
            }
        }
    }

    async fn one(self, key: ObjectKey) {
        // Told in `drop`, so that a pass that is aborted does not stay marked as running.
        let mut running = Running { queue: &self.queue, key: &key, end: Finish::default() };
        let Some(stored) = self.core.store.get(&key) else {
            self.core.trigger.edges().forget(&key);
            return;
        };
        running.end.read = stored.revision();
        let object = match stored.object::<R::Kind>() {
            Ok(object) => object,
            Err(error) => {
                tracing::error!(object = %key, "cannot be read and is left as it is: {error}");
                return;
            }
        };
        let pass = Pass::new(self.core.clone(), &object.meta, &stored.value()["status"]);
        let next = if object.meta.deleting() {
            self.delete(&pass, object).await
        } else {
            self.pass(&pass, object).await
        };
        self.core.trigger.edges().replace(&key, &pass.take_read());
        running.end.wrote = pass.revisions();
        (running.end.again, running.end.held) = match next {
            Next::Woken | Next::Gone => (None, false),
            Next::After(wait) => (Some(wait), false),
            Next::Held(wait) => (Some(wait), true),
        };
        if next == Next::Gone {
            self.core.trigger.edges().forget(&key);
        }
    }

    async fn pass(&self, pass: &Pass, object: Object<R::Kind>) -> Next {
        let common = R::Kind::common(&object.status);
        let given_up = common.attempts.as_ref().is_some_and(|a| a.next_at.is_none());
        if given_up && common.state == State::Failed && common.observed_generation == object.meta.generation {
            return Next::Woken;
        }
        let work = AssertUnwindSafe(self.reconciler.reconcile(pass, &object)).catch_unwind();
        let outcome = work.await.unwrap_or_else(|panic| {
            let status = serde_json::from_value(pass.status()).unwrap_or_else(|_| object.status.clone());
            Outcome::failed(status, panicked(panic.as_ref()))
        });
        settle::settle(pass, &object, outcome).await
    }

    /// Undoes the finalizers in their order, then removes the object.
    async fn delete(&self, pass: &Pass, mut object: Object<R::Kind>) -> Next {
        if R::Kind::common(&object.status).state != State::Deleting {
            let common = R::Kind::common_mut(&mut object.status);
            (common.state, common.reason, common.progress) = (State::Deleting, None, None);
            common.attempts = None;
            if let Err(fault) = pass.publish::<R::Kind>(&object.status).await {
                return settle::refused(pass, &object, fault).await;
            }
        }
        while let Some(finalizer) = object.meta.finalizers.first().cloned() {
            let work = AssertUnwindSafe(self.reconciler.finalize(pass, &object, &finalizer)).catch_unwind();
            if let Err(fault) = work.await.unwrap_or_else(|panic| Err(panicked(panic.as_ref()))) {
                return settle::refused(pass, &object, fault).await;
            }
            let status = match to_map::<R::Kind>(&object.status) {
                Ok(status) => status,
                Err(fault) => return settle::refused(pass, &object, fault).await,
            };
            let write = Write { status, finalized: Some(finalizer.clone()), ..Write::default() };
            let next = settle::written(pass, pass.write(write).await, Next::Woken);
            if next != Next::Woken {
                return next;
            }
            object.meta.finalizers.retain(|f| *f != finalizer);
        }
        let note = Note::done("deleted", format!("{} is gone", pass.key()));
        settle::written(pass, pass.remove(note).await, Next::Gone)
    }
}

struct Running<'a> {
    queue: &'a Queue,
    key: &'a ObjectKey,
    end: Finish,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.queue.finish(self.key, &self.end);
    }
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> Fault {
    let text = panic.downcast_ref::<&str>().map(|t| (*t).to_owned());
    let text =
        text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned());
    Fault::internal(format!("agentd itself failed here (a defect): {text}"))
}
