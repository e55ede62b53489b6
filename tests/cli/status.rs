//! The exit statuses that need a daemon which is away, or a caller whom it does not know. The others are met in the
//! other files: 1, 5, 8 and 130 in `wait`, 2, 3 and 4 in `refusals`.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;

use agent_tests::host::daemon::binary;
use agent_tests::sim::{Sim, agentctl, finished};

#[test]
fn no_daemon_is_7_with_a_hint() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("none.sock");
    for line in [
        &["vm", "list"][..],
        &["vm", "run", "web", "--image", "micro"],
        &["version"],
        &["info"],
        &["get", "vm/a"],
    ] {
        let answer = finished(agentctl(&socket, line).output().expect("agentctl runs"));
        assert_eq!(answer.status, 7, "{line:?}: {answer:?}");
        assert!(
            answer.stderr.contains("error: ") && answer.stderr.contains("no daemon answers on "),
            "{answer:?}"
        );
        assert_eq!(answer.stderr.lines().filter(|l| l.starts_with("hint: ")).count(), 1, "{answer:?}");
        assert!(answer.stderr.lines().last().is_some_and(|l| l.starts_with("hint: ")), "{answer:?}");
    }
}

#[test]
fn a_stranger_gets_6_from_the_socket_and_from_the_daemon() {
    assert!(nix::unistd::geteuid().is_root(), "this test becomes another user: run it as root");
    let sim = Sim::start(&[]);
    // A stranger cannot reach the build's folder.
    let outside = tempfile::Builder::new()
        .permissions(std::fs::Permissions::from_mode(0o755))
        .tempdir()
        .expect("a folder");
    let program = outside.path().join("agentctl");
    std::fs::copy(binary("agentctl"), &program).expect("a copy");
    let stranger = || {
        let mut command = agentctl(&sim.socket(), &["vm", "list"]);
        let arguments: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
        command = clean(&program);
        finished(command.args(arguments).uid(65534).gid(65534).output().expect("agentctl runs"))
    };
    let shut = stranger();
    assert_eq!(shut.status, 6, "{shut:?}");
    assert!(shut.stderr.contains("may not open ") && shut.stderr.contains("hint: "), "{shut:?}");

    // Where the socket lets everybody in, the daemon still knows who calls.
    let folder = sim.socket().parent().expect("a folder").to_owned();
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).expect("opened");
    std::fs::set_permissions(sim.socket(), std::fs::Permissions::from_mode(0o666)).expect("opened");
    let known = stranger();
    assert_eq!((known.status, known.stdout.as_str()), (6, ""), "{known:?}");
    assert!(known.stderr.contains("hint: ") && !known.stderr.contains("may not open"), "{known:?}");
}

#[expect(clippy::disallowed_methods, reason = "a test starts programs; the rule is for the daemon")]
fn clean(program: &std::path::Path) -> std::process::Command {
    let mut command = std::process::Command::new(program);
    command.env_remove("AGENTD_SOCKET").env_remove("AGENTD_HOST").current_dir("/");
    command
}

#[test]
fn the_socket_can_be_said_in_the_environment() {
    let sim = Sim::start(&[]);
    let mut command = clean(&binary("agentctl"));
    let answer =
        finished(command.env("AGENTD_SOCKET", sim.socket()).arg("version").output().expect("agentctl runs"));
    assert_eq!(answer.status, 0, "{answer:?}");
    assert_eq!(answer.stdout.lines().count(), 2, "both versions: {answer:?}");
}
