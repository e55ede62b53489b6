//! What a change says of itself, and lists that show what serves all projects.

use agent_tests::sim::Sim;

#[test]
fn vm_set_says_what_waits_for_a_restart() {
    let sim = Sim::start(&[]);
    sim.ok(&["vm", "run", "web", "--image", "micro"]);
    let set = |arguments: &[&str]| {
        let answer = sim.ctl(&[&["vm", "set", "web"], arguments].concat());
        assert!(answer.status == 0 && answer.stderr.ends_with("changed\n"), "{answer:?}");
        answer.stderr
    };
    assert!(!set(&["--restart", "always"]).contains("hint:"), "the host does that alone");
    let said = set(&["--watchdog", "reset"]);
    let waits = said.lines().find(|line| line.contains("watchdog")).unwrap_or_else(|| panic!("{said}"));
    assert!(waits.starts_with("vm/web: "), "{said}");
    assert!(said.contains("\nhint: agentctl vm restart web\n"), "{said}");
    // Nobody who does not wait is told.
    assert!(!set(&["--watchdog", "record", "--no-wait"]).contains("hint:"));
    let said = sim.ctl(&["vm", "set", "web", "--watchdog", "record", "--dry-run"]);
    assert!(said.status == 0 && said.stderr.ends_with("vm/web: would be changed\n"), "{said:?}");
    sim.ok(&["vm", "restart", "web"]);
    assert!(!set(&["--grace", "9s"]).contains("hint:"), "nothing waits any more");
}

#[test]
fn flavors_of_the_project_default_are_listed_in_all() {
    let sim = Sim::start(&[]);
    let shipped = sim.ok(&["flavor", "list", "-o", "name"]);
    assert!(shipped.contains("flavor/small\n"), "{shipped}");
    let other = |arguments: &[&str]| sim.ok(&[&["--project", "other", "flavor"][..], arguments].concat());
    assert_eq!(other(&["list", "-o", "name"]), shipped);
    other(&["create", "small", "--cpus", "7", "--memory", "256MiB"]);
    other(&["create", "tiny", "--cpus", "1", "--memory", "64MiB"]);
    let table = other(&["list"]);
    let projects: Vec<_> = table.lines().filter_map(|line| line.split_once(' ')).collect();
    for (name, project) in [("small", "other"), ("tiny", "other"), ("medium", "default")] {
        let of: Vec<_> = projects.iter().filter(|(n, _)| *n == name).map(|(_, rest)| rest.trim()).collect();
        assert!(of.len() == 1 && of[0].starts_with(project), "{name} in {table}");
    }
    // What hides one of the project default's hides it also where it is not selected itself.
    assert_eq!(other(&["list", "--field", "name=small", "-o", "name"]), "flavor/small\n");
    assert_eq!(other(&["list", "-l", "nobody=has", "-o", "name"]), "");
    let list: serde_json::Value = serde_json::from_str(&other(&["list", "-o", "json"])).expect("JSON");
    assert_eq!(list["items"].as_array().map(Vec::len), Some(table.lines().count() - 1));
    assert!(!sim.ok(&["flavor", "list", "-o", "name"]).contains("tiny"), "nobody else has it");
}
