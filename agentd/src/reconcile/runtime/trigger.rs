//! The handle by which everybody else wakes a pass.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use agentd_api::ObjectKey;
use parking_lot::{Mutex, MutexGuard};

use super::edges::Edges;
use super::queue::{Queue, Urgency};

/// Wakes passes. Cheap to clone; a kind that nobody reconciles is ignored. A wake carries no data: the pass reads all
/// anew. Who keeps one keeps all that is known of who wakes whom.
#[derive(Debug, Clone, Default)]
pub struct Trigger {
    queues: Arc<BTreeMap<&'static str, Arc<Queue>>>,
    edges: Arc<Mutex<Edges>>,
}

impl Trigger {
    pub(super) fn new(queues: BTreeMap<&'static str, Arc<Queue>>) -> Self {
        Self { queues: Arc::new(queues), edges: Arc::default() }
    }

    /// Has the object looked at now.
    pub fn wake(&self, key: ObjectKey) {
        if let Some(queue) = self.queue(&key.kind) {
            queue.wake(&key, Urgency::Now);
        }
    }
    /// Has the object looked at after `delay`. Of several that are pending for one object the earliest counts.
    pub fn wake_after(&self, key: ObjectKey, delay: Duration) {
        if let Some(queue) = self.queue(&key.kind) {
            queue.wake_after(&key, delay);
        }
    }
    /// Has the object looked at because something was seen on the host. Does not hasten a try that is held back.
    pub(in crate::reconcile) fn seen(&self, key: &ObjectKey) {
        if let Some(queue) = self.queue(&key.kind) {
            queue.wake(key, Urgency::Event);
        }
    }
    /// How many passes of each kind wait and how many run, for /metrics.
    pub fn depths(&self) -> Vec<(&'static str, usize, usize)> {
        self.queues
            .iter()
            .map(|(kind, queue)| {
                let (ready, running) = queue.depth();
                (*kind, ready, running)
            })
            .collect()
    }
    pub(super) fn edges(&self) -> MutexGuard<'_, Edges> {
        self.edges.lock()
    }
    pub(super) fn queue(&self, kind: &str) -> Option<&Arc<Queue>> {
        self.queues.get(kind)
    }
}
