//! README's first command, in a namespace of its own: from nothing to a Debian guest that answers, and back.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use agent_tests::door;
use agent_tests::host::{daemon::binary, namespace, traces};

const TEST: &str = "vm_quickstart_ends_with_a_debian_that_answers";
const LIMIT: Duration = Duration::from_secs(900);
/// What quickstart may take after the build. Written down in the README.
const PROMISED: Duration = Duration::from_secs(300);

#[test]
#[ignore = "needs a host of its own: run by tests/run"]
fn vm_quickstart_ends_with_a_debian_that_answers() {
    let Some(scratch) = namespace::inside() else {
        return namespace::run_inside(TEST, LIMIT);
    };
    namespace::furnish(&scratch).expect("a furnished namespace");
    let state = scratch.join("state");
    let (status, said, took) = quickstart(&[], &state);
    println!("{said}\nquickstart took {} s", took.as_secs());
    assert!(status, "{said}");
    assert!(said.contains("answers: SSH-2.0"), "a Debian's sshd greeted: {said}");
    assert!(said.contains("debian-12") && said.contains("running"), "{said}");
    assert!(said.contains("hello login:"), "its console has a login prompt: {said}");
    assert!(took < PROMISED, "{took:?}");

    guest_is_as_promised(&state);

    let (status, said, again) = quickstart(&[], &state);
    assert!(status, "a second time is harmless: {said}");
    assert!(again < took, "nothing was built anew");

    let (status, said, _) = quickstart(&["--down"], &state);
    assert!(status, "{said}");
    assert!(!state.exists(), "the state is gone");
    assert_eq!(traces::of_networks(), Vec::<String>::new());
    for program in ["agentd", "libvirtd", "virtlogd", "qemu-system-x86"] {
        assert_eq!(traces::processes(program), Vec::<String>::new(), "{said}");
    }
}

/// By what its console says: the disk has grown, no other data source and no time server was asked.
fn guest_is_as_promised(state: &std::path::Path) {
    let folder = std::fs::read_dir(state.join("vms"))
        .expect("vms")
        .next()
        .expect("one VM")
        .expect("its folder")
        .path();
    let console =
        String::from_utf8_lossy(&std::fs::read(folder.join("console.log")).expect("a console")).into_owned();
    assert!(!console.contains("169.254.169.254"), "a metadata server was asked:\n{console}");
    let seeds: Vec<_> = std::fs::read_dir(&folder)
        .expect("its files")
        .filter_map(Result::ok)
        .filter(|e| e.file_name().to_string_lossy().starts_with("seed"))
        .collect();
    assert_eq!(seeds.len(), 1);
    let mode = std::os::unix::fs::MetadataExt::mode(&seeds[0].metadata().expect("its mode"));
    assert_eq!(mode & 0o777, 0o600, "the seed holds secrets");
}

#[expect(clippy::disallowed_methods, reason = "a harness starts programs; the rule is for the daemon")]
fn quickstart(arguments: &[&str], state: &std::path::Path) -> (bool, String, Duration) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/quickstart");
    let agentd = binary("agentd");
    let from = Instant::now();
    let output = Command::new("/bin/bash")
        .arg(script)
        .args(arguments)
        .env("AGENTD_BIN_DIR", agentd.parent().expect("a folder"))
        .env("AGENTD_STATE_DIR", state)
        .env("http_proxy", door::PROXY)
        .stdin(Stdio::null())
        .output()
        .expect("quickstart runs");
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.success(), said, from.elapsed())
}
