//! Does what the plan says, one step a round, and looks again after each.
//!
//! Every step may be the last one that this daemon takes. What must be known afterwards is therefore written down
//! before the host is changed: the image before the container is made of it, that it is about to be started before it is,
//! the time of asking before it gets its signal. What can be seen on the host is written down after.

use std::time::Duration;

use agentd_api::container::{Container, ContainerDesired, ContainerEnd, ContainerStatus, ContainerStop};
use agentd_api::{Object, State, Timestamp};
use agentd_drivers::container::{ContainerError, ContainerSeen, ContainerState};

use super::Containers;
use super::observe::{self, View};
use super::plan::{ContainerPlan, Step, plan_container};
use crate::reconcile::backend::BACKEND_AVAILABLE;
use crate::reconcile::guest::boot;
use crate::reconcile::guest::life::{self, Expiry, STOPPING};
use crate::reconcile::runtime::{Fault, Note, Outcome, Pass};

/// More rounds than any way from one state to another has.
const ROUNDS: usize = 12;

/// One pass over one container.
pub struct Work<'a> {
    pub containers: &'a Containers,
    pub pass: &'a Pass,
    pub object: &'a Object<Container>,
    pub status: ContainerStatus,
    pub notes: Vec<Note>,
}

/// What comes after a step.
pub(super) enum Turn {
    /// Look again.
    Again,
    End(Option<Duration>),
    Remove,
}

pub(super) enum Halt {
    Fault(Fault),
    /// The engine is away, which is nobody's failed attempt.
    Away,
}

impl From<Fault> for Halt {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl Work<'_> {
    pub async fn run(self) -> Outcome<ContainerStatus> {
        match Expiry::of(self.object.spec.expiry(), Timestamp::now()) {
            Expiry::Never => self.live().await,
            Expiry::Over(at) => {
                let note = Note::done("expired", format!("its time was over at {at}"));
                Outcome { delete: true, ..Outcome::settled(self.status) }.note(note)
            }
            Expiry::In(left) => {
                let outcome = self.live().await;
                let again = Some(outcome.again.map_or(left, |again| again.min(left)));
                Outcome { again, ..outcome }
            }
        }
    }

    async fn live(mut self) -> Outcome<ContainerStatus> {
        if let Err(fault) = self.forget_old_names().await {
            return self.end(Some(fault), None);
        }
        if self.containers.backend.down().is_some() {
            return self.without_backend();
        }
        for _ in 0..ROUNDS {
            match self.round().await {
                Ok(Turn::Again) => {}
                Ok(Turn::End(again)) => return self.end(None, again),
                Ok(Turn::Remove) => return Outcome { delete: true, ..self.end(None, None) },
                Err(Halt::Fault(fault)) => return self.end(Some(fault), None),
                Err(Halt::Away) => return self.without_backend(),
            }
        }
        self.end(None, Some(Duration::from_secs(1)))
    }

    fn end(self, fault: Option<Fault>, again: Option<Duration>) -> Outcome<ContainerStatus> {
        if fault.is_some() || self.status.common.state == State::Failed {
            self.containers.turn_is_over(self.pass.key(), None);
        }
        Outcome { fault, again, notes: self.notes, ..Outcome::settled(self.status) }
    }

    fn without_backend(mut self) -> Outcome<ContainerStatus> {
        let again = life::without_backend(&mut self.status.common, &self.containers.backend, "the engine");
        self.end(None, again)
    }

    /// The driver's answer, or how its error is to be taken.
    pub(super) fn told<T>(&self, answer: Result<T, ContainerError>) -> Result<T, Halt> {
        answer.map_err(|e| if self.containers.backend.told(&e) { Halt::Away } else { Halt::Fault(e.into()) })
    }

