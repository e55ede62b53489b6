use agentd_api::registry;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::head;

fn object(kind: &str, spec: Value, status: Value) -> Value {
    json!({
        "kind": kind, "project": "default", "name": "web", "id": "0197a1b2-0000-7000-8000-000000000001",
        "revision": 4, "generation": 2, "labels": {"a": "b", "c": ""}, "annotations": {"x": ["\u{1F600}"]},
        "created_at": "2026-01-02T03:04:05Z", "deleting_at": null, "finalizers": [], "spec": spec, "status": status
    })
}

/// `kind` first, as the store writes it.
fn bytes(object: &Value) -> Vec<u8> {
    let mut map = object.as_object().cloned().expect("an object");
    let kind = map.remove("kind").expect("a kind");
    let rest = serde_json::to_string(&map).expect("JSON");
    format!("{{\"kind\":{kind},{}", &rest[1..]).into_bytes()
}

fn json_values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[a-z\"\\\\é]{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 4, |inner| {
        let names = prop::sample::select(vec![
            "state", "image", "networks", "network", "ssh_keys", "digest", "*", "cidr",
        ]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(names, inner, 0..4)
                .prop_map(|map| map.into_iter().map(|(k, v)| (k.to_owned(), v)).collect::<Value>()),
        ]
    })
}

proptest! {
    /// Whatever stands in an object, skipping through it finds what the contract says its fields are.
    #[test]
    fn fields_are_those_of_the_registry(kind in 0..registry::ALL.len(), spec in json_values(), status in json_values()) {
        let def = registry::ALL[kind].def;
        let object = object(def.kind, spec, status);
        let json = bytes(&object);
        let found = head(&json).expect("an object").fields;
        for (at, field) in def.fields.iter().enumerate() {
            let of_field = found.iter().filter(|(of, _)| usize::from(*of) == at);
            let of_field: Vec<_> = of_field.map(|(_, value)| value.clone()).collect();
            prop_assert_eq!(of_field, registry::field_values(&object, field.path), "{}", field.path);
        }
    }
}

/// The scan looks below the spec and the status only. A field elsewhere would have to be taught to it first.
#[test]
fn all_fields_are_below_spec_or_status() {
    for kind in &registry::ALL {
        for field in kind.def.fields {
            assert!(field.path.starts_with("/spec/") || field.path.starts_with("/status/"), "{}", field.path);
        }
    }
}

#[test]
fn the_envelope_is_read() {
    let json = bytes(&object("vm", json!({"image": "micro"}), json!({"state": "running"})));
    let head = head(&json).expect("an object");
    assert_eq!((head.kind.as_str(), &*head.project, &*head.name), ("vm", "default", "web"));
    assert_eq!((head.revision, head.generation, head.deleting_at), (4, 2, None));
    assert_eq!(head.created_at.to_string(), "2026-01-02T03:04:05Z");
    assert_eq!(head.labels, [("a".into(), "b".into()), ("c".into(), "".into())]);
    assert_eq!(head.fields, [(0, "running".to_owned()), (1, "micro".to_owned())]);
}

#[test]
fn what_is_no_object_is_refused() {
    let whole = bytes(&object("vm", json!({}), json!({})));
    for length in 0..whole.len() {
        assert!(head(&whole[..length]).is_err(), "cut to {length}");
    }
    let mut longer = whole.clone();
    longer.push(b'x');
    assert!(head(&longer).is_err());
    let without = |part: &str| {
        let mut object = object("vm", json!({}), json!({}));
        object.as_object_mut().expect("a map").remove(part);
        bytes(&object)
    };
    for part in ["project", "name", "id", "revision", "generation", "labels", "created_at", "deleting_at"] {
        assert!(head(&without(part)).is_err(), "without {part}");
    }
    assert!(head(br#"{"spec":{},"kind":"vm"}"#).expect_err("order").contains("first"));
}
