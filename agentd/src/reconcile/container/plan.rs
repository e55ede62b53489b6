//! What to do about a container, from what is wanted and what was seen. Pure: one exhaustive match, no clock, no host.

use agentd_api::container::{ContainerDesired, ContainerEnd};
use agentd_api::life::RestartPolicy;

/// The container in the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    Absent,
    /// It was made and never ran.
    Created,
    Exited(Exit),
    Running,
    Paused,
}

/// How its last run ended, as the engine says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    pub code: i32,
    pub oom: bool,
    /// While the engine was away, or as it came back: it took its containers with it.
    pub with_engine: bool,
}

/// How far a stop that agentd asked for has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// It has not had its signal from this daemon.
    Unasked,
    /// It has, and its grace is not over.
    Left,
    Over,
}

/// All that the plan depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Situation {
    pub desired: ContainerDesired,
    pub seen: Seen,
    pub restart_requested: bool,
    /// It was seen running at this generation of its spec: it is not to be started for that again.
    pub ran: bool,
    /// It was started at some time.
    pub started: bool,
    /// When it was last seen it was up.
    pub was_up: bool,
    pub stopping: Option<Patience>,
    /// The host has booted since it was last seen up.
    pub rebooted: bool,
    pub policy: RestartPolicy,
    pub remove_when_stopped: bool,
    /// How it ended the last time.
    pub last_stop: Option<ContainerEnd>,
    /// The wait before its policy starts it again is not over.
    pub resting: bool,
    /// It is to be off until the host's next boot.
    pub held: bool,
    /// It is started after a boot of the host.
    pub autostart: bool,
    /// After a boot of the host others come before it.
    pub queued: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Make all it needs and itself, so that it can be given files before its first start.
    Make,
    /// Make all it needs and itself, and start it.
    Start,
    /// As its policy wants, which is counted.
    StartAgain,
    /// Its policy starts it again once the wait is over.
    Rest,
    /// After a boot of the host: others are started before it.
    AwaitTurn,
    /// Send it its stop signal.
    Ask,
    /// One that is frozen hears nothing: send it its signal, and let it run.
    AskAndResume,
    /// Leave it the rest of its grace.
    AwaitOff,
    Kill,
    Pause,
    Resume,
    /// It is up, as wanted.
    Up,
    /// It is off, as wanted or as its policy says.
    Off,
    /// It has done what it was for.
    Remove,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContainerPlan {
    /// It was up and is not: how that came.
    pub ended: Option<ContainerEnd>,
    pub step: Step,
}

pub fn plan_container(s: &Situation) -> ContainerPlan {
    use ContainerDesired::{Paused, Running, Stopped};
    let ended = ended(s);
    let how = ended.or(s.last_stop);
    let desired = if s.held { Stopped } else { s.desired };
    let step = match (desired, s.seen) {
        (Stopped, Seen::Absent) if !s.started && !s.held => Step::Make,
        (Stopped, Seen::Absent | Seen::Created | Seen::Exited(_)) => off(s, how),
        (Stopped, Seen::Running) => stop(s),
        (Stopped, Seen::Paused) => stop_paused(s),
        (Running | Paused, Seen::Absent | Seen::Created | Seen::Exited(_)) => start_or_stay(s, how),
        (Running, Seen::Running) => up(s, stop, Step::Up),
        (Running, Seen::Paused) => up(s, stop_paused, Step::Resume),
        (Paused, Seen::Running) => up(s, stop, Step::Pause),
        (Paused, Seen::Paused) => up(s, stop_paused, Step::Up),
    };
    ContainerPlan { ended, step }
}

/// How it went from up to off, if it did.
fn ended(s: &Situation) -> Option<ContainerEnd> {
    let exit = match s.seen {
        Seen::Running | Seen::Paused => return None,
        // What is made anew by its name is another one; ours has gone.
        Seen::Absent | Seen::Created => None,
        Seen::Exited(exit) => Some(exit),
    };
    if !s.was_up {
        return None;
    }
    Some(match (exit, s.stopping) {
        _ if s.rebooted => ContainerEnd::HostDown,
        (None, _) => ContainerEnd::Removed,
        (Some(_), Some(Patience::Over)) => ContainerEnd::Killed,
        (Some(_), Some(Patience::Left | Patience::Unasked)) => ContainerEnd::Stopped,
        (Some(exit), None) if exit.with_engine => ContainerEnd::HostDown,
        (Some(exit), None) if exit.oom => ContainerEnd::OomKilled,
        (Some(exit), None) if exit.code == 0 => ContainerEnd::Exited,
        (Some(_), None) => ContainerEnd::Failed,
    })
}

fn stop(s: &Situation) -> Step {
    match s.stopping {
        None | Some(Patience::Unasked) => Step::Ask,
        Some(Patience::Left) => Step::AwaitOff,
        Some(Patience::Over) => Step::Kill,
    }
}

fn stop_paused(s: &Situation) -> Step {
    match s.stopping {
        None | Some(Patience::Unasked | Patience::Left) => Step::AskAndResume,
        Some(Patience::Over) => Step::Kill,
    }
}

/// It is up and wanted up. `otherwise` is what brings it from how it is up to how it should be.
fn up(s: &Situation, stop: fn(&Situation) -> Step, otherwise: Step) -> Step {
    if s.restart_requested {
        return stop(s);
    }
    match s.stopping {
        // Wanted again while it stops: it has its signal and may go any moment.
        Some(Patience::Left) => Step::AwaitOff,
        None | Some(Patience::Unasked | Patience::Over) => otherwise,
    }
}

fn start_or_stay(s: &Situation, how: Option<ContainerEnd>) -> Step {
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
        (None | Some(ContainerEnd::HostDown | ContainerEnd::Stopped | ContainerEnd::Killed), _) => {
            Step::Start
        }
        (Some(_), RestartPolicy::Always) => again,
        (
            Some(ContainerEnd::Failed | ContainerEnd::OomKilled | ContainerEnd::Removed),
            RestartPolicy::OnFailure,
        ) => again,
        (Some(ContainerEnd::Exited), RestartPolicy::OnFailure) | (Some(_), RestartPolicy::Never) => {
            off(s, how)
        }
    }
}

fn off(s: &Situation, how: Option<ContainerEnd>) -> Step {
    if s.remove_when_stopped && how.is_some() && !s.held { Step::Remove } else { Step::Off }
}
