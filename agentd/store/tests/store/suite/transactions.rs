//! Transactions over many objects, and many transactions at once.

use agentd_api::list::WatchKind;
use agentd_store::{Expect, NewObject, Options, Query, Remembered, StoreError, Transact, TxError, Update};
use bytes::Bytes;
use serde_json::json;

use crate::fixture::{Open, create, done, dump, event, key, name, names, new_vm, remove, set_status, vm};

fn answer(text: &str) -> Remembered {
    Remembered { fingerprint: text.to_owned(), status: 201, body: Bytes::from(text.to_owned()) }
}

pub async fn a_refused_transaction_leaves_nothing(open: Open<'_>) {
    let store = open(Options::default());
    create(&store, "web").await;
    create(&store, "old").await;
    let before = dump(&store);
    let refused: Result<(), _> = store
        .transact(|tx| {
            tx.create(new_vm("new"))?;
            tx.update(&vm("web"), Expect::Any, Update { touch_generation: true, ..Update::default() })?;
            tx.remove(&vm("old"), Expect::Any)?;
            tx.create(new_vm("old"))?;
            tx.allocate("ip/n", "10.0.0.2", &vm("web"))?;
            tx.record(event("web", "changed"));
            tx.remember("key", answer("x"));
            tx.remove(&vm("none"), Expect::Any)
        })
        .await;
    assert_eq!(refused, Err(Transact::Refused(TxError::NotFound { key: vm("none") })));
    assert_eq!(dump(&store), before);
    let recalled = done(&store, |tx| Ok(tx.recall("key"))).await;
    assert_eq!(recalled, None);
    assert_eq!(create(&store, "next").await.revision(), before.revision + 1);
    store.close().await.expect("closed");
    let store = open(Options::default());
    assert_eq!(store.revision(), before.revision + 1);
    assert_eq!(store.get(&vm("new")), None);
}

pub async fn a_panicking_transaction_is_taken_back_alone(open: Open<'_>) {
    let store = open(Options::default());
    let good = store.transact(|tx| tx.create(new_vm("good")));
    let bad = store.transact(|tx| -> Result<(), TxError> {
        tx.create(new_vm("bad"))?;
        panic!("a mistake")
    });
    let also = store.transact(|tx| tx.create(new_vm("also")));
    let (good, bad, also) = tokio::join!(good, bad, also);
    assert_eq!(bad, Err(Transact::Failed(StoreError::Panicked { detail: "a mistake".to_owned() })));
    assert!(good.is_ok() && also.is_ok());
    assert_eq!(names(&store.list(&Query::kind("vm")).items), ["also", "good"]);
    assert_eq!((store.revision(), store.health()), (2, Ok(())));
}

pub async fn a_renamed_object_is_the_same_under_another_name(open: Open<'_>) {
    let store = open(Options::default());
    let made = create(&store, "web").await;
    create(&store, "db").await;
    done(&store, |tx| tx.allocate("ip/n", "10.0.0.2", &vm("web"))).await;
    let taken = store.transact(|tx| tx.rename(&vm("web"), &name("db"))).await;
    assert_eq!(taken, Err(Transact::Refused(TxError::AlreadyExists { key: vm("db") })));
    let none = store.transact(|tx| tx.rename(&vm("none"), &name("some"))).await;
    assert_eq!(none, Err(Transact::Refused(TxError::NotFound { key: vm("none") })));
    assert_eq!(store.owner_of("ip/n", "10.0.0.2"), Some(vm("web")));

    let mut watch = store.watch(None).expect("a watch");
    let moved = done(&store, |tx| {
        let moved = tx.rename(&vm("web"), &name("front"))?;
        assert_eq!((tx.get(&vm("web")), tx.by_id(moved.id())), (None, Some(moved.clone())));
        assert_eq!(names(&tx.list(&Query::kind("vm"))), ["db", "front"]);
        Ok(moved)
    })
    .await;
    assert_eq!((moved.id(), moved.generation()), (made.id(), made.generation()));
    assert_eq!(moved.value()["spec"], made.value()["spec"]);
    assert_eq!(moved.created_at(), made.created_at());
    let mut told = Vec::new();
    for _ in 0..2 {
        let change = watch.next().await.expect("a change");
        told.push((change.what, change.object.name().to_string()));
    }
    assert_eq!(told, [(WatchKind::Deleted, "web".to_owned()), (WatchKind::Added, "front".to_owned())]);

    // And again, back and forth in one transaction.
    done(&store, |tx| {
        tx.rename(&vm("front"), &name("web"))?;
        tx.rename(&vm("web"), &name("back"))
    })
    .await;
    let before = dump(&store);
    store.close().await.expect("closed");
    let store = open(Options::default());
    assert_eq!(dump(&store), before);
    assert_eq!(store.by_id(made.id()).map(|o| o.name().to_string()).as_deref(), Some("back"));
    assert_eq!(store.owner_of("ip/n", "10.0.0.2"), Some(vm("back")));
}

