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

#[test]
fn each_bad_policy_and_limit_is_named() {
    let bad = spec(serde_json::json!({
        "image": "micro", "cpus": 3,
        "networks": [{"network": "default", "limits": {"inbound": "1KiB", "outbound": "5000B"}}],
        "autostart": {"order": 70000, "delay": "2h"},
        "network_config": "a\u{0}b",
        "disk_limits": {"read": "1B", "write": "2000TiB", "read_iops": 0, "write_iops": 200000000},
        "cpu_pinning": ["0", "1"],
        "cpu_shares": 0,
    }))
    .expect("a spec");
    let fields: Vec<String> = Vm::check(&bad).into_iter().map(|e| e.field).collect();
    for field in [
        "networks[0].limits.inbound",
        "networks[0].limits.outbound",
        "autostart.order",
        "autostart.delay",
        "network_config",
        "disk_limits.read",
        "disk_limits.write",
        "disk_limits.read_iops",
        "disk_limits.write_iops",
        "cpu_pinning",
        "cpu_shares",
    ] {
        assert!(fields.contains(&format!("spec.{field}")), "{field} in {fields:?}");
    }
    for (field, value) in [
        ("cpu_pinning", serde_json::json!(["one"])),
        ("watchdog", serde_json::json!("bark")),
        ("expires_at", serde_json::json!("tomorrow")),
        ("autostart", serde_json::json!({"prio": 1})),
    ] {
        let mut wish = serde_json::json!({"image": "micro"});
        wish[field] = value;
        let errors = crate::registry::parse_spec::<Vm>(&wish).expect_err("refused");
        assert!(errors[0].field.starts_with(&format!("spec.{field}")), "{errors:?}");
    }
}

#[test]
fn a_missing_and_a_zero_expiry_are_never() {
    for never in [serde_json::json!(null), serde_json::json!("1970-01-01T00:00:00Z")] {
        let vm = spec(serde_json::json!({"image": "micro", "expires_at": never})).expect("a spec");
        assert_eq!(vm.expiry(), None);
    }
    assert_eq!(spec(serde_json::json!({"image": "micro"})).expect("a spec").expiry(), None);
    let at = "2026-01-02T03:04:05Z";
    let vm = spec(serde_json::json!({"image": "micro", "expires_at": at})).expect("a spec");
    assert_eq!(vm.expiry().map(|at| at.to_string()).as_deref(), Some(at));
}
