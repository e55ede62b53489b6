//! What a test can tell the fake to do.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use agentd_api::ByteSize;
use agentd_api::vm::{Accel, AlarmKind, WatchdogAction};
use parking_lot::Mutex;
use tokio::sync::watch;
use uuid::Uuid;

use super::FakeVm;
use crate::vm::{AccelAnswer, DomainSpec, HostFirmware, OffReason, VmError};

type MakeError = Box<dyn Fn() -> VmError + Send>;

pub(super) struct Controls {
    told: Mutex<Told>,
    hung: watch::Sender<BTreeSet<&'static str>>,
}

struct Told {
    available: bool,
    failures: BTreeMap<&'static str, (usize, MakeError)>,
    delays: BTreeMap<&'static str, Duration>,
    calls: BTreeMap<&'static str, u64>,
    deaf: BTreeSet<Uuid>,
    holding: BTreeSet<Uuid>,
    shutdown_takes: Duration,
    accel: AccelAnswer,
    firmware: HostFirmware,
    memory: Option<ByteSize>,
    unmet_shares: Option<String>,
}

impl std::fmt::Debug for Controls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let told = self.told.lock();
        f.debug_struct("Controls")
            .field("available", &told.available)
            .field("calls", &told.calls)
            .finish_non_exhaustive()
    }
}

impl Controls {
    pub(super) fn new() -> Self {
        let reason = "the fake runs no guests".to_owned();
        let accel = AccelAnswer { accel: Accel::Tcg, reason, settled: true };
        let told = Told {
            available: true,
            failures: BTreeMap::new(),
            delays: BTreeMap::new(),
            calls: BTreeMap::new(),
            deaf: BTreeSet::new(),
            holding: BTreeSet::new(),
            shutdown_takes: Duration::ZERO,
            accel,
            firmware: HostFirmware::whole(),
            memory: None,
            unmet_shares: None,
        };
        Self { told: Mutex::new(told), hung: watch::Sender::new(BTreeSet::new()) }
    }

    /// Counts a call, lets it wait as long as it was told to, and fails it where it was told to.
    pub(super) async fn pass(&self, method: &'static str) -> Result<(), VmError> {
        let delay = {
            let mut told = self.told.lock();
            *told.calls.entry(method).or_default() += 1;
            told.delays.get(method).copied()
        };
        if let Some(delay) = delay {
            tokio::time::sleep(delay).await;
        }
        // The sender lives in self, so this waits for the release and nothing else.
        let _ = self.hung.subscribe().wait_for(|hung| !hung.contains(method)).await;
        let mut told = self.told.lock();
        if !told.available && method != "accel" {
            let detail = "the fake was told to be away".to_owned();
            return Err(VmError::Unavailable { uri: "fake:///".to_owned(), detail });
        }
        let Some((left, make)) = told.failures.get_mut(method) else { return Ok(()) };
        let error = make();
        *left -= 1;
        if *left == 0 {
            told.failures.remove(method);
        }
        Err(error)
    }

    pub(super) fn accel(&self) -> AccelAnswer {
        self.told.lock().accel.clone()
    }
    pub(super) fn firmware(&self) -> HostFirmware {
        self.told.lock().firmware.clone()
    }
    pub(super) fn memory(&self) -> Option<ByteSize> {
        self.told.lock().memory
    }
    pub(super) fn unmet_shares(&self) -> Option<String> {
        self.told.lock().unmet_shares.clone()
    }
    pub(super) fn ignores_shutdown(&self, id: Uuid) -> bool {
        self.told.lock().deaf.contains(&id)
    }
    pub(super) fn holds(&self, id: Uuid) -> bool {
        self.told.lock().holding.contains(&id)
    }
    pub(super) fn set_holds(&self, id: Uuid, hold: bool) {
        let holding = &mut self.told.lock().holding;
        if hold {
            holding.insert(id)
        } else {
            holding.remove(&id)
        };
    }
    pub(super) fn shutdown_takes(&self) -> Duration {
        self.told.lock().shutdown_takes
    }
}

/// A method's name as the table has it. A name that is none is a mistake in the test and ends it.
fn known(method: &str) -> &'static str {
    FakeVm::METHODS
        .iter()
        .copied()
        .find(|known| *known == method)
        .unwrap_or_else(|| panic!("VmDriver has no method '{method}'"))
}

/// The controls. Methods are named as in [`VmDriver`](crate::vm::VmDriver); a name that is none panics.
impl FakeVm {
    /// The methods that can be made to fail, hang or be slow, by the names of the trait.
    pub const METHODS: &[&str] = &[
        "tune",
        "tuning",
        "probe",
        "accel",
        "list",
        "observe",
        "ensure_defined",
        "start",
        "shutdown",
        "destroy",
        "pause",
        "resume",
        "undefine",
        "agent_answers",
        "exec",
        "pack",
        "unpack",
        "set_time",
        "freeze",
        "thaw",
        "set_console_size",
        "console_terminal",
        "screenshot",
        "open_vnc",
        "close_vnc",
        "stats",
        "attach_disk",
        "detach_disk",
        "resize_disk",
        "change_medium",
        "take_snapshot",
        "snapshots",
        "snapshot_size",
        "delete_snapshot",
        "revert",
        "save_memory",
        "saved_memory",
        "start_from_memory",
        "forget_memory",
        "set_cpus",
        "set_memory",
        "attach_nic",
        "detach_nic",
    ];

