//! Drivers under which the daemon dies: at the n-th change of the host, just before it or just after it.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use agentd_api::{ByteSize, Cidr, MacAddr, PortMap};
use agentd_drivers::Drivers;
use agentd_drivers::network::{
    FirewallSetup, Listener, NetworkDriver, NetworkError, NetworkSeen, NetworkSetup,
};
use agentd_drivers::vm::graphics::Picture;
use agentd_drivers::vm::guest::{ExecWish, Frozen, GuestDriver, GuestError, GuestIn, GuestOut, GuestSeen};
use agentd_drivers::vm::nics::VmNics;
use agentd_drivers::vm::resize::VmResize;
use agentd_drivers::vm::snapshot::{Memory, OwnDisks, SnapshotSeen, TakeSnapshot, VmSnapshots};
use agentd_drivers::vm::stats::{DomainStats, VmStats};
use agentd_drivers::vm::{
    AccelAnswer, Change, DomainDisk, DomainEvent, DomainNic, DomainSeen, DomainSpec, GuestConsole,
    GuestGraphics, HostFirmware, Power, Probe, Tuning, Unmet, Unplugged, VmDisks, VmDriver, VmError,
    VmTuning,
};
use agentd_drivers::volume::pool::{PoolDriver, PoolVolume, PooledVolume};
use agentd_drivers::volume::sets::{CopyDisk, DiskSets};
use agentd_drivers::volume::{DiskSpec, Seed, Variables, VolumeDriver, VolumeError, VolumeSeen};
use async_trait::async_trait;
use std::path::PathBuf;
use tokio::sync::{Notify, broadcast};
use uuid::Uuid;

/// Counts changes down. At the last one it tells the test, and from then on no call returns.
pub struct Killer {
    left: AtomicI64,
    after: bool,
    pub dead: Notify,
}

impl Killer {
    pub fn at(n: i64, after: bool) -> Arc<Self> {
        Arc::new(Self { left: AtomicI64::new(n), after, dead: Notify::new() })
    }
    async fn change<T>(&self, call: impl Future<Output = T> + Send) -> T {
        let left = self.left.fetch_sub(1, Ordering::SeqCst);
        if left > 1 {
            return call.await;
        }
        if left == 1 {
            if self.after {
                drop(call.await);
            }
            self.dead.notify_one();
        }
        std::future::pending().await
    }
}

#[derive(Clone)]
struct Killed<D: ?Sized> {
    killer: Arc<Killer>,
    driver: Arc<D>,
}

pub fn under(killer: &Arc<Killer>, drivers: &Drivers) -> Drivers {
    let killer = killer.clone();
    Drivers {
        vm: Arc::new(Killed { killer: killer.clone(), driver: drivers.vm.clone() }),
        network: Arc::new(Killed { killer: killer.clone(), driver: drivers.network.clone() }),
        volume: Arc::new(Killed { killer: killer.clone(), driver: drivers.volume.clone() }),
        pool: Arc::new(Killed { killer, driver: drivers.pool.clone() }),
        container: drivers.container.clone(),
        container_image: drivers.container_image.clone(),
        image: drivers.image.clone(),
        archive: drivers.archive.clone(),
        registries: drivers.registries.clone(),
    }
}

#[async_trait]
impl VmTuning for Killed<dyn VmDriver> {
    async fn tune(&self, id: Uuid, tuning: &Tuning) -> Result<Vec<Unmet>, VmError> {
        self.killer.change(self.driver.tune(id, tuning)).await
    }
    async fn tuning(&self, id: Uuid) -> Result<Option<Tuning>, VmError> {
        self.driver.tuning(id).await
    }
}

#[async_trait]
impl VmStats for Killed<dyn VmDriver> {
    async fn stats(&self) -> Result<Vec<DomainStats>, VmError> {
        self.driver.stats().await
    }
}

