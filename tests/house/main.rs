//! The house: which crate may know which, and that what the READMEs name is there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

/// package -> its dependencies, dev-dependencies left out.
#[expect(clippy::disallowed_methods, reason = "the rule is for the daemon")]
fn arrows() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(top())
        .output()
        .expect("cargo metadata");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("json");
    let packages = metadata["packages"].as_array().expect("packages");
    packages
        .iter()
        .map(|package| {
            let name = package["name"].as_str().expect("a name").to_owned();
            let needs = package["dependencies"].as_array().expect("a list");
            let needs = needs.iter().filter(|d| d["kind"].is_null());
            (name, needs.map(|d| d["name"].as_str().expect("a name").to_owned()).collect())
        })
        .collect()
}

#[test]
fn the_arrows_of_the_house_hold() {
    let arrows = arrows();
    let ours = |package: &str| -> BTreeSet<&str> {
        let needs = arrows.get(package).unwrap_or_else(|| panic!("no package {package}"));
        needs.iter().map(String::as_str).filter(|d| d.starts_with("agent")).collect()
    };
    assert_eq!(ours("agentd-api"), BTreeSet::new());
    assert_eq!(ours("agentd-client"), ["agentd-api"].into());
    assert_eq!(ours("agentctl"), ["agentd-api", "agentd-client", "agentd-guest-tree"].into());
    assert_eq!(ours("agentd-store"), ["agentd-api"].into());
    assert_eq!(ours("agentd-drivers"), ["agentd-api", "agentd-guest-wire"].into());
    // The program in guests is no part of the daemon: what both know is what they say to each other.
    assert_eq!(ours("agentd-guest"), ["agentd-guest-tree", "agentd-guest-wire"].into());
    assert_eq!(ours("agentd-guest-wire"), BTreeSet::new());
    assert_eq!(ours("agentd-guest-tree"), BTreeSet::new());
    assert_eq!(arrows["agentd-guest"].len(), 3, "it stays small: {:?}", arrows["agentd-guest"]);
    assert_eq!(ours("agentd"), ["agentd-api", "agentd-drivers", "agentd-store"].into());
    // What packages install as one file are two programs all the same.
    assert_eq!(ours("agentd-one"), ["agentctl", "agentd"].into());
    for (package, never) in [
        ("agentd-api", &["tokio", "axum", "hyper", "rusqlite", "virt"][..]),
        ("agentd-store", &["axum", "hyper", "virt"]),
        ("agentd-drivers", &["axum", "rusqlite"]),
        ("agentctl", &["virt", "rusqlite", "hyper", "axum"]),
        ("agentd-client", &["virt", "rusqlite", "axum"]),
        ("agentd", &["virt", "rusqlite"]),
    ] {
        for name in never {
            assert!(!arrows[package].contains(*name), "{package} knows {name}");
        }
    }
}

/// It runs in any distribution's guest: it asks for no interpreter, and so for no library.
#[test]
fn the_program_for_guests_is_static() {
    let bytes = std::fs::read(agent_tests::host::daemon::binary("agentd-guest")).expect("it is built");
    assert_eq!(&bytes[..6], b"\x7fELF\x02\x01", "64 bits, the low ones first");
    let number = |at: usize, size: usize| {
        bytes[at..at + size].iter().rev().fold(0_usize, |sum, byte| (sum << 8) | usize::from(*byte))
    };
    let (headers, size, count) = (number(32, 8), number(54, 2), number(56, 2));
    let kinds: Vec<usize> = (0..count).map(|n| number(headers + n * size, 4)).collect();
    assert!(kinds.contains(&1) && !kinds.contains(&3), "it is to be loaded, by no interpreter: {kinds:?}");
    assert!(bytes.len() < 3 << 20, "it has {} bytes", bytes.len());
}

/// It is loaded once agentd runs, beside what else that does: what comes with the process is a handful.
#[test]
fn the_daemon_starts_without_libvirt() {
    let program = agent_tests::host::daemon::binary("agentd");
    assert!(program.is_file(), "{} is not built: `tests/run build` builds it", program.display());
    let read = "/usr/bin/readelf";
    let needed =
        agent_tests::host::namespace::run(read, &["--dynamic", "--wide", &program.to_string_lossy()]);
    let needed = needed.expect("readelf, of binutils");
    let libraries: Vec<&str> = needed.lines().filter(|line| line.contains("(NEEDED)")).collect();
    assert!(!libraries.is_empty(), "{needed}");
    assert!(
        libraries.iter().all(|line| !line.contains("libvirt")),
        "a function of libvirt's is not named in agentd/drivers/src/vm/libvirt/library.rs: {libraries:#?}"
    );
}

#[test]
fn layers_of_agentd_know_only_those_below() {
    let source = top().join("agentd/src");
    for (layer, never) in [
        ("http", &["agentd_drivers"][..]),
        ("intent", &["agentd_drivers::vm", "axum", "crate::http"]),
        ("reconcile", &["axum", "crate::http", "crate::intent"]),
    ] {
        for file in rust_files(&source.join(layer)) {
            if file.components().any(|c| c.as_os_str() == "tests") || file.ends_with("tests.rs") {
                continue;
            }
            let text = std::fs::read_to_string(&file).expect("a source file");
            for word in never {
                assert!(!text.contains(word), "{} knows {word}", file.display());
            }
        }
    }
}

#[test]
fn programs_are_started_in_one_place() {
    for file in rust_files(&top().join("agentd")) {
        let text = std::fs::read_to_string(&file).expect("a source file");
        let starts = text.contains("Command::new(") && !text.contains("clap");
        let test = file.components().any(|c| c.as_os_str() == "tests") || file.ends_with("tests.rs");
        assert!(
            // The guest's program starts what a user wants run in there, and nothing on the host.
            !starts
                || test
                || file.ends_with("drivers/src/exec.rs")
                || file.starts_with(top().join("agentd/guest")),
            "{} starts programs",
            file.display()
        );
    }
}

#[test]
fn the_top_level_stays_as_it_is() {
    let mut found: Vec<String> = std::fs::read_dir(top())
        .expect("the top")
        .filter_map(|e| e.ok().map(|e| e.file_name().to_string_lossy().into_owned()))
        .filter(|name| !name.starts_with('.') && name != "target")
        .collect();
    found.sort();
    let expected = [
        "Cargo.lock",
        "Cargo.toml",
        "LICENSE",
        "README.md",
        "agentctl",
        "agentd",
        "packaging",
        "systemd",
        "tests",
    ];
    assert_eq!(found, expected);
}

#[test]
fn what_the_readmes_name_is_there() {
    for readme in ["README.md", "agentd/README.md"] {
        let text = std::fs::read_to_string(top().join(readme)).unwrap_or_else(|e| panic!("{readme}: {e}"));
        let mut named = 0;
        for word in text.split('`').skip(1).step_by(2) {
            let path = word.trim_end_matches('/').trim_start_matches("./");
            let plain = path.contains('/')
                && !path.starts_with('/')
                && path.chars().all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c));
            if plain && !path.contains("//") {
                named += 1;
                let there = top().join(path).exists() || top().join("agentd").join(path).exists();
                assert!(there, "{readme} names {path}, which is not there");
            }
        }
        assert!(named > 5, "{readme} names {named} paths: the pattern is wrong");
    }
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = std::fs::read_dir(folder) else { return found };
    for entry in entries.filter_map(Result::ok).map(|e| e.path()) {
        if entry.is_dir() && !entry.ends_with("target") {
            found.extend(rust_files(&entry));
        } else if entry.extension().is_some_and(|e| e == "rs") {
            found.push(entry);
        }
    }
    found
}
