//! Snapshots by a VM's policy: made when their time has come, removed when there are enough of them.
//!
//! When it was last its time stands in the VM's status, so that a daemon that was away makes up for one of the times that it
//! missed, and for one only. Making a snapshot and writing that down are one transaction. One that its VM is still busy
//! with is not followed by another, and a guest that has been off since the last one has nothing new.

use std::collections::BTreeMap;
use std::time::Duration;

use agentd_api::event::Outcome as EventOutcome;
use agentd_api::snapshot::{Snapshot, SnapshotSpec, SnapshotStatus};
use agentd_api::vm::{SnapshotsTaken, Vm};
use agentd_api::{ErrorCode, Kind, Object, ObjectKey, ObjectName, State, Timestamp};
use agentd_drivers::Class;
use agentd_store::{
    DecodeError, Expect, NewEvent, NewObject, Query, Store, Stored, Transact, Tx, TxError, Update,
};
use tokio_util::sync::CancellationToken;

use super::{DISKS, Scheduled, of_vm};
use crate::reconcile::runtime::{ACTOR, Fault};
use crate::schedule::Schedule;

/// A clock that is set does not tell: it is looked at this often.
const LONGEST: Duration = Duration::from_secs(30);

/// What a policy asks for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    Nothing,
    /// It is new: its first time is after now.
    Begin,
    At(Timestamp),
    Now,
    /// Its time has come, and there is nothing to be taken.
    Skip,
}

pub(super) fn due(vm: &Object<Vm>, now: Timestamp) -> Due {
    let Some(policy) = &vm.spec.snapshot_policy else { return Due::Nothing };
    let Ok(schedule) = Schedule::parse(&policy.schedule) else { return Due::Nothing };
    if vm.meta.deleting() {
        return Due::Nothing;
    }
    let Some(taken) = vm.status.scheduled.as_ref().filter(|t| t.schedule == policy.schedule) else {
        return Due::Begin;
    };
    match schedule.after(taken.last) {
        None => Due::Nothing,
        Some(next) if next > now => Due::At(next),
        Some(_) => {
            let status = &vm.status;
            let up = matches!(status.common.state, State::Running | State::Paused);
            let ran = status.last_stop.as_ref().is_some_and(|stop| stop.at >= taken.last);
            let there = status.image_digest.is_some() && status.restore.is_none();
            if there && (up || ran) { Due::Now } else { Due::Skip }
        }
    }
}

/// Follows the store until cancelled. Also wakes, at the start, the snapshots that are not at rest.
pub async fn run(scheduled: Scheduled, cancel: CancellationToken) {
    wake_unsettled(&scheduled);
    loop {
        let Ok(mut watch) = scheduled.store.watch(None) else { return };
        let mut times = Times::new();
        for stored in scheduled.store.list(&Query::kind(Vm::DEF.kind)).items {
            times.note(&stored, (scheduled.clock)());
        }
        loop {
            times.fire(&scheduled).await;
            let wait = times.wait((scheduled.clock)());
            // Cancel safety: `next` loses no change when dropped.
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
                change = watch.next() => match change {
                    Ok(change) => times.note(&change.object, (scheduled.clock)()),
                    // It fell behind: all are looked at anew.
                    Err(_) => break,
                },
            }
        }
    }
}

fn wake_unsettled(scheduled: &Scheduled) {
    for stored in scheduled.store.list(&Query::kind(Snapshot::DEF.kind)).items {
        let rests = stored.object::<Snapshot>().is_ok_and(|snapshot| {
            let state = snapshot.status.common.state;
            matches!(state, State::Ready | State::Failed) && !snapshot.status.freezing
        });
        if stored.deleting() || !rests {
            scheduled.trigger.wake(stored.key().clone());
        }
    }
}

/// When which VM's policy is next looked at.
struct Times(BTreeMap<ObjectKey, Timestamp>);

impl Times {
    fn new() -> Self {
        Self(BTreeMap::new())
    }

