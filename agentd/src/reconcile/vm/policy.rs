//! What a VM's policies come to in a pass: its turn after a boot of the host, the guest's own alarms, its
//! limits.

use std::collections::HashMap;
use std::time::Duration;

use agentd_api::vm::{AlarmKind, VmAlarm, WatchdogAction};
use agentd_api::{ObjectKey, State, Timestamp};
use agentd_drivers::vm::{NicSeen, Unmet};
use parking_lot::Mutex;
use uuid::Uuid;

use super::apply::{Halt, Turn, Work, end_text};
use super::{Vms, define};
use crate::reconcile::guest::{boot, life};
use crate::reconcile::runtime::Note;

/// The condition that is false while a running guest lacks limits that its spec asks for, for this host cannot give them.
pub const LIMITS_APPLIED: &str = "limits_applied";

/// What guests told of and no pass has written down yet. What is told while the daemon is away is not heard.
#[derive(Debug, Default)]
pub struct Alarms(Mutex<HashMap<Uuid, VmAlarm>>);

impl Alarms {
    pub fn tell(&self, vm: Uuid, what: AlarmKind) {
        self.0.lock().insert(vm, VmAlarm { what, at: Timestamp::now() });
    }
    fn take(&self, vm: Uuid) -> Option<VmAlarm> {
        self.0.lock().remove(&vm)
    }
}

impl Vms {
    /// It was started, with that delay for those behind it; or it did not come up, and nobody waits for it any more.
    pub(super) fn turn_is_over(&self, vm: &ObjectKey, delay: Option<Duration>) {
        self.queue.over(vm, delay, &self.trigger);
    }
}

impl Work<'_> {
    pub(super) fn take_alarms(&mut self) {
        let Some(alarm) = self.vms.alarms.take(self.object.meta.id) else { return };
        self.status.last_alarm = Some(alarm);
        self.notes.push(match alarm.what {
            AlarmKind::Panic => Note::seen("panicked", "the guest's kernel panicked"),
            AlarmKind::Watchdog => {
                let then = match self.object.spec.watchdog {
                    Some(WatchdogAction::Reset) => "; it is reset",
                    Some(WatchdogAction::Poweroff) => "; its power is cut",
                    Some(WatchdogAction::Record) | None => "",
                };
                Note::seen("watchdog", format!("the guest stopped feeding its watchdog{then}"))
            }
        });
    }

    pub(super) fn await_turn(&mut self, turn: boot::Turn) -> Turn {
        let why = self.status.last_stop.as_ref().map(|stop| end_text(stop.how, self.object));
        let why = why.map(|why| format!("{why}; ")).unwrap_or_default();
        let reason = format!("{why}it is started once those before it have been");
        life::off_for_now(&mut self.status.common, reason);
        match turn {
            boot::Turn::Now => Turn::Again,
            boot::Turn::Later(left) => Turn::End(Some(left)),
        }
    }

    /// Gives a running guest the limits and the pinning of its spec, where it has others.
    /// `nics` are those that the guest has: what was plugged in while it runs may have another tap than its place says.
    pub(super) async fn tune(&mut self, nics: &[NicSeen]) -> Result<(), Halt> {
        let (id, instance) = (self.object.meta.id, &self.vms.instance);
        let tap = |n: usize| {
            let mac = self.status.addresses.get(n).map(|address| address.mac);
            let seen = nics.iter().find(|nic| Some(nic.mac) == mac);
            seen.map_or_else(|| instance.tap(id, n), |nic| nic.tap.clone())
        };
        let wanted = define::tuning(self.object, tap);
        let digest = wanted.digest();
        if self.status.tuned == digest {
            return Ok(());
        }
        let unmet = self.told(self.vms.drivers.vm.tune(self.object.meta.id, &wanted).await)?;
        let (later, never): (Vec<Unmet>, Vec<Unmet>) = unmet.into_iter().partition(|unmet| unmet.at_restart);
        // Else they are those that it was started with.
        if self.object.status.common.state == State::Running {
            self.notes.push(Note::done("limited", "its limits are as its spec says"));
        }
        self.status.tuned = digest;
        let common = &mut self.status.common;
        match never.is_empty() {
            true => common.clear_condition(LIMITS_APPLIED),
            false => common.set_condition(LIMITS_APPLIED, false, told(&never)),
        }
        self.status.awaits_restart =
            later.into_iter().map(|u| format!("{} waits for a restart: {}", u.field, u.why)).collect();
        Ok(())
    }
}

fn told(unmet: &[Unmet]) -> String {
    let each = unmet.iter().map(|u| format!("spec.{} is not applied: {}", u.field, u.why));
    each.collect::<Vec<_>>().join("; ")
}
