use super::*;
use crate::quantity::{ByteSize, Span};

fn spec(json: serde_json::Value) -> Result<VmSpec, serde_json::Error> {
    serde_json::from_value(json)
}

#[test]
fn defaults_are_those_of_the_contract() {
    let vm = spec(serde_json::json!({"image": "micro"})).expect("a spec");
    assert_eq!((vm.cpus, vm.memory, vm.grace), (1, ByteSize::mib(512), Span::seconds(30)));
    assert_eq!(vm.networks.len(), 1);
    assert_eq!(vm.desired, VmDesired::Running);
    assert_eq!(Vm::check(&vm), []);
}

#[test]
fn each_bad_field_is_named() {
    let bad = spec(serde_json::json!({
        "image": "micro", "cpus": 0, "cpus_max": 300, "memory": "1MiB", "memory_max": "512KiB", "disk": "1B", "grace": "2h",
        "user_data": "a\u{0}b",
        "networks": [{"network": "default", "ip": "10.77.0.9"}, {"network": "default", "ip": "10.77.0.9"}],
        "publish": [{"host": 80, "guest": 80}, {"address": "127.0.0.1", "host": 80, "guest": 81}, {"host": 0, "guest": 1}],
    }))
    .expect("a spec");
    let fields: Vec<String> = Vm::check(&bad).into_iter().map(|e| e.field).collect();
    for field in [
        "cpus",
        "cpus_max",
        "memory",
        "memory_max",
        "disk",
        "grace",
        "user_data",
        "networks[1].ip",
        "publish[1].host",
        "publish[2]",
    ] {
        assert!(fields.contains(&format!("spec.{field}")), "{field} in {fields:?}");
    }
}

#[test]
fn unknown_fields_are_refused_by_name() {
    let error = spec(serde_json::json!({"image": "micro", "cpu": 2})).expect_err("refused").to_string();
    assert!(error.contains("cpu"), "{error}");
}
