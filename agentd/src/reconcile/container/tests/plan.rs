use agentd_api::container::ContainerDesired::{Paused, Running, Stopped};
use agentd_api::container::ContainerEnd;
use agentd_api::life::RestartPolicy;

use crate::reconcile::container::plan::{
    ContainerPlan, Exit, Patience, Seen, Situation, Step, plan_container,
};

const EXIT: Exit = Exit { code: 0, oom: false, with_engine: false };

/// Wanted to run, and never made.
fn new() -> Situation {
    Situation {
        desired: Running,
        seen: Seen::Absent,
        restart_requested: false,
        ran: false,
        started: false,
        was_up: false,
        stopping: None,
        rebooted: false,
        policy: RestartPolicy::Never,
        remove_when_stopped: false,
        last_stop: None,
        resting: false,
        held: false,
        autostart: true,
        queued: false,
    }
}

/// Seen up before, at this generation.
fn up() -> Situation {
    Situation { seen: Seen::Running, ran: true, started: true, was_up: true, ..new() }
}

fn step(s: Situation) -> Step {
    plan_container(&s).step
}

#[test]
fn what_is_wanted_and_what_is_seen_make_the_step() {
    for (desired, seen, wanted) in [
        (Running, Seen::Absent, Step::Start),
        (Running, Seen::Created, Step::Start),
        (Running, Seen::Running, Step::Up),
        (Running, Seen::Paused, Step::Resume),
        (Paused, Seen::Created, Step::Start),
        (Paused, Seen::Running, Step::Pause),
        (Paused, Seen::Paused, Step::Up),
        (Stopped, Seen::Absent, Step::Make),
        (Stopped, Seen::Created, Step::Off),
        (Stopped, Seen::Exited(EXIT), Step::Off),
        (Stopped, Seen::Running, Step::Ask),
        (Stopped, Seen::Paused, Step::AskAndResume),
    ] {
        assert_eq!(step(Situation { desired, seen, ..new() }), wanted, "{desired:?} {seen:?}");
    }
}

#[test]
fn it_is_asked_once_given_its_grace_and_killed() {
    for (stopping, running, paused) in [
        (Patience::Unasked, Step::Ask, Step::AskAndResume),
        (Patience::Left, Step::AwaitOff, Step::AskAndResume),
        (Patience::Over, Step::Kill, Step::Kill),
    ] {
        let s = Situation { desired: Stopped, stopping: Some(stopping), ..up() };
        assert_eq!(step(s), running);
        assert_eq!(step(Situation { seen: Seen::Paused, ..s }), paused);
        let restarted = Situation { desired: Running, restart_requested: true, ..s };
        assert_eq!(step(restarted), running);
    }
    let again = Situation { stopping: Some(Patience::Left), ..up() };
    assert_eq!(step(again), Step::AwaitOff, "wanted again while it goes");
}

#[test]
fn an_end_has_a_cause_and_its_policy_judges_it() {
    use ContainerEnd::{Exited, Failed, HostDown, Killed, OomKilled, Removed};
    use RestartPolicy::{Always, Never, OnFailure};
    let exited = |code, oom, with_engine| Seen::Exited(Exit { code, oom, with_engine });
    for (seen, how, never, on_failure, always) in [
        (exited(0, false, false), Exited, Step::Off, Step::Off, Step::StartAgain),
        (exited(3, false, false), Failed, Step::Off, Step::StartAgain, Step::StartAgain),
        (exited(137, true, false), OomKilled, Step::Off, Step::StartAgain, Step::StartAgain),
        (exited(255, false, true), HostDown, Step::Start, Step::Start, Step::Start),
        (Seen::Absent, Removed, Step::Off, Step::StartAgain, Step::StartAgain),
        (Seen::Created, Removed, Step::Off, Step::StartAgain, Step::StartAgain),
    ] {
        for (policy, wanted) in [(Never, never), (OnFailure, on_failure), (Always, always)] {
            let s = Situation { seen, policy, ..up() };
            assert_eq!(
                plan_container(&s),
                ContainerPlan { ended: Some(how), step: wanted },
                "{seen:?} {policy:?}"
            );
            let rests = Situation { resting: true, ..s };
            let wanted = if wanted == Step::StartAgain { Step::Rest } else { wanted };
            assert_eq!(step(rests), wanted);
            let later = Situation { was_up: false, last_stop: Some(how), ..s };
            assert_eq!(plan_container(&later).ended, None, "it is told of once");
        }
    }
    let asked = |stopping| Situation { desired: Stopped, seen: exited(143, false, false), stopping, ..up() };
    assert_eq!(plan_container(&asked(Some(Patience::Left))).ended, Some(ContainerEnd::Stopped));
    assert_eq!(plan_container(&asked(Some(Patience::Over))).ended, Some(Killed));
    let rebooted = Situation { rebooted: true, seen: exited(0, false, false), ..up() };
    assert_eq!(plan_container(&rebooted), ContainerPlan { ended: Some(HostDown), step: Step::Start });
}

#[test]
fn a_new_wish_is_a_new_start_and_what_has_done_its_work_goes() {
    let ended =
        Situation { seen: Seen::Exited(EXIT), was_up: false, last_stop: Some(ContainerEnd::Exited), ..up() };
    assert_eq!(step(ended), Step::Off);
    assert_eq!(step(Situation { ran: false, ..ended }), Step::Start);
    assert_eq!(step(Situation { restart_requested: true, ..ended }), Step::Start);
    assert_eq!(step(Situation { remove_when_stopped: true, ..ended }), Step::Remove);
    let held = Situation { held: true, remove_when_stopped: true, ..ended };
    assert_eq!(step(held), Step::Off, "kept for the host's next boot");
    let made = Situation { seen: Seen::Created, ..new() };
    assert_eq!(step(Situation { remove_when_stopped: true, desired: Stopped, ..made }), Step::Off);
}

#[test]
fn after_a_boot_those_before_it_come_first_and_some_stay_off() {
    let booted = Situation { rebooted: true, seen: Seen::Exited(EXIT), ..up() };
    assert_eq!(step(booted), Step::Start);
    assert_eq!(step(Situation { queued: true, ..booted }), Step::AwaitTurn);
    assert_eq!(step(Situation { autostart: false, ..booted }), Step::Off);
}