#[async_trait]
impl VmDriver for Killed<dyn VmDriver> {
    async fn probe(&self) -> Result<Probe, VmError> {
        self.driver.probe().await
    }
    async fn accel(&self) -> AccelAnswer {
        self.driver.accel().await
    }
    fn firmware(&self) -> HostFirmware {
        self.driver.firmware()
    }
    async fn list(&self) -> Result<Vec<DomainSeen>, VmError> {
        self.driver.list().await
    }
    async fn observe(&self, id: Uuid) -> Result<Option<DomainSeen>, VmError> {
        self.driver.observe(id).await
    }
    async fn ensure_defined(&self, spec: &DomainSpec) -> Result<Change, VmError> {
        self.killer.change(self.driver.ensure_defined(spec)).await
    }
    fn digest(&self, spec: &DomainSpec) -> String {
        self.driver.digest(spec)
    }
    fn fixed_digest(&self, spec: &DomainSpec) -> String {
        self.driver.fixed_digest(spec)
    }
    async fn start(&self, id: Uuid) -> Result<Change, VmError> {
        self.killer.change(self.driver.start(id)).await
    }
    async fn shutdown(&self, id: Uuid) -> Result<Change, VmError> {
        self.killer.change(self.driver.shutdown(id)).await
    }
    async fn destroy(&self, id: Uuid) -> Result<Change, VmError> {
        self.killer.change(self.driver.destroy(id)).await
    }
    async fn pause(&self, id: Uuid) -> Result<Change, VmError> {
        self.killer.change(self.driver.pause(id)).await
    }
    async fn resume(&self, id: Uuid) -> Result<Change, VmError> {
        self.killer.change(self.driver.resume(id)).await
    }
    async fn undefine(&self, id: Uuid) -> Result<Change, VmError> {
        self.killer.change(self.driver.undefine(id)).await
    }
    fn events(&self) -> broadcast::Receiver<DomainEvent> {
        self.driver.events()
    }
    async fn close(&self) {}
}

#[async_trait]
impl GuestConsole for Killed<dyn VmDriver> {
    async fn console_terminal(&self, vm: Uuid) -> Result<PathBuf, VmError> {
        self.driver.console_terminal(vm).await
    }
}

#[async_trait]
impl GuestGraphics for Killed<dyn VmDriver> {
    async fn screenshot(&self, vm: Uuid) -> Result<Picture, VmError> {
        self.driver.screenshot(vm).await
    }
    async fn open_vnc(&self, vm: Uuid, password: &str, time: Duration) -> Result<PathBuf, VmError> {
        self.driver.open_vnc(vm, password, time).await
    }
    async fn close_vnc(&self, vm: Uuid) -> Result<(), VmError> {
        self.driver.close_vnc(vm).await
    }
}

#[async_trait]
impl GuestDriver for Killed<dyn VmDriver> {
    fn attend(&self, vm: Uuid, wanted: bool) {
        self.driver.attend(vm, wanted);
    }
    fn guest_seen(&self, vm: Uuid) -> GuestSeen {
        self.driver.guest_seen(vm)
    }
    fn guest_events(&self) -> broadcast::Receiver<Uuid> {
        self.driver.guest_events()
    }
    async fn agent_answers(&self, vm: Uuid) -> Result<(), GuestError> {
        self.driver.agent_answers(vm).await
    }
    async fn exec(&self, vm: Uuid, wish: ExecWish) -> Result<(GuestIn, GuestOut), GuestError> {
        self.driver.exec(vm, wish).await
    }
    async fn pack(&self, vm: Uuid, path: String) -> Result<GuestOut, GuestError> {
        self.driver.pack(vm, path).await
    }
    async fn unpack(&self, vm: Uuid, path: String) -> Result<(GuestIn, GuestOut), GuestError> {
        self.driver.unpack(vm, path).await
    }
    async fn set_time(&self, vm: Uuid) -> Result<(), GuestError> {
        self.driver.set_time(vm).await
    }
    async fn freeze(&self, vm: Uuid) -> Result<Frozen, GuestError> {
        self.killer.change(self.driver.freeze(vm)).await
    }
    async fn thaw(&self, vm: Uuid) -> Result<u32, GuestError> {
        self.killer.change(self.driver.thaw(vm)).await
    }
    async fn set_console_size(&self, vm: Uuid, columns: u16, rows: u16) -> Result<(), GuestError> {
        self.driver.set_console_size(vm, columns, rows).await
    }
}

#[async_trait]
impl VmDisks for Killed<dyn VmDriver> {
    async fn attach_disk(&self, id: Uuid, disk: &DomainDisk) -> Result<Change, VmError> {
        self.killer.change(self.driver.attach_disk(id, disk)).await
    }
    async fn detach_disk(&self, id: Uuid, serial: &str) -> Result<Unplugged, VmError> {
        self.killer.change(self.driver.detach_disk(id, serial)).await
    }
    async fn resize_disk(&self, id: Uuid, disk: &str, size: ByteSize) -> Result<Change, VmError> {
        self.killer.change(self.driver.resize_disk(id, disk, size)).await
    }
    async fn change_medium(&self, id: Uuid, medium: Option<PathBuf>) -> Result<Change, VmError> {
        self.killer.change(self.driver.change_medium(id, medium)).await
    }
}

