//! The plan, cell by cell.

use agentd_api::vm::{AlarmKind, RestartPolicy, StopKind, VmDesired};
use agentd_drivers::vm::OffReason;

use super::super::plan::{Kept, Patience, Seen, Situation, Step, plan_vm};

const OFF: Seen = Seen::Off(OffReason::Shutdown);

/// Wanted running, running, nothing special.
fn calm() -> Situation {
    Situation {
        desired: VmDesired::Running,
        seen: Seen::Running,
        persistent: true,
        restart_requested: false,
        ran: true,
        was_up: true,
        stopping: None,
        rebooted: false,
        policy: RestartPolicy::Never,
        remove_when_stopped: false,
        prepared: true,
        last_stop: None,
        memory: Kept::Nothing,
        resting: false,
        held: false,
        autostart: true,
        queued: false,
        alarm: None,
        watchdog_cuts: false,
    }
}

fn step(s: Situation) -> Step {
    plan_vm(&s).step
}

#[test]
fn wanted_against_seen() {
    use VmDesired::{Paused, Running, Stopped};
    let new = Situation { ran: false, was_up: false, prepared: false, ..calm() };
    for (desired, seen, wanted) in [
        (Running, Seen::Absent, Step::Start),
        (Running, OFF, Step::Start),
        (Running, Seen::Running, Step::Up),
        (Running, Seen::Paused, Step::Resume),
        (Paused, Seen::Absent, Step::Start),
        (Paused, OFF, Step::Start),
        (Paused, Seen::Running, Step::Pause),
        (Paused, Seen::Paused, Step::Up),
        (Stopped, Seen::Absent, Step::Off),
        (Stopped, OFF, Step::Off),
        (Stopped, Seen::Running, Step::Ask),
        (Stopped, Seen::Paused, Step::ResumeAndAsk),
    ] {
        assert_eq!(step(Situation { desired, seen, ..new }), wanted, "{desired:?} against {seen:?}");
    }
}

#[test]
fn a_guest_that_was_asked_is_waited_for_and_then_cut() {
    let stop = Situation { desired: VmDesired::Stopped, ..calm() };
    for (seen, stopping, wanted) in [
        (Seen::Running, None, Step::Ask),
        (Seen::Running, Some(Patience::Left), Step::Ask),
        (Seen::Running, Some(Patience::Over), Step::CutPower),
        (Seen::Paused, Some(Patience::Left), Step::ResumeAndAsk),
        (Seen::Paused, Some(Patience::Over), Step::CutPower),
        (OFF, Some(Patience::Left), Step::Off),
    ] {
        assert_eq!(step(Situation { seen, stopping, ..stop }), wanted, "{seen:?} {stopping:?}");
    }
}

#[test]
fn how_it_ended_is_told_apart() {
    use OffReason::{Crashed, Destroyed, Shutdown, Unknown};
    for (stopping, reason, how) in [
        (None, Shutdown, StopKind::Guest),
        (None, Destroyed, StopKind::Destroyed),
        (None, Crashed, StopKind::Crashed),
        (None, Unknown, StopKind::Unknown),
        (Some(Patience::Left), Shutdown, StopKind::Acpi),
        (Some(Patience::Over), Shutdown, StopKind::Acpi),
        (Some(Patience::Left), Destroyed, StopKind::Destroyed),
        (Some(Patience::Over), Destroyed, StopKind::Forced),
        (Some(Patience::Left), Crashed, StopKind::Crashed),
        (Some(Patience::Left), Unknown, StopKind::Acpi),
        (Some(Patience::Over), Unknown, StopKind::Forced),
    ] {
        let s = Situation { seen: Seen::Off(reason), stopping, ..calm() };
        assert_eq!(plan_vm(&s).ended, Some(how), "{stopping:?} {reason:?}");
        assert_eq!(plan_vm(&Situation { was_up: false, ..s }).ended, None, "what was off has not ended");
        let down = Situation { rebooted: true, stopping: None, ..s };
        assert_eq!(plan_vm(&down).ended, Some(StopKind::HostDown));
    }
    let gone = Situation { seen: Seen::Absent, ..calm() };
    assert_eq!(plan_vm(&gone).ended, Some(StopKind::Destroyed));
}

