//! Does what the plan says, one step a round, and looks again after each.
//!
//! Every step may be the last one that this daemon takes. What must be known afterwards is therefore written down
//! before the host is changed: the digest before the disk stands on it, the time of asking before the guest is asked.
//! What can be seen on the host is written down after.

use std::time::Duration;

use agentd_api::vm::{StopKind, Vm, VmDesired, VmStatus, VmStop};
use agentd_api::{Object, State, Timestamp};
use agentd_drivers::vm::{DomainSeen, VmError};

use super::Vms;
use super::disks::DISKS_PLUGGED;
use super::guests;
use super::hotplug::PENDING_GUEST;
use super::observe::{self, View};
use super::plan::{Step, VmPlan, plan_vm};
use crate::reconcile::backend::BACKEND_AVAILABLE;
use crate::reconcile::guest::boot;
use crate::reconcile::guest::life::{self, Expiry, STOPPING};
use crate::reconcile::runtime::{Fault, Note, Outcome, Pass};

/// More rounds than any way from one state to another has.
const ROUNDS: usize = 12;
/// A guest that has not powered off is asked again this often: early in its boot it hears nothing.
const ASK_AGAIN: Duration = Duration::from_secs(5);
pub const PENDING_RESTART: &str = "pending_restart";

/// One pass over one VM.
pub struct Work<'a> {
    pub vms: &'a Vms,
    pub pass: &'a Pass,
    pub object: &'a Object<Vm>,
    pub status: VmStatus,
    pub notes: Vec<Note>,
    /// This pass has made its place on the network.
    pub networked: bool,
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
    /// libvirt is away, which is nobody's failed attempt.
    Away,
}