    fn note(&mut self, stored: &Stored, now: Timestamp) {
        if stored.kind() != Vm::DEF.kind {
            return;
        }
        let has = stored.field("snapshot_schedule").next().is_some();
        let vm = has.then(|| stored.object::<Vm>().ok()).flatten();
        match vm.map_or(Due::Nothing, |vm| due(&vm, now)) {
            Due::Nothing => drop(self.0.remove(stored.key())),
            Due::At(time) => drop(self.0.insert(stored.key().clone(), time)),
            Due::Begin | Due::Now | Due::Skip => drop(self.0.insert(stored.key().clone(), now)),
        }
    }

    fn wait(&self, now: Timestamp) -> Duration {
        let next = self.0.values().min();
        next.map_or(LONGEST, |next| Duration::from_millis(next.millis().saturating_sub(now.millis())))
            .min(LONGEST)
    }

    async fn fire(&mut self, scheduled: &Scheduled) {
        let now = (scheduled.clock)();
        let ready: Vec<ObjectKey> =
            self.0.iter().filter(|(_, at)| **at <= now).map(|(k, _)| k.clone()).collect();
        for key in ready {
            // Its own write is a change like another, and notes its next time; until then it is not asked again.
            self.0.insert(key.clone(), now.plus(LONGEST));
            let vm = key.clone();
            let done = scheduled.store.transact(move |tx| act(tx, &vm, now)).await;
            if let Err(error) = done {
                tracing::error!(object = %key, "its snapshot policy is not followed: {error}");
            }
        }
    }
}

/// Does what the policy asks for, in one transaction.
fn act(tx: &mut dyn Tx, key: &ObjectKey, now: Timestamp) -> Result<(), TxError> {
    let Some(stored) = tx.get(key) else { return Ok(()) };
    let Ok(vm) = stored.object::<Vm>() else { return Ok(()) };
    let due = due(&vm, now);
    let Some(policy) = &vm.spec.snapshot_policy else { return Ok(()) };
    if matches!(due, Due::Nothing | Due::At(_)) {
        return Ok(());
    }
    if due == Due::Now && !busy(tx, &vm) {
        make(tx, &vm, now)?;
    }
    let mut status = stored.value()["status"].take();
    let taken = SnapshotsTaken { schedule: policy.schedule.clone(), last: now };
    if let (Some(status), Ok(taken)) = (status.as_object_mut(), serde_json::to_value(taken)) {
        status.insert("scheduled".to_owned(), taken);
    }
    let update = Update { status: Some(status), ..Update::default() };
    tx.update(key, Expect::Id(vm.meta.id), update).map(drop)
}

/// Whether one of its policy's is still to be taken.
fn busy(tx: &dyn Tx, vm: &Object<Vm>) -> bool {
    ["pending", "provisioning"].into_iter().any(|state| {
        let fields = [("vm", vm.meta.name.to_string()), ("state", state.to_owned())];
        let query = Query {
            project: Some(vm.meta.project.clone()),
            fields: fields.map(|(name, value)| (name.to_owned(), true, value)).into(),
            ..Query::kind(Snapshot::DEF.kind)
        };
        tx.list(&query).iter().any(|s| s.object::<Snapshot>().is_ok_and(|s| s.status.by_policy))
    })
}

fn make(tx: &mut dyn Tx, vm: &Object<Vm>, now: Timestamp) -> Result<(), TxError> {
    let Some(name) = name_of(&vm.meta.name, now) else { return Ok(()) };
    let key = ObjectKey::of::<Snapshot>(vm.meta.project.clone(), name);
    if tx.get(&key).is_some() {
        return Ok(());
    }
    let spec = SnapshotSpec { vm: vm.meta.name.clone(), memory: false };
    let status = SnapshotStatus { vm_id: Some(vm.meta.id), by_policy: true, ..SnapshotStatus::default() };
    let (Ok(spec), Ok(status)) = (serde_json::to_value(spec), serde_json::to_value(status)) else {
        return Ok(());
    };
    let new = NewObject { finalizers: vec![DISKS.to_owned()], status, ..NewObject::new(key, spec) };
    let made = tx.create(new)?;
    tx.record(event(&made, "created", "by the policy of its VM"));
    Ok(())
}

