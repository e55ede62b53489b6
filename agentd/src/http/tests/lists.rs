//! Lists: selectors, pages, projects.

use std::collections::BTreeSet;
use std::io::IoSlice;

use serde_json::Value;

use super::served::{Answer, Served, key, labelled, vm, vm_key};
use crate::http::joined::ListBody;
use agentd_store::{NewObject, Query};
use bytes::Buf;

fn names(answer: &Answer) -> Vec<String> {
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    let list = answer.json();
    list["items"]
        .as_array()
        .expect("items")
        .iter()
        .map(|i| i["name"].as_str().expect("a name").to_owned())
        .collect()
}

#[tokio::test]
async fn a_list_is_the_objects_and_the_revision_they_are_of() {
    let server = Served::start().await;
    let empty = server.call("GET", "/v1/vms").await;
    assert_eq!(empty.json(), serde_json::json!({"items": [], "revision": 0, "continue": null}));
    server.put(vec![vm("b"), vm("a")]).await;
    let list = server.call("GET", "/v1/vms").await;
    assert_eq!(names(&list), ["a", "b"]);
    assert_eq!(list.header("content-type"), "application/json");
    assert_eq!(list.header("content-length"), list.body.len().to_string());
    assert_eq!(list.json()["revision"].as_u64(), Some(server.store.revision()));
    assert_eq!(list.json()["items"][0], server.call("GET", "/v1/vms/a").await.json());
}

#[tokio::test]
async fn a_long_list_arrives_whole() {
    let server = Served::start().await;
    server.put((0..3000).map(|n| vm(&format!("vm-{n:04}"))).collect()).await;
    let list = server.call("GET", "/v1/vms").await;
    assert!(list.body.len() > 1 << 20, "{} bytes are more than one piece", list.body.len());
    let wanted: Vec<String> = (0..3000).map(|n| format!("vm-{n:04}")).collect();
    assert_eq!(names(&list), wanted);
}

#[tokio::test]
async fn a_list_is_the_same_bytes_however_it_is_read() {
    let server = Served::start().await;
    for count in [0, 1, 2, 127, 128, 129, 300] {
        server.put((0..count).map(|n| vm(&format!("vm-{count}-{n:04}"))).collect()).await;
        let items = server.store.list(&Query::kind("vm")).items;
        let texts: Vec<_> = items.iter().map(|i| String::from_utf8_lossy(&i.json()).into_owned()).collect();
        let whole = format!(r#"{{"items":[{}],"revision":7,"continue":"x"}}"#, texts.join(","));
        for step in [1, 3, 1000, 70_000] {
            let mut list = ListBody::new(items.clone(), 7, Some("x"));
            assert_eq!(list.left(), whole.len() as u64);
            let mut read = Vec::new();
            while let Some(mut part) = list.next() {
                while part.has_remaining() {
                    assert!(!part.chunk().is_empty());
                    let mut slices = [IoSlice::new(&[]); 5];
                    let found = part.chunks_vectored(&mut slices);
                    let joined = slices[..found].iter().flat_map(|slice| slice.iter().copied());
                    let joined: Vec<u8> = joined.take(step).collect();
                    let now = joined.len();
                    assert!(now > 0 && joined.starts_with(&part.chunk()[..now.min(part.chunk().len())]));
                    read.extend_from_slice(&joined);
                    part.advance(now);
                }
                assert!(part.chunk().is_empty());
            }
            assert_eq!(list.left(), 0);
            assert!(read == whole.as_bytes(), "{count} objects in steps of {step}");
        }
    }
}

#[tokio::test]
async fn selectors_select() {
    let server = Served::start().await;
    server
        .put(vec![
            labelled("a", &[("tier", "web"), ("old", "")]),
            labelled("b", &[("tier", "web")]),
            labelled("c", &[("tier", "db")]),
            vm("d"),
        ])
        .await;
    server.set_state(&vm_key("b"), "running").await;
    for (query, wanted) in [
        ("labels=tier%3Dweb", &["a", "b"][..]),
        ("labels=tier=web,!old", &["b"]),
        ("labels=tier!=web", &["c", "d"]),
        ("labels=tier", &["a", "b", "c"]),
        ("fields=state=running", &["b"]),
        ("fields=state!=running&labels=tier", &["a", "c"]),
        ("fields=image=micro", &["a", "b", "c", "d"]),
        ("fields=name=c", &["c"]),
        ("fields=name!=c&labels=tier", &["a", "b"]),
        ("labels=&fields=", &["a", "b", "c", "d"]),
    ] {
        assert_eq!(names(&server.call("GET", &format!("/v1/vms?{query}")).await), wanted, "{query}");
    }
}

#[tokio::test]
async fn what_a_list_does_not_know_is_refused_by_name() {
    let server = Served::start().await;
    for (query, field) in [
        ("fields=cpus=1", "fields"),
        ("labels=a%20b", "labels"),
        ("limit=0", "limit"),
        ("limit=x", "limit"),
        ("continue=nonsense", "continue"),
        ("continue=%FF", "continue"),
        ("colour=red", "colour"),
        ("watch=maybe", "watch"),
        ("since=1", "since"),
        ("watch=true&limit=5", "limit"),
        ("project=A", "project"),
    ] {
        server.call("GET", &format!("/v1/vms?{query}")).await.refused(field);
    }
}

#[tokio::test]
async fn a_project_is_the_default_one_or_the_one_named_or_all() {
    let server = Served::start().await;
    let other = NewObject { key: key("vm", "other", "b"), ..vm("b") };
    server.put(vec![vm("a"), other]).await;
    assert_eq!(names(&server.call("GET", "/v1/vms").await), ["a"]);
    assert_eq!(names(&server.call("GET", "/v1/vms?project=other").await), ["b"]);
    assert_eq!(names(&server.call("GET", "/v1/vms?project=*").await), ["a", "b"]);
    assert_eq!(names(&server.call("GET", "/v1/vms?project=none").await), Vec::<String>::new());
}

#[tokio::test]
async fn pages_show_each_object_that_stays_exactly_once() {
    let server = Served::start().await;
    server.put((0..50).map(|n| vm(&format!("stays-{n:02}"))).collect()).await;
    server.put((0..50).map(|n| vm(&format!("goes-{n:02}"))).collect()).await;
    let mut seen = Vec::new();
    let mut after: Option<String> = None;
    for round in 0.. {
        let token =
            after.as_ref().map(|t| format!("&continue={}", t.replace('/', "%2F"))).unwrap_or_default();
        let page = server.call("GET", &format!("/v1/vms?limit=7{token}")).await;
        let page_names = names(&page);
        assert!(page_names.len() <= 7);
        seen.extend(page_names);
        // Meanwhile objects come, change and go, the one that the page ended with among them.
        if round < 7 {
            server.remove(&vm_key(&format!("goes-{:02}", round * 7 + 6))).await;
        }
        server.put(vec![vm(&format!("new-{round:02}"))]).await;
        server.set_state(&vm_key(&format!("stays-{round:02}")), "running").await;
        match &page.json()["continue"] {
            Value::String(next) => after = Some(next.clone()),
            _ => break,
        }
    }
    let unique: BTreeSet<&String> = seen.iter().collect();
    assert_eq!(unique.len(), seen.len(), "nothing is shown twice");
    for n in 0..50 {
        assert!(unique.contains(&format!("stays-{n:02}")), "stays-{n:02} was shown");
    }
}