    async fn round(&mut self) -> Result<Turn, Halt> {
        let id = self.object.meta.id;
        self.attend();
        let seen = self.told(self.containers.driver().observe(id).await)?;
        self.status.common.set_condition(BACKEND_AVAILABLE, true, "");
        if self.has_lost(seen.as_ref()) {
            return Ok(Turn::Again);
        }
        if let Some(seen) = &seen {
            self.take_over(seen).await?;
        }
        self.take_up_start(seen.as_ref());
        let turn = self.containers.queue.turn(self.pass.key());
        let view = View {
            boot: &self.containers.boot_id,
            now: Timestamp::now(),
            queued: matches!(turn, boot::Turn::Later(_)),
            asked: self.containers.asked.lock().contains(&id),
            outage: self.containers.driver().outage(),
        };
        let situation = observe::situation(self.object, &self.status, seen.as_ref(), &view);
        let ContainerPlan { ended, step } = plan_container(&situation);
        if let Some(how) = ended {
            self.record_end(how, seen.as_ref());
        } else if let Some(seen) = &seen {
            self.hear_late(seen);
        }
        self.take(step, turn, seen).await
    }

    async fn take(
        &mut self,
        step: Step,
        turn: boot::Turn,
        seen: Option<ContainerSeen>,
    ) -> Result<Turn, Halt> {
        let (driver, id) = (self.containers.driver(), self.object.meta.id);
        match step {
            Step::Make => self.make().await,
            Step::Start => self.start(0, seen).await,
            Step::StartAgain => self.start(observe::run(&self.status).restarts() + 1, seen).await,
            Step::Rest => Ok(self.rest()),
            Step::AwaitTurn => Ok(self.await_turn(turn)),
            Step::Ask => self.ask(false).await,
            Step::AskAndResume => self.ask(true).await,
            Step::AwaitOff => Ok(Turn::End(Some(self.say_until()))),
            Step::Kill => {
                self.told(driver.kill(id).await)?;
                Ok(Turn::Again)
            }
            Step::Pause => {
                self.told(driver.pause(id).await)?;
                self.notes.push(Note::done("paused", "its processes are frozen"));
                Ok(Turn::Again)
            }
            Step::Resume => {
                self.told(driver.unpause(id).await)?;
                self.notes.push(Note::done("resumed", "its processes run on"));
                Ok(Turn::Again)
            }
            Step::Up => self.up(seen).await,
            Step::Off => {
                self.keep_beside(seen.as_ref()).await?;
                Ok(self.off(seen.as_ref()))
            }
            Step::Remove => {
                self.off(seen.as_ref());
                Ok(Turn::Remove)
            }
        }
    }

    fn record_end(&mut self, how: ContainerEnd, seen: Option<&ContainerSeen>) {
        let at = observe::run(&self.status).stop_at();
        self.status.last_stop = Some(ContainerStop { how, at, generation: self.object.meta.generation });
        let exit = seen.and_then(|seen| seen.exit.as_ref());
        self.status.exit_code = exit.map(|exit| i64::from(exit.code));
        self.status.oom_killed = exit.is_some_and(|exit| exit.oom);
        self.status.finished_at = seen.and_then(|seen| seen.finished_at).or(Some(at));
        self.status.health = None;
        self.containers.asked.lock().remove(&self.object.meta.id);
        let text = self.end_text(how);
        self.notes.push(match how {
            ContainerEnd::Stopped | ContainerEnd::Killed => Note::done("stopped", text),
            _ => Note::seen("stopped", text),
        });
    }

    /// An engine may learn only after an end that it was for want of memory.
    fn hear_late(&mut self, seen: &ContainerSeen) {
        let status = &mut self.status;
        let code = seen.exit.as_ref().filter(|exit| exit.oom).map(|exit| i64::from(exit.code));
        if code.is_none()
            || status.oom_killed
            || status.exit_code != code
            || status.finished_at != seen.finished_at
        {
            return;
        }
        status.oom_killed = true;
        let failed = status.last_stop.as_mut().filter(|stop| stop.how == ContainerEnd::Failed);
        if let Some(stop) = failed {
            stop.how = ContainerEnd::OomKilled;
            let text = self.end_text(ContainerEnd::OomKilled);
            self.status.common.reason = Some(text.clone());
            self.notes.push(Note::seen("stopped", text));
        }
    }

    pub(super) async fn publish(&mut self) -> Result<(), Fault> {
        let notes = std::mem::take(&mut self.notes);
        self.pass.publish_noting::<Container>(&self.status, notes).await
    }

