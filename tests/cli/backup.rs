//! `backup` as a whole command. What is restored of one is the daemon's own matter, and the host's tests'.

use std::os::unix::fs::PermissionsExt;

use agent_tests::sim::Sim;
use agentd_api::backup::Header;

fn header(bytes: &[u8]) -> Header {
    let end = bytes.iter().position(|byte| *byte == b'\n').expect("a line");
    Header::parse(&bytes[..end]).expect("a header")
}

#[test]
fn a_backup_is_whole_for_its_owner_alone_and_replaces_nothing_unasked() {
    let sim = Sim::start(&[]);
    sim.ok(&["image", "build", "micro"]);
    let file = sim.path("agentd.backup").to_string_lossy().into_owned();
    let made = sim.ctl(&["backup", &file]);
    assert_eq!(made.status, 0, "{made:?}\n{}", sim.log());
    assert!(
        made.stderr.contains(" objects at revision ") && made.stderr.contains("is not in it"),
        "{made:?}"
    );
    let bytes = std::fs::read(&file).expect("a file");
    let head = header(&bytes);
    assert_eq!(bytes.len() as u64, head.line().len() as u64 + head.bytes);
    let mode = std::fs::metadata(&file).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "it holds what the store does");
    let refused = sim.ctl(&["backup", &file]);
    assert_eq!(refused.status, 4, "{refused:?}");
    assert!(refused.stderr.contains("is there already") && refused.stderr.contains("--force"), "{refused:?}");
    assert_eq!(std::fs::read(&file).expect("a file"), bytes);
    sim.ok(&["flavor", "create", "tiny", "--cpus", "1", "--memory", "256MiB"]);
    sim.ok(&["backup", &file, "--force"]);
    assert!(header(&std::fs::read(&file).expect("a file")).objects > head.objects);
    // And as bytes for another program.
    let output = sim.command(&["backup", "-"]).output().expect("agentctl runs");
    assert!(output.status.success(), "{output:?}");
    let head = header(&output.stdout);
    assert_eq!(output.stdout.len() as u64, head.line().len() as u64 + head.bytes);
    assert!(!sim.path("agentd.backup.partial").exists());
}

#[test]
fn where_none_can_be_made_or_kept_nothing_is_left() {
    let mut sim = Sim::start(&[]);
    let into_none = sim.path("none/agentd.backup").to_string_lossy().into_owned();
    let failed = sim.ctl(&["backup", &into_none]);
    assert_eq!(failed.status, 1, "{failed:?}");
    assert!(failed.stderr.contains("cannot write"), "{failed:?}");
    sim.stop();
    let file = sim.path("agentd.backup").to_string_lossy().into_owned();
    let failed = sim.ctl(&["backup", &file]);
    assert_eq!(failed.status, 7, "{failed:?}");
    assert!(!sim.path("agentd.backup").exists() && !sim.path("agentd.backup.partial").exists());
}
