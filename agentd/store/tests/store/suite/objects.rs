//! Objects, one at a time.

use agentd_api::ObjectKey;
use agentd_api::vm::Vm;
use agentd_store::{Expect, NewObject, Options, Query, Transact, Tx, TxError, Update};
use serde_json::json;

use crate::fixture::{Open, create, done, dump, event, key, labels, name, new_vm, remove, set_status, vm};

pub async fn an_object_is_as_it_was_written(open: Open<'_>) {
    let store = open(Options::default());
    let new = NewObject {
        labels: labels(&[("tier", "front"), ("empty", "")]),
        annotations: [("note".to_owned(), "any \"text\"\n\u{1F600}".to_owned())].into(),
        finalizers: vec!["domain".to_owned(), "network".to_owned()],
        ..new_vm("web")
    };
    let made = done(&store, move |tx| tx.create(new.clone())).await;
    let object = made.object::<Vm>().expect("a VM");
    assert_eq!(object.meta.key(), vm("web"));
    assert_eq!((object.meta.id, object.meta.revision, object.meta.generation), (made.id(), 1, 1));
    assert_eq!(object.meta.annotations["note"], "any \"text\"\n\u{1F600}");
    assert_eq!(object.meta.finalizers, ["domain", "network"]);
    assert_eq!(object.meta.created_at, made.created_at());
    assert_eq!(object.spec.image.as_str(), "micro");
    assert_eq!(
        (made.label("tier"), made.label("empty"), made.label("none")),
        (Some("front"), Some(""), None)
    );
    assert_eq!(made.field("network").collect::<Vec<_>>(), ["default"]);
    assert_eq!(made.field("state").collect::<Vec<_>>(), ["pending"]);
    assert_eq!(made.field("no-such").count(), 0);
    assert_eq!(store.get(&vm("web")).as_ref(), Some(&made));
    assert_eq!(store.by_id(made.id()).as_ref(), Some(&made));
    assert_eq!(made.value()["spec"]["memory"], "512MiB");
    assert!(made.object::<agentd_api::image::Image>().is_err(), "a VM is no image");
    let top: Vec<String> = serde_json::from_slice::<serde_json::Map<String, _>>(&made.json())
        .expect("JSON")
        .keys()
        .cloned()
        .collect();
    assert_eq!(top.len(), 13, "the envelope of the contract: {top:?}");
}

pub async fn a_name_exists_once(open: Open<'_>) {
    let store = open(Options::default());
    create(&store, "web").await;
    let twice = store.transact(|tx| tx.create(new_vm("web"))).await;
    assert_eq!(twice, Err(Transact::Refused(TxError::AlreadyExists { key: vm("web") })));
    let other_kind = NewObject::new(key("thing", "web"), json!({}));
    done(&store, move |tx| tx.create(other_kind.clone())).await;
    assert_eq!(store.revision(), 2);
}

pub async fn an_update_changes_what_it_says(open: Open<'_>) {
    let store = open(Options::default());
    let made = create(&store, "web").await;
    let seen = set_status(&store, "web", json!({"state": "running"})).await;
    assert_eq!((seen.revision(), seen.generation(), seen.id()), (2, 1, made.id()));
    assert_eq!(seen.value()["spec"], made.value()["spec"]);
    let change = Update {
        spec: Some(json!({"image": "debian-12", "networks": []})),
        labels: Some(labels(&[("a", "b")])),
        annotations: Some([("x".to_owned(), "y".to_owned())].into()),
        finalizers: Some(vec!["domain".to_owned()]),
        ..Update::default()
    };
    let all = done(&store, move |tx| tx.update(&vm("web"), Expect::Any, change.clone())).await;
    assert_eq!((all.revision(), all.generation()), (3, 2));
    let value = all.value();
    assert_eq!(value["spec"], json!({"image": "debian-12", "networks": []}));
    assert_eq!(value["status"], json!({"state": "running"}));
    assert_eq!((&value["labels"], &value["annotations"]), (&json!({"a": "b"}), &json!({"x": "y"})));
    assert_eq!(value["finalizers"], json!(["domain"]));
    assert_eq!((value["revision"].as_u64(), value["generation"].as_u64()), (Some(3), Some(2)));
    assert_eq!(value["created_at"], made.value()["created_at"]);
    assert_eq!(all.field("network").count(), 0);
    let touch = Update { touch_generation: true, ..Update::default() };
    let touched = done(&store, move |tx| tx.update(&vm("web"), Expect::Any, touch.clone())).await;
    assert_eq!((touched.revision(), touched.generation()), (4, 3));
}

pub async fn a_change_that_changes_nothing_is_none(open: Open<'_>) {
    let store = open(Options::default());
    let made = create(&store, "web").await;
    let same = Update {
        spec: Some(made.value()["spec"].clone()),
        status: Some(json!({"state": "pending"})),
        labels: Some(labels(&[])),
        annotations: Some([].into()),
        finalizers: Some(Vec::new()),
        deleting: Some(false),
        touch_generation: false,
    };
    let mut watch = store.watch(None).expect("from now");
    let is = done(&store, move |tx| tx.update(&vm("web"), Expect::Any, same.clone())).await;
    assert_eq!(is.json(), made.json());
    assert_eq!(store.revision(), 1);
    assert!(watch.try_next().is_none());
}

