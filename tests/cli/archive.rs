//! Clones, exports and imports as whole commands.

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use agent_tests::sim::Sim;

fn running() -> Sim {
    let sim = Sim::start(&[]);
    sim.ok(&["image", "build", "micro"]);
    sim.ok(&["vm", "run", "web", "--image", "micro", "--add-disk", "64MiB"]);
    sim
}

#[test]
fn a_vm_is_cloned_exported_and_imported() {
    let sim = running();
    let cloned = sim.ctl(&["vm", "clone", "web", "new", "--full", "--memory", "256MiB"]);
    assert_eq!(cloned.status, 0, "{cloned:?}\n{}", sim.log());
    let new = sim.get("vm/new").expect("it is there");
    assert_eq!((&new["spec"]["memory"], &new["status"]["state"]), (&"256MiB".into(), &"running".into()));
    let off = sim.ctl(&["vm", "clone", "web", "off", "--no-start"]);
    assert_eq!((off.status, sim.state("vm/off").as_str()), (0, "stopped"), "{off:?}");
    let listed = sim.ok(&["vm", "list", "--field", "source=web", "-o", "name"]);
    assert_eq!(listed, "vm/new\nvm/off\n");
    let refused = sim.ctl(&["vm", "clone", "nobody", "other"]);
    assert_eq!(refused.status, 3, "{refused:?}");

    let file = sim.path("web.tar");
    let name = file.to_string_lossy().into_owned();
    let exported = sim.ctl(&["vm", "export", "web", &name]);
    assert_eq!(exported.status, 0, "{exported:?}\n{}", sim.log());
    assert!(exported.stderr.contains("vm/web: exported to "), "{exported:?}");
    assert_eq!(sim.ctl(&["vm", "import", &name]).status, 4, "the name is in use");
    let dry = sim.ctl(&["vm", "import", &name, "--name", "copy", "--dry-run"]);
    assert_eq!(dry.status, 0, "{dry:?}");
    assert!(sim.get("vm/copy").is_none());
    let imported = sim.ctl(&["vm", "import", &name, "--name", "copy"]);
    assert_eq!(imported.status, 0, "{imported:?}\n{}", sim.log());
    assert_eq!(sim.state("vm/copy"), "running");

    let mut bytes = std::fs::read(&file).expect("the archive");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let altered = sim.file("altered.tar", &bytes);
    let refused = sim.ctl(&["vm", "import", &altered, "--name", "bad"]);
    assert_eq!(refused.status, 2, "{refused:?}");
    assert!(refused.stderr.contains("altered") && refused.stderr.contains("hint: "), "{refused:?}");
    assert!(sim.get("vm/bad").is_none());
}

#[test]
fn an_export_that_fails_leaves_the_file_as_it_was() {
    let sim = running();
    let file = sim.file("web.tar", "an older one");
    sim.order(&serde_json::json!({"do": "fail", "target": "archive.pack", "how": "capacity"}));
    let failed = sim.ctl(&["vm", "export", "web", &file]);
    assert_eq!(failed.status, 1, "{failed:?}");
    assert_eq!(std::fs::read_to_string(&file).expect("it is there"), "an older one");
    assert!(!sim.path("web.tar.part").exists());
}

#[test]
fn an_import_whose_daemon_stays_away_waits_no_longer_than_it_was_told() {
    let mut sim = running();
    let file = sim.path("web.tar").to_string_lossy().into_owned();
    sim.ok(&["vm", "export", "web", &file]);
    sim.order(&serde_json::json!({"do": "hang", "target": "vm.start"}));
    let mut child = sim
        .command(&["vm", "import", &file, "--name", "copy", "--timeout", "4s"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("agentctl starts");
    let mut talk = BufReader::new(child.stderr.take().expect("its talk"));
    let mut said = String::new();
    while !said.contains("vm/copy: ") {
        assert_ne!(talk.read_line(&mut said).expect("a line"), 0, "it ended: {said}");
    }
    sim.kill();
    talk.read_to_string(&mut said).expect("the rest");
    assert_eq!(child.wait().expect("an end").code(), Some(8), "{said}");
    assert!(said.contains("error: vm/copy: not running after 4s"), "{said}");
}