#[test]
fn the_policy_decides_after_an_end_that_nobody_asked_for() {
    use RestartPolicy::{Always, Never, OnFailure};
    for (how, policy, wanted) in [
        (StopKind::Guest, Never, Step::Off),
        (StopKind::Guest, OnFailure, Step::Off),
        (StopKind::Guest, Always, Step::StartAgain),
        (StopKind::Crashed, Never, Step::Off),
        (StopKind::Crashed, OnFailure, Step::StartAgain),
        (StopKind::Destroyed, Never, Step::Off),
        (StopKind::Destroyed, OnFailure, Step::StartAgain),
        (StopKind::Unknown, OnFailure, Step::StartAgain),
        (StopKind::Unknown, Never, Step::Off),
        (StopKind::HostDown, Never, Step::Start),
    ] {
        let s = Situation { seen: OFF, was_up: false, last_stop: Some(how), policy, ..calm() };
        assert_eq!(step(s), wanted, "{how:?} {policy:?}");
        let resting = if wanted == Step::StartAgain { Step::Rest } else { wanted };
        assert_eq!(step(Situation { resting: true, ..s }), resting, "{how:?} {policy:?} while it rests");
        assert_eq!(
            step(Situation { ran: false, ..s }),
            Step::Start,
            "a new generation starts it whatever was"
        );
    }
}

#[test]
fn a_restart_stops_and_starts_once() {
    let s = Situation { restart_requested: true, ..calm() };
    assert_eq!(step(s), Step::Ask);
    assert_eq!(step(Situation { stopping: Some(Patience::Over), ..s }), Step::CutPower);
    assert_eq!(step(Situation { seen: OFF, stopping: Some(Patience::Left), ..s }), Step::Start);
    assert_eq!(step(Situation { seen: Seen::Absent, ..s }), Step::Start);
}

#[test]
fn wanted_again_while_it_powers_off_it_is_let_go_down_and_started() {
    let s = Situation { stopping: Some(Patience::Left), ..calm() };
    assert_eq!(step(s), Step::AwaitOff);
    assert_eq!(step(Situation { seen: OFF, ..s }), Step::Start);
    assert_eq!(
        step(Situation { stopping: Some(Patience::Over), ..s }),
        Step::Up,
        "it did not go down: it stays"
    );
}

#[test]
fn a_definition_that_is_gone_is_made_again() {
    assert_eq!(step(Situation { persistent: false, ..calm() }), Step::DefineRunning);
    let off = Situation { desired: VmDesired::Stopped, seen: Seen::Absent, was_up: false, ..calm() };
    assert_eq!(step(off), Step::Define);
    assert_eq!(step(Situation { prepared: false, ..off }), Step::Off, "what never had a disk gets none");
}

#[test]
fn what_is_to_go_when_it_stopped_goes_only_after_it_ran() {
    let s = Situation { remove_when_stopped: true, ..calm() };
    assert_eq!(step(Situation { seen: OFF, ..s }), Step::Remove);
    let stopped = Situation { desired: VmDesired::Stopped, seen: OFF, was_up: false, ran: false, ..s };
    assert_eq!(step(stopped), Step::Off);
    assert_eq!(step(Situation { last_stop: Some(StopKind::Acpi), ..stopped }), Step::Remove);
    let always = Situation { seen: OFF, policy: RestartPolicy::Always, ..s };
    assert_eq!(step(always), Step::StartAgain);
}

#[test]
fn after_a_boot_the_queue_and_the_policy_decide() {
    let down = Situation { seen: OFF, rebooted: true, ..calm() };
    assert_eq!(plan_vm(&down).ended, Some(StopKind::HostDown));
    assert_eq!(step(down), Step::Start);
    assert_eq!(step(Situation { queued: true, ..down }), Step::AwaitTurn);
    assert_eq!(step(Situation { queued: true, ran: false, ..down }), Step::Start, "somebody asked for it");
    assert_eq!(step(Situation { autostart: false, ..down }), Step::Off);
    assert_eq!(step(Situation { autostart: false, ran: false, ..down }), Step::Start);
    let always = Situation { policy: RestartPolicy::Always, autostart: false, ..down };
    assert_eq!(step(always), Step::Off);
}

#[test]
fn what_is_held_for_a_shutdown_is_taken_for_wanted_off() {
    let held = Situation { held: true, remove_when_stopped: true, ..calm() };
    assert_eq!(step(held), Step::Ask);
    let off = Situation { seen: OFF, stopping: Some(Patience::Left), ..held };
    assert_eq!((plan_vm(&off).ended, step(off)), (Some(StopKind::Acpi), Step::Off), "and is kept");
}

#[test]
fn a_crash_is_what_the_guest_told_of_before() {
    let crashed = Situation { seen: Seen::Off(OffReason::Crashed), ..calm() };
    let hung = Some(AlarmKind::Watchdog);
    for (alarm, watchdog_cuts, how) in [
        (None, false, StopKind::Crashed),
        (Some(AlarmKind::Panic), false, StopKind::Panicked),
        (hung, true, StopKind::Watchdog),
        (hung, false, StopKind::Crashed),
    ] {
        let s = Situation { alarm, watchdog_cuts, policy: RestartPolicy::OnFailure, ..crashed };
        assert_eq!((plan_vm(&s).ended, step(s)), (Some(how), Step::StartAgain), "{alarm:?}");
    }
}