#[async_trait]
impl VmSnapshots for Killed<dyn VmDriver> {
    async fn take_snapshot(&self, want: &TakeSnapshot) -> Result<Power, VmError> {
        self.killer.change(self.driver.take_snapshot(want)).await
    }
    async fn snapshots(&self, of: &OwnDisks) -> Result<Vec<SnapshotSeen>, VmError> {
        self.driver.snapshots(of).await
    }
    async fn snapshot_size(&self, of: &OwnDisks, id: Uuid) -> Result<ByteSize, VmError> {
        self.driver.snapshot_size(of, id).await
    }
    async fn delete_snapshot(&self, of: &OwnDisks, id: Uuid) -> Result<Change, VmError> {
        self.killer.change(self.driver.delete_snapshot(of, id)).await
    }
    async fn revert(&self, of: &OwnDisks, id: Uuid) -> Result<(), VmError> {
        self.killer.change(self.driver.revert(of, id)).await
    }
    async fn save_memory(&self, vm: Uuid, which: Memory) -> Result<ByteSize, VmError> {
        self.killer.change(self.driver.save_memory(vm, which)).await
    }
    async fn saved_memory(&self, vm: Uuid, which: Memory) -> Result<Option<ByteSize>, VmError> {
        self.driver.saved_memory(vm, which).await
    }
    async fn start_from_memory(
        &self,
        spec: &DomainSpec,
        which: Memory,
        paused: bool,
    ) -> Result<Change, VmError> {
        self.killer.change(self.driver.start_from_memory(spec, which, paused)).await
    }
    async fn forget_memory(&self, vm: Uuid, which: Memory) -> Result<Change, VmError> {
        self.killer.change(self.driver.forget_memory(vm, which)).await
    }
}

#[async_trait]
impl VmResize for Killed<dyn VmDriver> {
    async fn set_cpus(&self, id: Uuid, cpus: u32) -> Result<Change, VmError> {
        self.killer.change(self.driver.set_cpus(id, cpus)).await
    }
    async fn set_memory(&self, id: Uuid, memory: ByteSize) -> Result<Change, VmError> {
        self.killer.change(self.driver.set_memory(id, memory)).await
    }
}

#[async_trait]
impl VmNics for Killed<dyn VmDriver> {
    async fn attach_nic(&self, id: Uuid, nic: &DomainNic) -> Result<Change, VmError> {
        self.killer.change(self.driver.attach_nic(id, nic)).await
    }
    async fn detach_nic(&self, id: Uuid, mac: MacAddr) -> Result<Change, VmError> {
        self.killer.change(self.driver.detach_nic(id, mac)).await
    }
}

#[async_trait]
impl DiskSets for Killed<dyn VolumeDriver> {
    async fn begin_set(&self, set: Uuid) -> Result<(), VolumeError> {
        self.killer.change(self.driver.begin_set(set)).await
    }
    async fn copy_disk(&self, copy: &CopyDisk) -> Result<bool, VolumeError> {
        self.killer.change(self.driver.copy_disk(copy)).await
    }
    async fn copy_variables(&self, set: Uuid, vm: Uuid, snapshot: Uuid) -> Result<(), VolumeError> {
        self.killer.change(self.driver.copy_variables(set, vm, snapshot)).await
    }
    async fn finish_set(&self, set: Uuid) -> Result<(), VolumeError> {
        self.killer.change(self.driver.finish_set(set)).await
    }
    async fn observe_set(&self, set: Uuid) -> Result<Option<Vec<usize>>, VolumeError> {
        self.driver.observe_set(set).await
    }
    async fn link_set(&self, vm: Uuid, set: Uuid) -> Result<(), VolumeError> {
        self.killer.change(self.driver.link_set(vm, set)).await
    }
    async fn adopt_set(&self, vm: Uuid, set: Uuid) -> Result<(), VolumeError> {
        self.killer.change(self.driver.adopt_set(vm, set)).await
    }
    async fn remove_set(&self, set: Uuid) -> Result<(), VolumeError> {
        self.killer.change(self.driver.remove_set(set)).await
    }
    async fn list_sets(&self) -> Result<Vec<Uuid>, VolumeError> {
        self.driver.list_sets().await
    }
}

