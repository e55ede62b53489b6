use super::*;

fn problem(problem: Problem) -> String {
    let failure = Failure::from(problem);
    format!("{}exit {}", failure.text(), failure.exit as u8)
}

#[test]
fn each_field_has_a_line() {
    let errors = vec![
        FieldError::new("spec.cpus", "must be 1 to 256, not 0"),
        FieldError::new("spec.memory", "is odd"),
    ];
    insta::assert_snapshot!(problem(Problem::invalid(errors)), @r"
    error: the input is not valid
      spec.cpus: must be 1 to 256, not 0
      spec.memory: is odd
    exit 2
    ");
    insta::assert_snapshot!(problem(Problem::field("spec.cpus", "must be 1 to 256, not 0")), @r"
    error: spec.cpus: must be 1 to 256, not 0
    exit 2
    ");
}

#[test]
fn the_field_that_was_not_found_is_named() {
    let missing =
        Problem::new(ErrorCode::NotFound, "there is no image 'x'").at("spec.image").hint("build it");
    insta::assert_snapshot!(problem(missing), @r"
    error: spec.image: there is no image 'x'
    hint: build it
    exit 3
    ");
}

#[test]
fn a_closed_pipe_is_no_failure() {
    let failure = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
    assert!(failure.silent && failure.exit == Exit::Done);
}

#[test]
fn no_daemon_says_how_to_start_one() {
    let source = io::Error::from(io::ErrorKind::NotFound);
    let failure = Failure::from(ClientError::NoDaemon { at: Address::Socket("/run/x.sock".into()), source });
    assert_eq!(failure.exit, Exit::NoDaemon);
    insta::assert_snapshot!(failure.text(), @r"
    error: no daemon answers on /run/x.sock: entity not found
    hint: start it with `systemctl start agentd`, or say where it listens with --socket or AGENTD_SOCKET (usually /run/agentd/agentd.sock)
    ");
}

#[test]
fn the_first_failure_decides() {
    let mut failures = Failures::default();
    assert_eq!(failures.take("vm/a", Ok(1)), Some(1));
    assert!(failures.take::<()>("vm/b", Err(Failure::new(Exit::NotFound, "gone"))).is_none());
    assert!(failures.take::<()>("vm/c", Err(Failure::new(Exit::Conflict, "busy"))).is_none());
    assert_eq!(failures.end().map_err(|f| f.exit), Err(Exit::NotFound));
}