pub async fn expectations_are_held(open: Open<'_>) {
    let store = open(Options::default());
    let old = create(&store, "web").await;
    set_status(&store, "web", json!({"state": "running"})).await;
    let change = || Update { touch_generation: true, ..Update::default() };
    let stale = store.transact(move |tx| tx.update(&vm("web"), Expect::Revision(1), change())).await;
    let mismatch = TxError::RevisionMismatch { key: vm("web"), wanted: 1, is: 2 };
    assert_eq!(stale, Err(Transact::Refused(mismatch.clone())));
    let stale = store.transact(|tx| tx.remove(&vm("web"), Expect::Revision(1))).await;
    assert_eq!(stale, Err(Transact::Refused(mismatch)));
    let id = old.id();
    done(&store, move |tx| tx.update(&vm("web"), Expect::Id(id), change())).await;
    done(&store, move |tx| tx.update(&vm("web"), Expect::Revision(3), change())).await;
    done(&store, |tx| tx.remove(&vm("web"), Expect::Revision(4))).await;
    create(&store, "web").await;
    let other = store.transact(move |tx| tx.remove(&vm("web"), Expect::Id(id))).await;
    let gone = TxError::NotFound { key: vm("web") };
    assert_eq!(other, Err(Transact::Refused(gone)));
    let none = store.transact(|tx| tx.remove(&vm("none"), Expect::Any)).await;
    assert_eq!(none, Err(Transact::Refused(TxError::NotFound { key: vm("none") })));
}

pub async fn deleting_is_marked_once(open: Open<'_>) {
    let store = open(Options::default());
    create(&store, "web").await;
    let mark = || Update { deleting: Some(true), ..Update::default() };
    let first = done(&store, move |tx| tx.update(&vm("web"), Expect::Any, mark())).await;
    assert!(first.deleting() && first.value()["deleting_at"].is_string());
    assert_eq!(first.generation(), 1);
    let again = done(&store, move |tx| tx.update(&vm("web"), Expect::Any, mark())).await;
    assert_eq!((again.revision(), again.deleting_at()), (first.revision(), first.deleting_at()));
}

pub async fn everything_is_there_after_reopening(open: Open<'_>) {
    let store = open(Options::default());
    for at in 0..20 {
        let text = format!("vm-{at}");
        let new = NewObject { labels: labels(&[("tier", "front")]), ..new_vm(&text) };
        done(&store, move |tx| {
            tx.record(crate::fixture::event(new.key.name.as_str(), "created"));
            tx.allocate("ip/n", &format!("10.0.0.{at}"), &new.key)?;
            tx.create(new.clone())
        })
        .await;
    }
    set_status(&store, "vm-3", json!({"state": "running"})).await;
    remove(&store, "vm-4").await;
    let before = dump(&store);
    for _ in 0..3 {
        let closing = store.clone();
        closing.close().await.expect("closed");
        let store = open(Options::default());
        assert_eq!(dump(&store), before);
        assert_eq!(store.get(&vm("vm-3")).expect("there").field("state").collect::<Vec<_>>(), ["running"]);
        store.close().await.expect("closed");
    }
    let store = open(Options::default());
    assert_eq!(create(&store, "next").await.revision(), before.revision + 1);
}

pub async fn a_new_object_of_an_old_name_is_another(open: Open<'_>) {
    let store = open(Options::default());
    let old = create(&store, "web").await;
    let new = done(&store, |tx| {
        tx.remove(&vm("web"), Expect::Any)?;
        tx.create(new_vm("web"))
    })
    .await;
    assert_ne!(old.id(), new.id());
    assert_eq!((new.revision(), new.generation()), (3, 1));
    assert_eq!(store.by_id(old.id()), None);
    store.close().await.expect("closed");
    let store = open(Options::default());
    assert_eq!(store.get(&vm("web")).map(|object| object.id()), Some(new.id()));
    assert_eq!(store.stats().objects, 1);
}

/// More than are read at a time, of two kinds, with what they have taken.
pub async fn a_crowd_is_there_after_reopening(open: Open<'_>) {
    let store = open(Options::default());
    for from in (0..900).step_by(100) {
        let some = move |tx: &mut dyn Tx| {
            for at in from..from + 100 {
                let kind = if at % 3 == 0 { "network" } else { "vm" };
                let key = ObjectKey::new(kind, name("default"), name(&format!("one-{at}")));
                tx.allocate("ip", &format!("10.0.{}.{}", at / 250, at % 250), &key)?;
                tx.create(NewObject { key, ..new_vm("any") })?;
                tx.record(event(&format!("one-{at}"), "created"));
            }
            Ok(())
        };
        done(&store, some).await;
    }
    let before = dump(&store);
    assert_eq!((before.objects.len(), before.allocations.len(), before.changes.len()), (900, 900, 900));
    store.close().await.expect("closed");
    let store = open(Options::default());
    assert!(store.list(&Query::kind("vm")).items.len() == 600, "before anybody has asked for the past");
    assert_eq!(dump(&store), before);
}
