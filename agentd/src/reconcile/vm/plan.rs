//! What to do about a VM, from what is wanted and what was seen. Pure: one exhaustive match, no clock, no host.

use agentd_api::vm::{AlarmKind, RestartPolicy, StopKind, VmDesired};
use agentd_drivers::vm::OffReason;

/// The domain on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// None is defined and none runs.
    Absent,
    Off(OffReason),
    Running,
    Paused,
}

/// How far a power-off that agentd asked for has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// The guest was asked, and its grace is not over.
    Left,
    Over,
}

/// What there is of its memory on disk, as it was written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    Nothing,
    /// It was about to be written.
    BeingWritten,
    Whole,
    /// It is there and unwanted.
    Discarded,
}

/// All that the plan depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Situation {
    pub desired: VmDesired,
    pub seen: Seen,
    /// A running domain that is not defined vanishes when it stops.
    pub persistent: bool,
    pub restart_requested: bool,
    /// It was seen running at this generation of its spec: it is not to be started for that again.
    pub ran: bool,
    /// When it was last seen it was up.
    pub was_up: bool,
    pub stopping: Option<Patience>,
    /// The host has booted since it was last seen up.
    pub rebooted: bool,
    pub policy: RestartPolicy,
    pub remove_when_stopped: bool,
    /// It has a disk.
    pub prepared: bool,
    /// How it ended the last time.
    pub last_stop: Option<StopKind>,
    pub memory: Kept,
    /// The wait before its policy starts it again is not over.
    pub resting: bool,
    /// It is to be off until the host's next boot.
    pub held: bool,
    /// It is started after a boot of the host.
    pub autostart: bool,
    /// After a boot of the host others come before it.
    pub queued: bool,
    /// Since it was started the guest told of that trouble.
    pub alarm: Option<AlarmKind>,
    /// Its watchdog is to cut its power.
    pub watchdog_cuts: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Make all it needs, define it, start it.
    Start,
    /// As its policy wants, which is counted.
    StartAgain,
    /// Its policy starts it again once the wait is over.
    Rest,
    /// After a boot of the host: others are started before it.
    AwaitTurn,
    /// Define it, and leave it off.
    Define,
    /// Define it again under the guest that runs.
    DefineRunning,
    /// Ask the guest to power off; again where it was asked before.
    Ask,
    /// A paused guest hears nothing: let it run, and ask.
    ResumeAndAsk,
    /// Leave it the rest of its grace.
    AwaitOff,
    CutPower,
    Pause,
    Resume,
    /// Write its memory to disk and end it.
    Suspend,
    /// It ended while its memory was written: whole or not.
    AdoptMemory,
    /// Its memory on disk is not, or no longer, one to go on from.
    ForgetMemory,
    /// Let it go on from its memory on disk.
    Wake,
    /// It is off with its memory on disk, as wanted.
    Suspended,
    /// It is up, as wanted.
    Up,
    /// It is off, as wanted or as its policy says.
    Off,
    /// It has done what it was for.
    Remove,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VmPlan {
    /// It was up and is not: how that came.
    pub ended: Option<StopKind>,
    pub step: Step,
}

pub fn plan_vm(s: &Situation) -> VmPlan {
    let ended = ended(s);
    let how = ended.or(s.last_stop);
    let desired = if s.held { VmDesired::Stopped } else { s.desired };
    if let Some(step) = with_memory(s, desired) {
        return VmPlan { ended, step };
    }
    let step = match (desired, s.seen) {
        (VmDesired::Stopped | VmDesired::Suspended, Seen::Absent | Seen::Off(_)) => off(s, how),
        (VmDesired::Stopped, Seen::Running) => power_off(s),
        (VmDesired::Stopped, Seen::Paused) => power_off_paused(s),
        (VmDesired::Running | VmDesired::Paused, Seen::Absent | Seen::Off(_)) => start_or_stay(s, how),
        (VmDesired::Running, Seen::Running) => up(s, power_off, Step::Up),
        (VmDesired::Running, Seen::Paused) => up(s, power_off_paused, Step::Resume),
        (VmDesired::Suspended, Seen::Running | Seen::Paused) => up(s, power_off, Step::Suspend),
        (VmDesired::Paused, Seen::Running) => up(s, power_off, Step::Pause),
        (VmDesired::Paused, Seen::Paused) => up(s, power_off_paused, Step::Up),
    };
    VmPlan { ended, step }
}