impl From<Fault> for Halt {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl Work<'_> {
    pub async fn run(self) -> Outcome<VmStatus> {
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

    async fn live(mut self) -> Outcome<VmStatus> {
        if self.vms.backend.down().is_some() {
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

    fn end(self, fault: Option<Fault>, again: Option<Duration>) -> Outcome<VmStatus> {
        if fault.is_some() || self.status.common.state == State::Failed {
            self.vms.turn_is_over(self.pass.key(), None);
        }
        Outcome { fault, again, notes: self.notes, ..Outcome::settled(self.status) }
    }

    fn without_backend(mut self) -> Outcome<VmStatus> {
        let again = life::without_backend(&mut self.status.common, &self.vms.backend, "libvirt");
        self.end(None, again)
    }

    /// The driver's answer, or how its error is to be taken.
    pub(super) fn told<T>(&self, answer: Result<T, VmError>) -> Result<T, Halt> {
        answer.map_err(|e| if self.vms.backend.told(&e) { Halt::Away } else { Halt::Fault(e.into()) })
    }

    async fn round(&mut self) -> Result<Turn, Halt> {
        let domain = self.told(self.vms.drivers.vm.observe(self.object.meta.id).await)?;
        self.status.common.set_condition(BACKEND_AVAILABLE, true, "");
        self.account_volumes(domain.as_ref()).await?;
        if let Some(origin) = self.status.origin.clone().filter(|origin| !origin.disks_made) {
            return self.make_disks(origin).await;
        }
        self.not_lost(domain.as_ref()).await?;
        if let Some(way) = self.status.restore.clone() {
            return self.restore(way, domain.as_ref()).await;
        }
        if !self.give_back_addresses(domain.as_ref()).await? {
            return Ok(Turn::End(None));
        }
        self.take_alarms();
        let turn = self.vms.queue.turn(self.pass.key());
        let view = View {
            boot: &self.vms.boot_id,
            now: Timestamp::now(),
            queued: matches!(turn, boot::Turn::Later(_)),
        };
        let situation = observe::situation(self.object, &self.status, domain.as_ref(), &view);
        let VmPlan { ended, step } = plan_vm(&situation);
        if let Some(how) = ended {
            self.record_end(how);
        }
        self.take(step, turn, domain).await
    }

    async fn take(&mut self, step: Step, turn: boot::Turn, domain: Option<DomainSeen>) -> Result<Turn, Halt> {
        match step {
            Step::Start => self.start(0).await,
            Step::StartAgain => self.start(observe::run(&self.status).restarts() + 1).await,
            Step::Rest => Ok(self.rest()),
            Step::AwaitTurn => Ok(self.await_turn(turn)),
            Step::Define | Step::DefineRunning => self.define(step == Step::DefineRunning).await,
            Step::Ask => self.ask(false).await,
            Step::ResumeAndAsk => self.ask(true).await,
            Step::AwaitOff => Ok(self.await_off()),
            Step::CutPower => {
                self.told(self.vms.drivers.vm.destroy(self.object.meta.id).await)?;
                Ok(Turn::Again)
            }
            Step::Pause => {
                self.told(self.vms.drivers.vm.pause(self.object.meta.id).await)?;
                self.notes.push(Note::done("paused", "its CPUs are halted"));
                Ok(Turn::Again)
            }
            Step::Resume => {
                self.told(self.vms.drivers.vm.resume(self.object.meta.id).await)?;
                // Its clock stood still meanwhile. One without an agent sees to it itself.
                let (driver, id) = (self.vms.drivers.vm.clone(), self.object.meta.id);
                tokio::spawn(async move { driver.set_time(id).await });
                self.notes.push(Note::done("resumed", "its CPUs run on"));
                Ok(Turn::Again)
            }
            Step::Suspend => self.suspend().await,
            Step::AdoptMemory => self.adopt_memory().await,
            Step::ForgetMemory => self.forget_memory().await,
            Step::Wake => self.wake().await,
            Step::Suspended => Ok(self.suspended()),
            Step::Up => self.up(domain).await,
            Step::Off => {
                let new = self.object.meta.generation != self.object.status.common.observed_generation;
                if new && self.status.image_digest.is_some() {
                    self.network_beside().await?;
                }
                Ok(self.off())
            }
            Step::Remove => {
                self.off();
                Ok(Turn::Remove)
            }
        }
    }

    pub(super) fn record_end(&mut self, how: StopKind) {
        let at = observe::run(&self.status).stop_at();
        self.status.last_stop = Some(VmStop { how, at, generation: self.object.meta.generation });
        let text = end_text(how, self.object);
        self.notes.push(match how {
            StopKind::Acpi | StopKind::Forced | StopKind::Suspended | StopKind::Restored => {
                Note::done("stopped", text)
            }
            _ => Note::seen("stopped", text),
        });
    }

    pub(super) async fn publish(&mut self) -> Result<(), Fault> {
        let notes = std::mem::take(&mut self.notes);
        self.pass.publish_noting::<Vm>(&self.status, notes).await
    }

    async fn ask(&mut self, paused: bool) -> Result<Turn, Halt> {
        let id = self.object.meta.id;
        life::begin_stopping(&mut self.status.common);
        let left = self.say_until();
        self.publish().await?;
        if paused {
            self.told(self.vms.drivers.vm.resume(id).await)?;
        }
        self.told(self.vms.drivers.vm.shutdown(id).await)?;
        Ok(Turn::End(Some(left.min(ASK_AGAIN))))
    }

    fn await_off(&mut self) -> Turn {
        Turn::End(Some(self.say_until()))
    }

    /// What is left of the guest's grace, and the reason that says so.
    fn say_until(&mut self) -> Duration {
        let until = observe::deadline(self.object, &self.status).unwrap_or_else(Timestamp::now);
        self.status.common.reason = Some(format!("asked to power off, forced at {until}"));
        life::until(until)
    }

    async fn up(&mut self, domain: Option<DomainSeen>) -> Result<Turn, Halt> {
        let Some(domain) = domain else { return Ok(Turn::Again) };
        if !self.status.was_up() {
            self.status.guest = None;
            self.status.started_at = Some(observe::run(&self.status).start_at(Timestamp::now()));
        }
        self.vms.drivers.vm.attend(self.object.meta.id, true);
        guests::write(&mut self.status, &self.vms.drivers.vm.guest_seen(self.object.meta.id));
        self.status.started_generation = Some(self.object.meta.generation);
        self.status.host_boot = Some(self.vms.boot_id.clone());
        self.status.accel = domain.accel.or(self.status.accel);
        let plugged = self.plug(&domain).await?;
        let common = &mut self.status.common;
        common.state =
            if self.object.spec.desired == VmDesired::Paused { State::Paused } else { State::Running };
        (common.reason, common.progress) = (None, None);
        common.clear_condition(STOPPING);
        let again = self.bring(domain).await?;
        Ok(Turn::End(plugged.into_iter().chain(again).min()))
    }

    fn rest(&mut self) -> Turn {
        let until = observe::run(&self.status).rest_until().unwrap_or_else(Timestamp::now);
        let why =
            self.status.last_stop.as_ref().map(|stop| end_text(stop.how, self.object)).unwrap_or_default();
        life::off_for_now(&mut self.status.common, format!("{why}; it is started again at {until}"));
        Turn::End(Some(life::until(until)))
    }

    fn off(&mut self) -> Turn {
        self.vms.turn_is_over(self.pass.key(), None);
        let held = boot::held(self.object, &self.vms.boot_id);
        let reason = match self.status.last_stop.as_ref().map(|stop| stop.how) {
            _ if held => Some("kept off until the next boot of the host".to_owned()),
            None | Some(StopKind::Acpi | StopKind::Suspended | StopKind::Restored) => None,
            Some(how) => Some(end_text(how, self.object)),
        };
        self.vms.drivers.vm.attend(self.object.meta.id, false);
        self.status.guest = None;
        self.status.restart_requested = false;
        let common = &mut self.status.common;
        (common.state, common.reason, common.progress) = (State::Stopped, reason, None);
        common.clear_condition(STOPPING);
        common.clear_condition(PENDING_RESTART);
        common.clear_condition(DISKS_PLUGGED);
        common.clear_condition(PENDING_GUEST);
        Turn::End(None)
    }
}

pub(super) fn end_text(how: StopKind, object: &Object<Vm>) -> String {
    match how {
        StopKind::Acpi => "powered off as it was asked to".to_owned(),
        StopKind::Forced => format!("did not power off within {}, and was forced off", object.spec.grace),
        StopKind::Guest => "the guest powered off by itself".to_owned(),
        StopKind::Crashed => "the guest crashed, or its emulator died".to_owned(),
        StopKind::Panicked => "the guest's kernel panicked".to_owned(),
        StopKind::Watchdog => "its watchdog, which the guest fed no more, cut its power".to_owned(),
        StopKind::Destroyed => "somebody else cut its power".to_owned(),
        StopKind::Suspended => "its memory was written to disk".to_owned(),
        StopKind::Restored => "it was stopped to be taken back to a snapshot".to_owned(),
        StopKind::HostDown => "the host went down while it ran".to_owned(),
        StopKind::Unknown => "it ended while nobody watched".to_owned(),
    }
}
