//! Turns changes of the store into wakes: of the changed object itself and of those that read it.

use std::sync::Arc;

use agentd_api::list::WatchKind;
use agentd_store::{Change, Query, Store, Watch};

use super::Core;
use super::queue::Urgency;

/// Follows the store until cancelled. A watch that fell behind the store's history is begun anew, and everything is
/// looked at.
pub(super) async fn run(core: Core, mut watch: Watch) {
    loop {
        loop {
            // Cancel safety: `next` loses no change when dropped, and the loop ends then anyway.
            let change = tokio::select! {
                () = core.cancel.cancelled() => return,
                change = watch.next() => change,
            };
            match change {
                Ok(change) => tell(&core, &change),
                Err(compacted) => {
                    tracing::warn!("the watch of the reconcilers fell behind: {compacted}");
                    break;
                }
            }
        }
        watch = from_now(&core.store);
        wake_all(&core);
    }
}

/// To be taken before what there is is listed: a change is then either in the list or in the watch.
pub(super) fn from_now(store: &Store) -> Watch {
    store.watch(None).expect("a watch from now on misses nothing")
}

fn tell(core: &Core, change: &Arc<Change>) {
    let key = change.object.key();
    let readers = core.trigger.edges().readers(&change.object, change.before.as_deref());
    for reader in readers {
        if let Some(queue) = core.trigger.queue(&reader.kind) {
            queue.wake(&reader, Urgency::Now);
        }
    }
    if change.what == WatchKind::Deleted {
        let mut edges = core.trigger.edges();
        // Another object of this name may be there by now, and what its pass has read is not to be forgotten.
        if core.store.get(key).is_none() {
            edges.forget(key);
        }
    } else if let Some(queue) = core.trigger.queue(&key.kind) {
        queue.object_changed(key, change.revision);
    }
}

fn wake_all(core: &Core) {
    for (kind, _, _) in core.trigger.depths() {
        for object in core.store.list(&Query::kind(kind)).items {
            core.trigger.wake(object.key().clone());
        }
    }
}
