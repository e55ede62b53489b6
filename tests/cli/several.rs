//! Several objects at once: by name, by selector, all; past a failure.

use agent_tests::sim::Sim;

fn three() -> Sim {
    let sim = Sim::start(&[]);
    for (name, tier) in [("a", "tier=front"), ("b", "tier=front"), ("c", "tier=back")] {
        sim.ok(&["vm", "run", name, "--image", "micro", "--label", tier, "-o", "name"]);
    }
    sim
}

#[test]
fn a_failure_in_the_middle_stops_nothing() {
    let sim = three();
    let answer = sim.ctl(&["vm", "stop", "a", "nobody", "b", "a"]);
    assert_eq!(answer.status, 3, "{answer:?}");
    assert!(answer.stderr.contains("error: vm/nobody: "), "{answer:?}");
    assert_eq!(answer.stderr.matches("vm/a: stopped").count(), 1, "{answer:?}");
    assert_eq!(["a", "b", "c"].map(|n| sim.state(&format!("vm/{n}"))), ["stopped", "stopped", "running"]);

    let shown = sim.ctl(&["vm", "show", "nobody", "c", "-o", "name"]);
    assert_eq!((shown.status, shown.stdout.as_str()), (3, "vm/c\n"), "{shown:?}");
    let got = sim.ctl(&["get", "vm/a", "vm/nobody", "image/micro", "vm/c", "-o", "name"]);
    assert_eq!((got.status, got.stdout.as_str()), (3, "vm/a\nvm/c\nimage/micro\n"), "{got:?}");
}

#[test]
fn a_selector_is_those_that_match_and_no_others() {
    let sim = three();
    assert_eq!(sim.ok(&["vm", "list", "-l", "tier=front", "-o", "name"]), "vm/a\nvm/b\n");
    assert_eq!(sim.ok(&["get", "vm", "-l", "tier!=front", "-o", "name"]), "vm/c\n");
    let dry = sim.ctl(&["vm", "rm", "-l", "tier=front", "--dry-run"]);
    assert!(dry.stderr.contains("vm/a: would be deleted") && !dry.stderr.contains("vm/c"), "{dry:?}");
    sim.ok(&["vm", "rm", "-l", "tier=front"]);
    assert_eq!(sim.ok(&["get", "vm", "-o", "name"]), "vm/c\n");
    let none = sim.ctl(&["vm", "rm", "-l", "tier=front"]);
    assert_eq!((none.status, none.stderr.as_str()), (0, "no vms match\n"));
    sim.ok(&["vm", "rm", "--all"]);
    assert_eq!(sim.ok(&["get", "vm", "-o", "name"]), "");
}

#[test]
fn names_are_whole_names() {
    let sim = Sim::start(&[]);
    for name in ["prod", "prod-eu"] {
        sim.ok(&["vm", "run", name, "--image", "micro"]);
    }
    sim.ok(&["delete", "vm", "prod"]);
    assert_eq!(sim.ok(&["get", "vm", "-o", "name"]), "vm/prod-eu\n");
    sim.ok(&["delete", "vm/prod-eu", "image/micro"]);
    assert_eq!(sim.ok(&["get", "vm", "-o", "name"]) + &sim.ok(&["get", "image", "-o", "name"]), "");
}