pub async fn a_transaction_sees_what_it_did(open: Open<'_>) {
    let store = open(Options::default());
    for text in ["a", "c"] {
        create(&store, text).await;
    }
    done(&store, |tx| {
        let made = tx.create(new_vm("b"))?;
        assert_eq!(tx.get(&vm("b")), Some(made.clone()));
        assert_eq!(tx.by_id(made.id()), Some(made));
        tx.remove(&vm("a"), Expect::Any)?;
        assert_eq!(tx.get(&vm("a")), None);
        let change = Update { status: Some(json!({"state": "running"})), ..Update::default() };
        let moved = tx.update(&vm("c"), Expect::Any, change)?;
        assert_eq!(tx.by_id(moved.id()), Some(moved));
        assert_eq!(names(&tx.list(&Query::kind("vm"))), ["b", "c"]);
        let running = ("state".to_owned(), true, "running".to_owned());
        assert_eq!(names(&tx.list(&Query { fields: vec![running], ..Query::kind("vm") })), ["c"]);
        let page = Query { after: Some("default/b".to_owned()), limit: Some(1), ..Query::kind("vm") };
        assert_eq!(names(&tx.list(&page)), ["c"]);
        tx.remember("key", answer("x"));
        assert_eq!(tx.recall("key"), Some(answer("x")));
        Ok(())
    })
    .await;
    assert_eq!(names(&store.list(&Query::kind("vm")).items), ["b", "c"]);
}

/// Whether they come in one batch or in two, the second sees the first.
pub async fn a_transaction_sees_earlier_ones_of_its_batch(open: Open<'_>) {
    let store = open(Options::default());
    let creates = (0..32).map(|_| store.transact(|tx| tx.create(new_vm("one"))));
    let outcomes = join(creates).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    let takes = (0..32).map(|at| {
        let owner = key("thing", &format!("t-{at}"));
        store.transact(move |tx| {
            tx.create(NewObject::new(owner.clone(), json!({})))?;
            tx.allocate("port/tcp", "*:80", &owner)
        })
    });
    let outcomes = join(takes).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    assert_eq!(store.list(&Query::kind("thing")).items.len(), 1);
}

pub async fn allocations_are_unique_and_go_with_their_owner(open: Open<'_>) {
    let store = open(Options::default());
    for text in ["a", "b"] {
        create(&store, text).await;
    }
    done(&store, |tx| {
        tx.allocate("ip/n", "10.0.0.2", &vm("a"))?;
        tx.allocate("ip/m", "10.0.0.2", &vm("b"))?;
        tx.allocate("mac", "52:54:00:00:00:01", &vm("a"))?;
        tx.allocate("mac", "52:54:00:00:00:01", &vm("a"))
    })
    .await;
    let taken = store.transact(|tx| tx.allocate("ip/n", "10.0.0.2", &vm("b"))).await;
    let (space, value) = ("ip/n".to_owned(), "10.0.0.2".to_owned());
    assert_eq!(taken, Err(Transact::Refused(TxError::Taken { space, value, owner: vm("a") })));
    let held = done(&store, |tx| {
        tx.release("ip/n", "10.0.0.2", &vm("b"));
        Ok(tx.allocations(&vm("a")))
    })
    .await;
    let pairs = [("ip/n", "10.0.0.2"), ("mac", "52:54:00:00:00:01")];
    assert_eq!(held, pairs.map(|(s, v)| (s.to_owned(), v.to_owned())));
    // Moved to another owner, in one transaction.
    done(&store, |tx| {
        tx.release("ip/n", "10.0.0.2", &vm("a"));
        assert_eq!((tx.owner_of("ip/n", "10.0.0.2"), tx.taken_of("ip/n")), (None, 0));
        tx.allocate("ip/n", "10.0.0.2", &vm("b"))?;
        tx.allocate("ip/n", "10.0.0.3", &vm("b"))?;
        tx.release("ip/n", "10.0.0.3", &vm("b"));
        assert_eq!((tx.taken_of("ip/n"), tx.taken_of("mac"), tx.taken_of("none")), (1, 1, 0));
        Ok(())
    })
    .await;
    store.close().await.expect("closed");
    let store = open(Options::default());
    assert_eq!(store.owner_of("ip/n", "10.0.0.2"), Some(vm("b")));
    assert_eq!(store.allocations().len(), 3);
    remove(&store, "b").await;
    assert_eq!(store.owner_of("ip/n", "10.0.0.2"), None);
    done(&store, |tx| {
        tx.release_all(&vm("a"));
        Ok(())
    })
    .await;
    assert!(store.allocations().is_empty());
    store.close().await.expect("closed");
    assert!(open(Options::default()).allocations().is_empty());
}

