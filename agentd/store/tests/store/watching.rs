//! A thousand watchers.

use std::time::{Duration, Instant};

use agentd_store::engine::memory::MemoryEngine;
use agentd_store::{Expect, Options, Store, Update};
use serde_json::json;

use crate::fixture::{create, vm};

const WATCHERS: u64 = 1000;
const CHANGES: u64 = 10_000;

/// Every one of them sees every change, in order; writing does not wait for them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_watchers_see_ten_thousand_changes() {
    let store = Store::with_engine(Box::new(MemoryEngine::new()), Options::default()).expect("opened");
    create(&store, "web").await;
    let began = Instant::now();
    let watchers: Vec<_> = (0..WATCHERS)
        .map(|_| {
            let mut watch = store.watch(Some(1)).expect("kept");
            tokio::spawn(async move {
                for wanted in 2..CHANGES + 2 {
                    assert_eq!(watch.next().await.expect("kept").revision, wanted);
                }
            })
        })
        .collect();
    for at in 0..CHANGES / 10 {
        let changed = store.transact(move |tx| {
            for n in 0..10 {
                let status = Some(json!({"state": "running", "reason": format!("{at}-{n}")}));
                tx.update(&vm("web"), Expect::Any, Update { status, ..Update::default() })?;
            }
            Ok::<_, agentd_store::TxError>(())
        });
        changed.await.expect("written");
    }
    let written = began.elapsed();
    for watcher in watchers {
        watcher.await.expect("it saw all");
    }
    let seen = began.elapsed();
    assert_eq!(store.stats().changes, usize::try_from(CHANGES).expect("small") + 1);
    assert!(seen < Duration::from_secs(60), "written in {written:?}, seen in {seen:?}");
}
