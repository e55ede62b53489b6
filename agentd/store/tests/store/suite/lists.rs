//! Lists, their pages and their selectors.

use agentd_api::ObjectKey;
use agentd_store::{Expect, LabelSelector, NewObject, Options, Query, Store, Update};
use serde_json::json;

use crate::fixture::{Open, create, done, labels, name, names, new_vm, remove, set_status, vm};

pub async fn lists_are_in_order_of_project_and_name(open: Open<'_>) {
    let store = open(Options::default());
    for (project, text) in [("prod-eu", "a"), ("prod", "b"), ("default", "z"), ("prod", "a-1"), ("prod", "a")]
    {
        let key = ObjectKey::new("vm", name(project), name(text));
        let new = NewObject { key, ..new_vm("any") };
        done(&store, move |tx| tx.create(new.clone())).await;
    }
    let listed = |query: &Query| -> Vec<String> {
        let shown =
            |object: &std::sync::Arc<agentd_store::Stored>| format!("{}/{}", object.project(), object.name());
        store.list(query).items.iter().map(shown).collect()
    };
    assert_eq!(listed(&Query::kind("vm")), ["default/z", "prod/a", "prod/a-1", "prod/b", "prod-eu/a"]);
    let prod = Query { project: Some(name("prod")), ..Query::kind("vm") };
    assert_eq!(listed(&prod), ["prod/a", "prod/a-1", "prod/b"], "and nothing of prod-eu");
    assert!(listed(&Query::kind("image")).is_empty());
    assert_eq!(store.list(&Query::kind("image")).revision, 5);
}

pub async fn pages_are_stable_while_objects_change(open: Open<'_>) {
    let store = open(Options::default());
    for at in 0..10 {
        create(&store, &format!("vm-{at}")).await;
    }
    let mut query = Query { limit: Some(3), ..Query::kind("vm") };
    let mut seen = Vec::new();
    for round in 0.. {
        let page = store.list(&query);
        seen.extend(page.items.iter().map(|object| object.name().to_string()));
        let Some(next) = page.next else { break };
        assert!(Query::is_token(&next));
        query.after = Some(next);
        // Behind the page and before it: neither repeats nor hides what was there all the time.
        remove(&store, &format!("vm-{round}")).await;
        create(&store, &format!("vm-{round}-again")).await;
        set_status(&store, "vm-9", json!({"state": "running", "reason": round.to_string()})).await;
    }
    let lasting = (3..10).map(|at| format!("vm-{at}"));
    for text in lasting {
        assert_eq!(seen.iter().filter(|one| **one == text).count(), 1, "{text} in {seen:?}");
    }
    let exact = store.list(&Query { limit: Some(10), ..Query::kind("vm") });
    assert_eq!((exact.items.len(), exact.next), (10, None), "no empty page behind a full last one");
    assert!(!Query::is_token("x") && !Query::is_token("../x/y"));
}

async fn crowd(store: &Store) {
    for at in 0..60 {
        let text = format!("vm-{at}");
        let mut given = vec![("tier", if at % 3 == 0 { "front" } else { "back" })];
        if at % 4 == 0 {
            given.push(("canary", ""));
        }
        let networks: Vec<_> = (0..at % 3).map(|n| json!({"network": format!("net-{n}")})).collect();
        let new = NewObject {
            labels: labels(&given),
            spec: json!({"image": if at % 2 == 0 { "micro" } else { "debian-12" }, "networks": networks}),
            status: json!({"state": if at % 5 == 0 { "running" } else { "stopped" }}),
            ..new_vm(&text)
        };
        done(store, move |tx| tx.create(new.clone())).await;
    }
}

fn queries() -> Vec<Query> {
    use LabelSelector::{Equals, Has, HasNot, NotEquals};
    let text = str::to_owned;
    let selectors = vec![
        vec![],
        vec![Equals(text("tier"), text("front"))],
        vec![NotEquals(text("tier"), text("front"))],
        vec![Has(text("canary"))],
        vec![HasNot(text("canary")), Equals(text("tier"), text("back"))],
        vec![Equals(text("canary"), text(""))],
        vec![Equals(text("tier"), text("none"))],
        vec![Has(text("none"))],
        vec![NotEquals(text("none"), text("x"))],
    ];
    let fields = vec![
        vec![],
        vec![(text("state"), true, text("running"))],
        vec![(text("state"), false, text("running"))],
        vec![(text("network"), true, text("net-1"))],
        vec![(text("network"), false, text("net-1")), (text("image"), true, text("micro"))],
        vec![(text("state"), true, text("none"))],
        vec![(text("undeclared"), true, text("x"))],
        vec![(text("undeclared"), false, text("x"))],
    ];
    let mut all = Vec::new();
    for labels in &selectors {
        for fields in &fields {
            all.push(Query { labels: labels.clone(), fields: fields.clone(), ..Query::kind("vm") });
        }
    }
    all
}

/// What an index finds is what looking at every object finds.
fn check(store: &Store) -> usize {
    let everything = store.list(&Query::kind("vm")).items;
    let mut found = 0;
    for query in queries() {
        let wanted: Vec<_> = everything.iter().filter(|object| query.matches(object)).cloned().collect();
        let listed = store.list(&query).items;
        assert_eq!(names(&listed), names(&wanted), "{query:?}");
        let jsons = |all: &[std::sync::Arc<agentd_store::Stored>]| -> Vec<bytes::Bytes> {
            all.iter().map(|object| object.json().clone()).collect()
        };
        assert_eq!(jsons(&listed), jsons(&wanted), "and as they are now: {query:?}");
        found += wanted.len();
    }
    found
}

pub async fn selectors_find_just_what_matches(open: Open<'_>) {
    let store = open(Options::default());
    crowd(&store).await;
    assert!(check(&store) > 500, "the queries find something");
    store.close().await.expect("closed");
    let store = open(Options::default());
    assert!(check(&store) > 500, "and so they do in indexes that were built at the start");
}

pub async fn indexes_follow_changes(open: Open<'_>) {
    let store = open(Options::default());
    crowd(&store).await;
    for at in (0..60).step_by(7) {
        let text = format!("vm-{at}");
        match at % 3 {
            0 => remove(&store, &text).await,
            1 => drop(set_status(&store, &text, json!({"state": "running"})).await),
            _ => {
                let change = Update {
                    labels: Some(labels(&[("canary", "x")])),
                    spec: Some(
                        json!({"image": "micro", "networks": [{"network": "net-1"}, {"network": "net-1"}]}),
                    ),
                    ..Update::default()
                };
                let key = vm(&text);
                done(&store, move |tx| tx.update(&key, Expect::Any, change.clone())).await;
            }
        }
        check(&store);
    }
    for at in 0..60 {
        if store.get(&vm(&format!("vm-{at}"))).is_some() {
            remove(&store, &format!("vm-{at}")).await;
        }
    }
    assert_eq!(check(&store), 0);
}