    /// The next `times` calls of `method` fail.
    pub fn fail_next(&self, method: &str, times: usize, error: impl Fn() -> VmError + Send + 'static) {
        if times == 0 {
            return self.fail_no_more(method);
        }
        self.inner.controls.told.lock().failures.insert(known(method), (times, Box::new(error)));
    }
    /// What [`fail_next`](Self::fail_next) was told of `method` is over.
    pub fn fail_no_more(&self, method: &str) {
        self.inner.controls.told.lock().failures.remove(known(method));
    }
    /// Calls of `method` do not return until [`release`](Self::release).
    pub fn hang(&self, method: &str) {
        self.inner.controls.hung.send_modify(|hung| {
            hung.insert(known(method));
        });
    }
    pub fn release(&self, method: &str) {
        self.inner.controls.hung.send_modify(|hung| {
            hung.remove(known(method));
        });
    }
    /// Calls of `method` take `delay` from now on.
    pub fn slow(&self, method: &str, delay: Duration) {
        self.inner.controls.told.lock().delays.insert(known(method), delay);
    }
    /// How often `method` was called, failed calls included.
    pub fn calls(&self, method: &str) -> u64 {
        self.inner.controls.told.lock().calls.get(known(method)).copied().unwrap_or_default()
    }
    /// While false, every call but `accel` fails with Unavailable. Coming back sends the event of a reconnect.
    pub fn set_available(&self, available: bool) {
        let was = std::mem::replace(&mut self.inner.controls.told.lock().available, available);
        if available && !was {
            self.inner.domains.tell(None);
        }
    }
    pub fn set_accel(&self, answer: AccelAnswer) {
        self.inner.controls.told.lock().accel = answer;
    }
    /// Which firmware this host has.
    pub fn set_firmware(&self, firmware: HostFirmware) {
        self.inner.controls.told.lock().firmware = firmware;
    }
    /// A VM with more memory than this is refused with Capacity. None: no limit.
    pub fn set_memory(&self, most: Option<ByteSize>) {
        self.inner.controls.told.lock().memory = most;
    }
    /// Why no guest can be given CPU shares here. None: they can.
    pub fn set_unmet_shares(&self, why: Option<&str>) {
        self.inner.controls.told.lock().unmet_shares = why.map(ToOwned::to_owned);
    }
    /// Whether that guest ignores being asked to power off.
    pub fn ignore_shutdown(&self, id: Uuid, ignore: bool) {
        let deaf = &mut self.inner.controls.told.lock().deaf;
        if ignore {
            deaf.insert(id)
        } else {
            deaf.remove(&id)
        };
    }
    /// How long a guest takes to power off when asked.
    pub fn set_shutdown_takes(&self, takes: Duration) {
        self.inner.controls.told.lock().shutdown_takes = takes;
    }

    /// As `virsh destroy`.
    pub fn behind_our_back_destroy(&self, id: Uuid) {
        self.inner.domains.destroy(id);
    }
    /// As `virsh undefine`: a running guest goes on without a definition.
    pub fn behind_our_back_undefine(&self, id: Uuid) {
        self.inner.domains.forget_definition(id);
    }
    /// As `poweroff` inside the guest. A paused guest does not.
    pub fn guest_powers_off(&self, id: Uuid) {
        self.inner.domains.power_off_by_guest(id);
    }
    /// As SIGKILL for the guest's emulator.
    pub fn guest_crashes(&self, id: Uuid) {
        self.inner.domains.power_off(id, OffReason::Crashed);
    }
    /// As a guest whose kernel panics.
    pub fn guest_panics(&self, id: Uuid) {
        self.inner.domains.alarm(id, AlarmKind::Panic);
        self.inner.domains.power_off(id, OffReason::Crashed);
    }
    /// As a guest that stops feeding its watchdog: what its watchdog is to do then is done.
    pub fn guest_hangs(&self, id: Uuid) {
        let watchdog = self.inner.domains.defined(id).and_then(|spec| spec.hardware.watchdog);
        let Some(action) = watchdog else { return };
        self.inner.domains.alarm(id, AlarmKind::Watchdog);
        match action {
            WatchdogAction::Poweroff => drop(self.inner.domains.power_off(id, OffReason::Crashed)),
            WatchdogAction::Reset | WatchdogAction::Record => {}
        }
    }
    /// What the domain is defined by, if it is defined.
    pub fn defined(&self, id: Uuid) -> Option<DomainSpec> {
        self.inner.domains.defined(id)
    }
}
