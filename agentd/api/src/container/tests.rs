use super::*;
use crate::quantity::Span;
use serde_json::{Value, json};

fn spec(json: Value) -> Result<ContainerSpec, Vec<FieldError>> {
    crate::registry::parse_spec::<Container>(&json)
}

fn wrong(json: Value) -> Vec<String> {
    spec(json).expect_err("refused").into_iter().map(|e| e.field).collect()
}

#[test]
fn defaults_are_those_of_the_contract() {
    let container = spec(json!({"image": "micro"})).expect("a spec");
    assert_eq!(container.networks.len(), 1);
    assert_eq!((container.desired, container.grace), (ContainerDesired::Running, Span::seconds(10)));
    assert!(container.command.is_empty() && container.entrypoint.is_none() && !container.privileged);
    let json = serde_json::to_value(&container).expect("json");
    assert_eq!(json["privileged"], false, "every table shows it");
}

#[test]
fn each_bad_field_is_named() {
    let fields = wrong(json!({
        "image": "micro", "command": ["a\u{0}b"], "env": {"A=B": "c"}, "cwd": "tmp", "user": "", "stop_signal": "SIGFOO",
        "cpus": 0.001, "memory": "1MiB", "pids": 0, "shm": "1B", "grace": "2h", "cpu_shares": 0,
        "ulimits": {"nofile": {"soft": 10, "hard": 5}, "files": {"soft": 1}},
        "disk_limits": {"read": "1B"},
        "networks": [{"network": "default", "limits": {"inbound": "1MiB"}}],
        "publish": [{"host": 0, "guest": 1}],
        "mounts": [
            {"path": "/", "source": {"tmpfs": {}}},
            {"path": "/a", "source": {"bind": "../etc"}},
            {"path": "/a/", "source": {"tmpfs": {"size": "1B"}}, "read_only": true},
        ],
        "after": [{}, {"container": "a", "vm": "b"}],
        "health": {"command": ["true"], "interval": "0s", "retries": 0},
        "cap_add": ["net_admin", "ALL"], "privileged": false, "autostart": {"order": 70000},
    }));
    for field in [
        "command",
        "env",
        "cwd",
        "user",
        "stop_signal",
        "cpus",
        "memory",
        "pids",
        "shm",
        "grace",
        "cpu_shares",
        "ulimits.nofile",
        "ulimits.files",
        "disk_limits.read",
        "networks[0].limits",
        "publish[0]",
        "mounts[0].path",
        "mounts[1].source.bind",
        "mounts[2].path",
        "mounts[2].read_only",
        "mounts[2].source.tmpfs.size",
        "after[0]",
        "after[1]",
        "health.interval",
        "health.retries",
        "cap_add[0]",
        "cap_add",
        "autostart.order",
    ] {
        assert!(fields.contains(&format!("spec.{field}")), "{field} in {fields:?}");
    }
    assert_eq!(wrong(json!({"image": "micro", "swap": "1GiB"})), ["spec.swap"]);
    assert_eq!(wrong(json!({"image": "micro", "userns": true, "privileged": true})), ["spec.userns"]);
}

#[test]
fn what_cannot_be_read_is_named_too() {
    assert_eq!(wrong(json!({"image": "-x"})), ["spec.image"]);
    assert_eq!(wrong(json!({"image": "x", "cpus": "one"})), ["spec.cpus"]);
    assert_eq!(wrong(json!({"image": "x", "cpu": 1})), ["spec.cpu"]);
    let two = json!({"image": "x", "mounts": [{"path": "/a", "source": {"bind": "/a", "volume": "v"}}]});
    assert!(wrong(two)[0].starts_with("spec.mounts[0].source"));
}

#[test]
fn signals_are_those_of_a_kernel() {
    let takes = |signal: &str| spec(json!({"image": "x", "stop_signal": signal})).is_ok();
    for good in ["SIGINT", "TERM", "9", "SIGRTMIN+3", "RTMAX-1"] {
        assert!(takes(good), "{good}");
    }
    for bad in ["", "0", "65", "sigint", "SIGRTMIN+99", "SIG"] {
        assert!(!takes(bad), "{bad}");
    }
}