pub async fn an_allocation_does_not_outlive_the_transaction_without_an_owner(open: Open<'_>) {
    let store = open(Options::default());
    done(&store, |tx| tx.allocate("mac", "x", &vm("none"))).await;
    assert!(store.allocations().is_empty());
    done(&store, |tx| {
        tx.allocate("mac", "x", &vm("web"))?;
        tx.create(new_vm("web"))
    })
    .await;
    assert_eq!(store.owner_of("mac", "x"), Some(vm("web")));
    store.close().await.expect("closed");
    assert_eq!(open(Options::default()).allocations().len(), 1);
}

pub async fn callers_share_commits(open: Open<'_>) {
    let store = open(Options::default());
    let callers = (0..200).map(|at| {
        let store = store.clone();
        tokio::spawn(async move { create(&store, &format!("vm-{at}")).await.revision() })
    });
    let mut revisions: Vec<u64> = join(callers).await.into_iter().map(|r| r.expect("no panic")).collect();
    revisions.sort_unstable();
    assert_eq!(revisions, (1..=200).collect::<Vec<_>>());
    let stats = store.stats();
    assert_eq!(stats.transactions, 200);
    assert!(stats.commits < 100, "{} commits for 200 callers at once", stats.commits);
    assert_eq!((stats.objects, stats.waiting, stats.failed_commits), (200, 0, 0));
}

pub async fn a_caller_that_goes_away_takes_nothing_back(open: Open<'_>) {
    let store = open(Options::default());
    let mut gone = Box::pin(store.transact(|tx| tx.create(new_vm("web"))));
    // Polled once, so that it is under way, and dropped.
    drop(futures_poll_once(&mut gone).await);
    drop(gone);
    create(&store, "next").await;
    assert!(store.get(&vm("web")).is_some());
}

pub async fn closing_finishes_what_waits(open: Open<'_>) {
    let store = open(Options::default());
    let waiting: Vec<_> = (0..50)
        .map(|at| {
            let store = store.clone();
            tokio::spawn(async move { store.transact(move |tx| tx.create(new_vm(&format!("v-{at}")))).await })
        })
        .collect();
    tokio::task::yield_now().await;
    let other = store.clone();
    store.close().await.expect("closed");
    let mut made = 0;
    for outcome in join(waiting).await {
        match outcome.expect("no panic") {
            Ok(_) => made += 1,
            Err(error) => assert_eq!(error, Transact::Failed(StoreError::Closed)),
        }
    }
    let refused = other.transact(|tx| tx.create(new_vm("late"))).await;
    assert_eq!(refused, Err(Transact::Failed(StoreError::Closed)));
    assert_eq!(other.list(&Query::kind("vm")).items.len(), made, "reading goes on");
    let store = open(Options::default());
    assert_eq!(store.stats().objects, made);
    set_status_of_any(&store).await;
}

async fn set_status_of_any(store: &agentd_store::Store) {
    create(store, "one").await;
    set_status(store, "one", json!({"state": "running"})).await;
}

async fn join<F: Future>(all: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    // Polled together: they are all queued before the first is waited for.
    let mut running: Vec<_> = all.into_iter().map(|one| (Box::pin(one), None)).collect();
    std::future::poll_fn(|cx| {
        let mut waiting = false;
        for (one, output) in running.iter_mut().filter(|(_, output)| output.is_none()) {
            match one.as_mut().poll(cx) {
                std::task::Poll::Ready(ready) => *output = Some(ready),
                std::task::Poll::Pending => waiting = true,
            }
        }
        if waiting { std::task::Poll::Pending } else { std::task::Poll::Ready(()) }
    })
    .await;
    running.into_iter().filter_map(|(_, output)| output).collect()
}

async fn futures_poll_once<F: Future + Unpin>(one: &mut F) -> Option<F::Output> {
    std::future::poll_fn(|cx| match std::pin::Pin::new(&mut *one).poll(cx) {
        std::task::Poll::Ready(ready) => std::task::Poll::Ready(Some(ready)),
        std::task::Poll::Pending => std::task::Poll::Ready(None),
    })
    .await
}
