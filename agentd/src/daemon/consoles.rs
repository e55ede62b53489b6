//! Keeps the marks of running guests' consoles: when what was said.
//!
//! It owns one task for each VM that runs, which sleeps while its guest is silent. What is said while agentd is down gets
//! its mark when it is back, see [`Marks`].

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use agentd_api::list::WatchKind;
use agentd_api::vm::Vm;
use agentd_api::{Kind, State};
use agentd_drivers::console::{Marks, Watches};
use agentd_store::{Query, Store, Stored};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// A guest that talks without a pause is marked this often.
const EVERY: Duration = Duration::from_secs(1);
/// Logs that are read at once: at the start there may be thousands.
const AT_ONCE: usize = 4;

pub struct Marking {
    store: Store,
    watches: Arc<Watches>,
    turns: Arc<Semaphore>,
    running: HashMap<Uuid, CancellationToken>,
}

impl Marking {
    pub fn new(store: Store, watches: Arc<Watches>) -> Self {
        Self { store, watches, turns: Arc::new(Semaphore::new(AT_ONCE)), running: HashMap::new() }
    }

    /// Begins after `head_start`.
    pub async fn run(mut self, head_start: Duration, end: CancellationToken) {
        if end.run_until_cancelled(tokio::time::sleep(head_start)).await.is_none() {
            return;
        }
        loop {
            let mut watch = self.store.watch(None).expect("a watch from now on misses nothing");
            for vm in self.store.list(&Query::kind(Vm::DEF.kind)).items {
                self.look(&vm, &end);
            }
            loop {
                // Cancel safety: `next` loses no change when dropped, and the loop ends then anyway.
                let change = tokio::select! {
                    () = end.cancelled() => return,
                    change = watch.next() => change,
                };
                match change {
                    Ok(change) if change.object.kind() != Vm::DEF.kind => {}
                    Ok(change) if change.what == WatchKind::Deleted => self.stop(change.object.id()),
                    Ok(change) => self.look(&change.object, &end),
                    // It fell behind: look at all.
                    Err(_) => break,
                }
            }
        }
    }

    fn look(&mut self, vm: &Stored, end: &CancellationToken) {
        if vm.field("state").next() != Some(State::Running.as_str()) {
            return self.stop(vm.id());
        }
        if self.running.contains_key(&vm.id()) {
            return;
        }
        let Some(log) = vm.object::<Vm>().ok().and_then(|vm| vm.status.console_log) else { return };
        let end = end.child_token();
        self.running.insert(vm.id(), end.clone());
        tokio::spawn(mark(PathBuf::from(log), self.watches.clone(), self.turns.clone(), end));
    }

    fn stop(&mut self, vm: Uuid) {
        if let Some(end) = self.running.remove(&vm) {
            end.cancel();
        }
    }
}

/// Until told to end, and once more then: a guest's last words have a time too.
async fn mark(log: PathBuf, watches: Arc<Watches>, turns: Arc<Semaphore>, end: CancellationToken) {
    let mut watched = watches.on(&log);
    let mut marks = None;
    loop {
        let last = end.is_cancelled();
        let Ok(turn) = turns.acquire().await else { return };
        let (file, known) = (log.clone(), marks.take());
        let kept = tokio::task::spawn_blocking(move || {
            let mut marks = known.map_or_else(|| Marks::read(&file), Ok)?;
            marks.keep_up().map(|()| marks)
        })
        .await;
        drop(turn);
        match kept {
            Ok(Ok(kept)) => marks = Some(kept),
            Ok(Err(error)) => tracing::debug!(%error, log = %log.display(), "its marks were not kept"),
            Err(_) => return,
        }
        if last {
            return;
        }
        // Cancel safety: a change that is missed is met by the last round.
        tokio::select! {
            () = end.cancelled() => continue,
            () = tokio::time::sleep(EVERY) => {}
        }
        tokio::select! {
            () = end.cancelled() => {}
            () = watched.changed() => {}
        }
    }
}
