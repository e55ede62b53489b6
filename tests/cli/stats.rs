//! What guests use, as tables and as the API's own document.

use agent_tests::sim::Sim;
use serde_json::{Value, json};

#[test]
fn figures_of_what_runs() {
    let sim = Sim::start(&[]);
    for name in ["web", "db", "off"] {
        sim.ok(&["vm", "run", name, "--image", "micro", "--memory", "256MiB"]);
    }
    sim.ok(&["vm", "stop", "off"]);
    let table = sim.ok(&["vm", "stats"]);
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with("NAME  CPU ") && lines[0].ends_with("SENT"), "{table}");
    assert!(lines[1].starts_with("db ") && lines[2].starts_with("web ") && lines.len() == 3, "{table}");
    // The fake's guests use a quarter of a CPU.
    let cpu: f64 = lines[1].split_whitespace().nth(1).and_then(|text| text.parse().ok()).expect("a figure");
    assert!((15.0..35.0).contains(&cpu), "{table}");
    assert!(lines[1].contains("128MiB of 256MiB"), "{table}");

    let json: Value = serde_json::from_str(&sim.ok(&["vm", "stats", "web", "-o", "json"])).expect("JSON");
    assert_eq!(json["items"].as_array().map(Vec::len), Some(1), "{json}");
    assert_eq!(json["items"][0]["memory"]["given_bytes"], 256 << 20);
    assert_eq!(json["items"][0]["networks"][0]["network"], "default");

    let off = sim.ctl(&["vm", "stats", "off"]);
    assert_eq!(off.status, 4, "{off:?}");
    assert!(off.stderr.contains("vm/off: does not run") && off.stderr.contains("hint: "), "{off:?}");
    assert_eq!(sim.ctl(&["vm", "stats", "nobody"]).status, 3);
    assert_eq!(sim.ctl(&["vm", "stats", "-o", "name"]).status, 2);

    let top = sim.ok(&["top", "-n", "2", "--interval", "200ms"]);
    assert_eq!(top.matches("vm/web").count(), 2, "{top}");
    let calls =
        || sim.order(&json!({"do": "calls", "target": "vm.stats"}))["calls"].as_u64().expect("a number");
    let before = calls();
    sim.ok(&["vm", "stats", "-o", "json"]);
    assert_eq!(calls() - before, 1, "one call for all guests");
    sim.order(&json!({"do": "available", "available": false}));
    let away = sim.ctl(&["vm", "stats"]);
    assert_eq!(away.status, 1, "{away:?}");
    assert!(away.stderr.contains("the guests' figures cannot be had"), "{away:?}");
}

#[test]
fn one_backend_that_is_away_takes_nothing_from_the_other() {
    let sim = Sim::start(&[]);
    sim.ok(&["vm", "run", "web", "--image", "micro"]);
    sim.ok(&["container", "run", "tool", "--image", "tool"]);
    let all = sim.ok(&["top"]);
    assert!(all.contains("web") && all.contains("tool"), "{all}");
    for (order, here, away) in
        [("available", ("container", "tool"), "vm"), ("engine", ("vm", "web"), "container")]
    {
        sim.order(&json!({"do": order, "available": false}));
        let figures = sim.ok(&[here.0, "stats", here.1, "-o", "json"]);
        assert!(figures.contains(here.1) && !figures.contains("missing"), "{figures}");
        assert_ne!(sim.ctl(&[away, "stats"]).status, 0, "{away}");
        let top = sim.ctl(&["top"]);
        assert_eq!(top.status, 0, "{top:?}");
        assert!(top.stdout.contains(here.1), "{top:?}");
        assert!(top.stderr.starts_with(&format!("{away}s are missing: ")), "{top:?}");
        sim.order(&json!({"do": order, "available": true}));
    }
    for order in ["available", "engine"] {
        sim.order(&json!({"do": order, "available": false}));
    }
    assert_eq!(sim.ctl(&["top"]).status, 1);
}