/// `web-20260102-030405`; of a long name only the beginning.
pub(super) fn name_of(vm: &ObjectName, time: Timestamp) -> Option<ObjectName> {
    let whole = Timestamp(time.millis() / 1000 * 1000).to_string();
    let digits: String = whole.chars().filter(char::is_ascii_digit).collect();
    let (day, second) = digits.split_at_checked(8)?;
    let room = agentd_api::name::NAME_MAX - digits.len() - 2;
    let short: String = vm.as_str().chars().take(room).collect();
    ObjectName::parse(&format!("{}-{day}-{second}", short.trim_end_matches('-'))).ok()
}

/// Removes what a policy has taken beyond what it keeps, once a newer one is whole. What is being restored stays.
pub async fn prune(store: &Store, newest: &Object<Snapshot>) -> Result<(), Fault> {
    let key = super::vm_key(newest);
    let unreadable = |error: DecodeError| Fault::internal(error.to_string());
    let Some(vm) = store.get(&key) else { return Ok(()) };
    let vm = vm.object::<Vm>().map_err(unreadable)?;
    let Some(policy) = &vm.spec.snapshot_policy else { return Ok(()) };
    let mut all: Vec<Object<Snapshot>> = of_vm(store, newest).map_err(unreadable)?;
    all.retain(|s| s.status.by_policy && s.meta.id != newest.meta.id);
    all.retain(|s| vm.status.restore.as_ref().is_none_or(|way| way.id != s.meta.id));
    all.retain(|s| !awaited(store, s));
    // Newest first. Those that failed are not worth keeping; those that are still to come are not looked at.
    all.sort_by_key(|s| std::cmp::Reverse(s.meta.id));
    let (whole, rest): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|s| s.status.common.state == State::Ready);
    let old = whole.into_iter().skip(policy.keep as usize - 1);
    let failed = rest.into_iter().filter(|s| s.status.common.state == State::Failed);
    for snapshot in old.chain(failed) {
        let (key, id) = (snapshot.meta.key(), snapshot.meta.id);
        let done = store.transact(move |tx| {
            let Some(now) = tx.get(&key).filter(|now| now.id() == id && !now.deleting()) else {
                return Ok(());
            };
            tx.update(&key, Expect::Id(id), Update { deleting: Some(true), ..Update::default() })?;
            tx.record(event(&now, "delete", "the policy of its VM keeps no more"));
            Ok::<(), TxError>(())
        });
        done.await.map_err(|error: Transact<TxError>| {
            Fault::new(Class::Transient, ErrorCode::StoreUnavailable, error.to_string())
        })?;
    }
    Ok(())
}

/// Whether a clone's disks are still to be made of it.
fn awaited(store: &Store, snapshot: &Object<Snapshot>) -> bool {
    let query = Query {
        project: Some(snapshot.meta.project.clone()),
        fields: vec![("source".to_owned(), true, snapshot.spec.vm.to_string())],
        ..Query::kind(Vm::DEF.kind)
    };
    let origin = |clone: &Stored| clone.object::<Vm>().ok().and_then(|clone| clone.status.origin);
    let clones = store.list(&query).items;
    clones.iter().filter_map(|clone| origin(clone)).any(|origin| origin.awaits(snapshot.meta.id))
}

fn event(of: &Stored, verb: &str, message: &str) -> NewEvent {
    NewEvent {
        kind: of.kind().to_owned(),
        project: of.project().to_string(),
        name: of.name().to_string(),
        id: of.id(),
        actor: ACTOR.to_owned(),
        verb: verb.to_owned(),
        message: message.to_owned(),
        outcome: EventOutcome::Done,
        request_id: None,
    }
}