#[async_trait]
impl VolumeDriver for Killed<dyn VolumeDriver> {
    async fn ensure_disk(&self, spec: &DiskSpec) -> Result<PathBuf, VolumeError> {
        self.killer.change(self.driver.ensure_disk(spec)).await
    }
    async fn ensure_further(&self, vm: Uuid, number: usize, size: ByteSize) -> Result<PathBuf, VolumeError> {
        self.killer.change(self.driver.ensure_further(vm, number, size)).await
    }
    async fn ensure_seed(&self, seed: &Seed) -> Result<PathBuf, VolumeError> {
        self.killer.change(self.driver.ensure_seed(seed)).await
    }
    async fn ensure_variables(&self, vm: Uuid, variables: &Variables) -> Result<PathBuf, VolumeError> {
        self.killer.change(self.driver.ensure_variables(vm, variables)).await
    }
    async fn observe(&self, vm: Uuid) -> Result<VolumeSeen, VolumeError> {
        self.driver.observe(vm).await
    }
    async fn list(&self) -> Result<Vec<Uuid>, VolumeError> {
        self.driver.list().await
    }
    async fn remove(&self, vm: Uuid) -> Result<(), VolumeError> {
        self.killer.change(self.driver.remove(vm)).await
    }
    async fn console_log(&self, vm: Uuid) -> Result<PathBuf, VolumeError> {
        self.killer.change(self.driver.console_log(vm)).await
    }
}

#[async_trait]
impl PoolDriver for Killed<dyn PoolDriver> {
    async fn ensure(&self, volume: &PoolVolume) -> Result<PooledVolume, VolumeError> {
        self.killer.change(self.driver.ensure(volume)).await
    }
    async fn grow(&self, id: Uuid, size: ByteSize) -> Result<(), VolumeError> {
        self.killer.change(self.driver.grow(id, size)).await
    }
    async fn observe(&self, id: Uuid) -> Result<Option<PooledVolume>, VolumeError> {
        self.driver.observe(id).await
    }
    async fn list(&self) -> Result<Vec<Uuid>, VolumeError> {
        self.driver.list().await
    }
    async fn remove(&self, id: Uuid) -> Result<(), VolumeError> {
        self.killer.change(self.driver.remove(id)).await
    }
    async fn attach(&self, id: Uuid) -> Result<PathBuf, VolumeError> {
        self.killer.change(self.driver.attach(id)).await
    }
    async fn detach(&self, id: Uuid) -> Result<(), VolumeError> {
        self.killer.change(self.driver.detach(id)).await
    }
    async fn attached(&self) -> Result<Vec<Uuid>, VolumeError> {
        self.driver.attached().await
    }
    async fn free(&self) -> Result<ByteSize, VolumeError> {
        self.driver.free().await
    }
}

#[async_trait]
impl NetworkDriver for Killed<dyn NetworkDriver> {
    async fn missing(&self) -> Vec<(String, String)> {
        self.driver.missing().await
    }
    async fn ensure(&self, setup: &NetworkSetup) -> Result<NetworkSeen, NetworkError> {
        self.killer.change(self.driver.ensure(setup)).await
    }
    async fn observe(&self, id: Uuid) -> Result<NetworkSeen, NetworkError> {
        self.driver.observe(id).await
    }
    async fn ensure_firewall(&self, setup: &FirewallSetup) -> Result<(), NetworkError> {
        self.killer.change(self.driver.ensure_firewall(setup)).await
    }
    async fn remove(&self, id: Uuid) -> Result<(), NetworkError> {
        self.killer.change(self.driver.remove(id)).await
    }
    async fn list(&self) -> Result<Vec<Uuid>, NetworkError> {
        self.driver.list().await
    }
    async fn taken(&self) -> Result<Vec<Cidr>, NetworkError> {
        self.driver.taken().await
    }
    async fn listeners(&self, ports: &[PortMap]) -> Result<Vec<Listener>, NetworkError> {
        self.driver.listeners(ports).await
    }
    fn bridge(&self, id: Uuid) -> String {
        self.driver.bridge(id)
    }
    fn events(&self) -> broadcast::Receiver<()> {
        self.driver.events()
    }
    async fn close(&self) {}
}
