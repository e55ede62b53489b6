//! An engine that cannot write for a while.

use std::time::{Duration, Instant};

use agentd_store::engine::memory::MemoryEngine;
use agentd_store::{Options, Store, StoreError, Transact, TxError};

use crate::fixture::{create, dump, event, new_vm, vm};

#[tokio::test]
async fn a_failed_commit_fails_all_of_its_batch_and_shows_nothing() {
    let engine = MemoryEngine::new();
    let store = Store::with_engine(Box::new(engine.clone()), Options::default()).expect("opened");
    create(&store, "web").await;
    let before = dump(&store);
    let mut watch = store.watch(None).expect("from now");
    let error = StoreError::Io { file: "disk".into(), detail: "input/output error".to_owned() };
    engine.fail(Some(error.clone()));
    let made = store.transact(|tx| {
        tx.allocate("mac", "x", &vm("a"))?;
        tx.record(event("a", "created"));
        tx.create(new_vm("a"))
    });
    // A refusal that rests on a creation that fails is not told as one.
    let twice = store.transact(|tx| tx.create(new_vm("a")));
    let reads = store.transact(|tx| Ok::<_, TxError>(tx.get(&vm("a")).is_some()));
    let (made, twice, reads) = tokio::join!(made, twice, reads);
    assert_eq!(made, Err(Transact::Failed(error.clone())));
    assert_eq!(twice, Err(Transact::Failed(error.clone())));
    // In the same batch it would see what is not to be, in a later one it sees that nothing is there.
    assert!(reads == Err(Transact::Failed(error.clone())) || reads == Ok(false), "{reads:?}");
    assert_eq!((dump(&store), store.health()), (before.clone(), Err(error)));
    assert!(watch.try_next().is_none());
    assert!(store.stats().failed_commits > 0);
    engine.fail(None);
    let began = Instant::now();
    while store.health().is_err() {
        assert!(began.elapsed() < Duration::from_secs(20), "it tries again by itself");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(create(&store, "a").await.revision(), before.revision + 1, "no revision was used up");
    assert_eq!(watch.next().await.expect("kept").revision, before.revision + 1);
    assert_eq!(store.allocations(), before.allocations);
}