/// What its memory on disk makes of it, where there is one. It is good only as long as its guest has not run since.
fn with_memory(s: &Situation, desired: VmDesired) -> Option<Step> {
    match (s.memory, s.seen, desired) {
        (Kept::Nothing, ..) => None,
        (Kept::BeingWritten, Seen::Running | Seen::Paused, VmDesired::Suspended) => None,
        (Kept::Discarded, ..) | (_, Seen::Running | Seen::Paused, _) => Some(Step::ForgetMemory),
        (_, Seen::Off(OffReason::Shutdown | OffReason::Destroyed | OffReason::Crashed), _) => {
            Some(Step::ForgetMemory)
        }
        (Kept::BeingWritten, ..) => Some(Step::AdoptMemory),
        (Kept::Whole, _, VmDesired::Running | VmDesired::Paused) => Some(Step::Wake),
        (Kept::Whole, _, VmDesired::Stopped | VmDesired::Suspended) => Some(Step::Suspended),
    }
}

/// How it went from up to off, if it did.
fn ended(s: &Situation) -> Option<StopKind> {
    let reason = match s.seen {
        Seen::Running | Seen::Paused => return None,
        // A domain that somebody destroyed and undefined; had it powered off it would still be defined.
        Seen::Absent => OffReason::Destroyed,
        Seen::Off(reason) => reason,
    };
    if !s.was_up {
        return None;
    }
    Some(match (s.stopping, reason) {
        _ if s.rebooted => StopKind::HostDown,
        (Some(_), OffReason::Shutdown) => StopKind::Acpi,
        (None, OffReason::Shutdown) => StopKind::Guest,
        (_, OffReason::Saved) => StopKind::Suspended,
        (_, OffReason::Crashed) => match s.alarm {
            Some(AlarmKind::Panic) => StopKind::Panicked,
            Some(AlarmKind::Watchdog) if s.watchdog_cuts => StopKind::Watchdog,
            Some(AlarmKind::Watchdog) | None => StopKind::Crashed,
        },
        (Some(Patience::Over), OffReason::Destroyed | OffReason::Unknown) => StopKind::Forced,
        (Some(Patience::Left), OffReason::Unknown) => StopKind::Acpi,
        (None | Some(Patience::Left), OffReason::Destroyed) => StopKind::Destroyed,
        (None, OffReason::Unknown) => StopKind::Unknown,
    })
}

fn power_off(s: &Situation) -> Step {
    match s.stopping {
        None | Some(Patience::Left) => Step::Ask,
        Some(Patience::Over) => Step::CutPower,
    }
}

fn power_off_paused(s: &Situation) -> Step {
    match s.stopping {
        None | Some(Patience::Left) => Step::ResumeAndAsk,
        Some(Patience::Over) => Step::CutPower,
    }
}

/// It is up and wanted up. `otherwise` is what brings it from how it is up to how it should be.
fn up(s: &Situation, power_off: fn(&Situation) -> Step, otherwise: Step) -> Step {
    if s.restart_requested {
        return power_off(s);
    }
    match s.stopping {
        // Wanted again while it powers off: the guest has been asked and may go down any moment.
        Some(Patience::Left) => Step::AwaitOff,
        None | Some(Patience::Over) if !s.persistent => Step::DefineRunning,
        None | Some(Patience::Over) => otherwise,
    }
}

fn start_or_stay(s: &Situation, how: Option<StopKind>) -> Step {
    if s.rebooted && s.ran && !s.restart_requested && !s.autostart {
        return off(s, how);
    }
    if s.queued && s.ran {
        return Step::AwaitTurn;
    }
    if s.restart_requested || s.stopping.is_some() || !s.ran {
        return Step::Start;
    }
    let again = if s.resting { Step::Rest } else { Step::StartAgain };
    match (how, s.policy) {
        // Nobody wanted it to end.
        (
            None
            | Some(
                StopKind::HostDown
                | StopKind::Acpi
                | StopKind::Forced
                | StopKind::Suspended
                | StopKind::Restored,
            ),
            _,
        ) => Step::Start,
        (Some(_), RestartPolicy::Always) => again,
        (
            Some(
                StopKind::Crashed
                | StopKind::Panicked
                | StopKind::Watchdog
                | StopKind::Destroyed
                | StopKind::Unknown,
            ),
            RestartPolicy::OnFailure,
        ) => again,
        (Some(StopKind::Guest), RestartPolicy::OnFailure) | (Some(_), RestartPolicy::Never) => off(s, how),
    }
}

fn off(s: &Situation, how: Option<StopKind>) -> Step {
    if s.remove_when_stopped && how.is_some() && !s.held {
        Step::Remove
    } else if s.seen == Seen::Absent && s.prepared {
        Step::Define
    } else {
        Step::Off
    }
}