    async fn ask(&mut self, paused: bool) -> Result<Turn, Halt> {
        let (driver, id) = (self.containers.driver(), self.object.meta.id);
        life::begin_stopping(&mut self.status.common);
        let left = self.say_until();
        self.publish().await?;
        self.told(driver.ask_to_stop(id).await)?;
        self.containers.asked.lock().insert(id);
        if paused {
            self.told(driver.unpause(id).await)?;
        }
        Ok(Turn::End(Some(left)))
    }

    /// What is left of its grace, and the reason that says so.
    fn say_until(&mut self) -> Duration {
        let until = observe::deadline(self.object, &self.status).unwrap_or_else(Timestamp::now);
        self.status.common.reason = Some(format!("asked to stop, killed at {until}"));
        life::until(until)
    }

    async fn up(&mut self, seen: Option<ContainerSeen>) -> Result<Turn, Halt> {
        let Some(seen) = seen else { return Ok(Turn::Again) };
        if !self.status.was_up() {
            // Somebody else started it.
            self.has_started(&seen);
        }
        let again = self.bring(&seen).await?;
        self.status.engine_id = Some(seen.engine_id.clone());
        self.status.health = observe::health(&seen);
        self.status.started_generation = Some(self.object.meta.generation);
        self.status.host_boot = Some(self.containers.boot_id.clone());
        self.containers.asked.lock().remove(&self.object.meta.id);
        let paused = seen.state == ContainerState::Paused;
        let common = &mut self.status.common;
        common.state = if paused { State::Paused } else { State::Running };
        (common.reason, common.progress) = (None, None);
        common.clear_condition(STOPPING);
        Ok(Turn::End(again))
    }

    fn rest(&mut self) -> Turn {
        let until = observe::run(&self.status).rest_until().unwrap_or_else(Timestamp::now);
        let why = self.last_end_text().unwrap_or_default();
        life::off_for_now(&mut self.status.common, format!("{why}; it is started again at {until}"));
        Turn::End(Some(life::until(until)))
    }

    fn await_turn(&mut self, turn: boot::Turn) -> Turn {
        let why = self.last_end_text().map(|why| format!("{why}; ")).unwrap_or_default();
        let reason = format!("{why}it is started once those before it have been");
        life::off_for_now(&mut self.status.common, reason);
        match turn {
            boot::Turn::Now => Turn::Again,
            boot::Turn::Later(left) => Turn::End(Some(left)),
        }
    }

    fn off(&mut self, seen: Option<&ContainerSeen>) -> Turn {
        self.containers.turn_is_over(self.pass.key(), None);
        self.containers.asked.lock().remove(&self.object.meta.id);
        let held = self.status.held_boot.as_deref() == Some(&self.containers.boot_id);
        let how = self.status.last_stop.as_ref().map(|stop| stop.how);
        let reason = match how {
            _ if held => Some("kept off until the next boot of the host".to_owned()),
            None | Some(ContainerEnd::Stopped | ContainerEnd::Exited) => None,
            Some(_) => self.last_end_text(),
        };
        self.status.engine_id = seen.map(|seen| seen.engine_id.clone());
        self.status.health = None;
        self.status.restart_requested = false;
        let common = &mut self.status.common;
        (common.state, common.reason, common.progress) = (State::Stopped, reason, None);
        common.clear_condition(STOPPING);
        Turn::End(None)
    }

    fn last_end_text(&self) -> Option<String> {
        self.status.last_stop.as_ref().map(|stop| self.end_text(stop.how))
    }

    fn end_text(&self, how: ContainerEnd) -> String {
        let code = self.status.exit_code.map(|code| format!(" with {code}")).unwrap_or_default();
        match how {
            ContainerEnd::Stopped => format!("stopped as it was asked to{code}"),
            ContainerEnd::Killed => {
                format!("did not stop within {}, and was killed", self.object.spec.grace)
            }
            ContainerEnd::Exited => format!("it ended by itself{code}"),
            ContainerEnd::Failed => format!("it ended{code}"),
            ContainerEnd::OomKilled => "the kernel killed it for want of memory".to_owned(),
            ContainerEnd::Removed => "somebody else removed it from the engine".to_owned(),
            ContainerEnd::HostDown => "the host or its engine went down while it ran".to_owned(),
        }
    }

    pub(super) fn wants_pause(&self) -> bool {
        self.object.spec.desired == ContainerDesired::Paused
    }
}
