//! agentctl in a pipe: a reader that leaves, and lists of thousands.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use agent_tests::host::wait_until;
use agent_tests::sim::{LIMIT, Sim};

#[test]
fn a_reader_that_leaves_is_no_error() {
    let sim = Sim::start(&["--preload", "3000"]);
    wait_until("the VMs are there", LIMIT * 4, || {
        let count = sim.ok(&["get", "vm", "-o", "name"]).lines().count();
        if count == 3000 { Ok(()) } else { Err(format!("{count} of 3000")) }
    });
    for format in ["table", "json", "yaml", "name", "wide"] {
        let mut child = sim
            .command(&["vm", "list", "-o", format])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("agentctl starts");
        let mut first = String::new();
        BufReader::new(child.stdout.take().expect("its output")).read_line(&mut first).expect("a line");
        let output = child.wait_with_output().expect("an end");
        assert!(!first.is_empty(), "{format}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{format}");
        assert_eq!(output.status.code(), Some(0), "{format}");
    }
    let list = sim.ok(&["vm", "list"]);
    assert_eq!(list.lines().count(), 3001, "a heading and a line each");
    let names = sim.ok(&["vm", "list", "-o", "name"]);
    let unique: std::collections::BTreeSet<&str> = names.lines().collect();
    assert_eq!(unique.len(), 3000, "each of them once, over all pages");
}

#[test]
fn completions_name_every_verb() {
    let sim = Sim::start(&[]);
    for shell in ["bash", "zsh", "fish"] {
        let script = sim.ok(&["completion", shell]);
        for word in ["vm", "restart", "ssh-key", "doctor", "--user-data", "--no-wait"] {
            let word = if shell == "fish" { word.trim_start_matches('-') } else { word };
            assert!(script.contains(word), "{shell} does not complete {word}");
        }
    }
}
