//! The document says what is so: it is the committed one, its references lead somewhere, it knows every place.

use std::collections::BTreeSet;

use super::*;

const COMMITTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/api/openapi.json");

#[test]
fn openapi_is_as_committed() {
    let is = text();
    if std::env::var_os("UPDATE_OPENAPI").is_some() {
        std::fs::write(COMMITTED, &is).expect("written");
    }
    let committed = std::fs::read_to_string(COMMITTED).unwrap_or_default();
    assert!(
        committed == is,
        "agentd/api/openapi.json is not what this code serves. Where the change of the contract is meant:\n    \
         UPDATE_OPENAPI=1 cargo test -p agentd openapi\nand commit the file."
    );
}

fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(target)) = map.get("$ref") {
                found.insert(target.clone());
            }
            map.values().for_each(|v| references(v, found));
        }
        Value::Array(items) => items.iter().for_each(|v| references(v, found)),
        _ => {}
    }
}

#[test]
fn every_reference_leads_somewhere() {
    for document in [document(), discovery()] {
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        assert!(!found.is_empty());
        for target in found {
            let pointer = target.strip_prefix('#').expect("a reference within the document");
            assert!(document.pointer(pointer).is_some(), "{target}");
        }
    }
}

#[test]
fn operations_are_told_apart_and_know_the_methods_of_their_place() {
    let document = document();
    let mut ids = BTreeSet::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        let concrete = path.replace("{name}", "x");
        let found = crate::http::route::find(&concrete).expect("a documented path leads somewhere");
        let methods: BTreeSet<String> =
            item.as_object().expect("operations").keys().map(|m| m.to_ascii_uppercase()).collect();
        let known: BTreeSet<String> =
            found.allow().split(", ").filter(|m| *m != "HEAD").map(str::to_owned).collect();
        assert_eq!(methods, known, "{path}");
        for operation in item.as_object().expect("operations").values() {
            let id = operation["operationId"].as_str().expect("an id").to_owned();
            assert!(ids.insert(id.clone()), "{id} is there twice");
            assert!(operation["responses"]["403"].is_object(), "{id} can be refused");
        }
    }
}

#[test]
fn what_stays_open_is_marked() {
    let document = document();
    for (path, parameter) in [("/v1/vms", "watch"), ("/v1/events", "follow")] {
        let parameters = document["paths"][path]["get"]["parameters"].as_array().expect("parameters").clone();
        let found = parameters.iter().find(|p| p["name"] == parameter).expect("documented");
        assert_eq!(found["x-stream"], true, "{path} {parameter}");
    }
}
