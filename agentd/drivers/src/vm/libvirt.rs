//! The driver for libvirt and QEMU.
//!
//! ```text
//! LibvirtVm --looks, acts--> workers (3 and 4 threads, blocking calls with deadlines) --Live--> libvirtd
//!     link (1 thread): opens the connection, and again when it is gone
//!     events (1 thread a process): libvirt's event loop --> broadcast of DomainEvent
//!     library: libvirt itself, loaded by the link's thread and not with the process
//! ```
//! It owns the domains that bear this daemon's mark and no other. Where libvirt is not there, every call says
//! Unavailable with the reason, until it is back; then an event without an id tells that changes may have been missed.
//! Guests never depend on this process: they are libvirt's, and run on when it ends in whatever way.

mod console;
mod disks;
mod domains;
mod fault;
mod ffi;
mod graphics;
mod guest;
mod hotplug;
mod library;
mod link;
mod snapshot;
mod stats;
#[cfg(test)]
mod tests;
mod tuning;
mod workers;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, broadcast, oneshot};
use uuid::Uuid;
use virt::connect::Connect;

use super::accel::{AccelProbe, AccelWish};
use super::guest::link::Links;
use super::stats::{DomainStats, VmStats};
use super::{
    AccelAnswer, Change, DomainEvent, DomainSeen, DomainSpec, HostFirmware, Probe, VmDriver, VmError, xml,
};
use crate::Instance;
use domains::Definition;
use fault::Fault;
use link::Link;
use workers::{ACTING, Lane, Workers};

/// For a call that only asks.
const ASK: Duration = Duration::from_secs(10);
/// For a call that tells a guest something.
const TELL: Duration = Duration::from_secs(20);
/// For a call that makes or ends a process: QEMU's start, or up to 15 s of libvirt's own patience with its end. Defining
/// is one of these, since libvirt then runs a QEMU that is new to it, to learn what it can.
const PROCESS: Duration = Duration::from_secs(90);
const CLOSE: Duration = Duration::from_millis(900);

#[derive(Debug, Clone)]
pub struct LibvirtOptions {
    /// As `qemu:///system`.
    pub uri: String,
    pub instance: Instance,
    pub accel: AccelWish,
}

#[derive(Debug)]
pub struct LibvirtVm {
    instance: Instance,
    accel: Arc<AccelProbe>,
    link: Arc<Link>,
    workers: Arc<Workers>,
    /// The agents in guests.
    guests: Links,
    /// QEMU's version, once libvirt has told it.
    qemu: Arc<Mutex<Qemu>>,
    hands: snapshot::Hands,
    /// A turn for each guest that may be starting: more at once than there are processors come up no sooner, and what
    /// else is to be done keeps a thread.
    starts: Arc<Semaphore>,
    events: broadcast::Sender<DomainEvent>,
    ended: Mutex<Option<oneshot::Receiver<()>>>,
}

#[derive(Debug, Clone, Default)]
enum Qemu {
    #[default]
    Unknown,
    Asked,
    Known(String),
}

impl LibvirtVm {
    /// Never fails and does not wait: where libvirt is not there, calls answer Unavailable, and it is tried again.
    pub fn new(options: LibvirtOptions) -> Arc<Self> {
        let LibvirtOptions { uri, instance, accel } = options;
        let events = broadcast::Sender::new(4096);
        let (link, ended) = Link::begin(uri, xml::name_prefix(&instance), events.clone());
        let workers = Arc::new(Workers::begin(link.clone()));
        Arc::new(Self {
            accel: Arc::new(AccelProbe::new(accel, instance.state_dir())),
            hands: snapshot::Hands::new(instance.clone(), workers.clone()),
            starts: Arc::new(Semaphore::new(starts_at_once())),
            instance,
            workers,
            guests: Links::default(),
            qemu: Arc::default(),
            link,
            events,
            ended: Mutex::new(Some(ended)),
        })
    }

    /// A call that only looks at one domain of ours, or at all.
    async fn look<T: Send + 'static>(
        &self,
        call: &'static str,
        work: impl FnOnce(&Connect, &str) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, VmError> {
        let tag = self.instance.tag().to_owned();
        self.workers.run(Lane::Look, (call, ASK), move |connect| work(connect, &tag)).await
    }

    /// A call about one domain of ours, or about all.
    async fn run<T: Send + 'static>(
        &self,
        call: &'static str,
        limit: Duration,
        work: impl FnOnce(&Connect, &str) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, VmError> {
        let tag = self.instance.tag().to_owned();
        self.workers.run(Lane::Act, (call, limit), move |connect| work(connect, &tag)).await
    }

    /// Does not wait: libvirt may have to run QEMU first, which takes seconds. Asks once at a time.
    fn qemu(&self) -> Option<String> {
        let mut qemu = self.qemu.lock();
        match &*qemu {
            Qemu::Known(version) => return Some(version.clone()),
            Qemu::Asked => return None,
            Qemu::Unknown => *qemu = Qemu::Asked,
        }
        let (workers, told) = (self.workers.clone(), self.qemu.clone());
        tokio::spawn(async move {
            let asked =
                workers.run(Lane::Act, ("tell QEMU's version", PROCESS), |c| Ok(c.get_hyp_version()?)).await;
            *told.lock() = asked.map_or(Qemu::Unknown, |packed| Qemu::Known(version(packed)));
        });
        None
    }
}

#[async_trait]
impl VmStats for LibvirtVm {
    async fn stats(&self) -> Result<Vec<DomainStats>, VmError> {
        let prefix = xml::name_prefix(&self.instance);
        self.look("tell guests' figures", move |connect, _| stats::all(connect, &prefix)).await
    }
}

impl Drop for LibvirtVm {
    fn drop(&mut self) {
        self.workers.end();
        self.link.stop();
    }
}

#[async_trait]
impl VmDriver for LibvirtVm {
    async fn probe(&self) -> Result<Probe, VmError> {
        let libvirt = self.look("answer", |connect, _| Ok(connect.get_lib_version()?)).await?;
        let capabilities = match self.qemu() {
            Some(version) => vec![format!("qemu {version}")],
            None => Vec::new(),
        };
        Ok(Probe { version: version(libvirt), capabilities })
    }

    async fn accel(&self) -> AccelAnswer {
        let probe = self.accel.clone();
        // On a task of its own: a caller that stops waiting must not end the trial.
        match tokio::spawn(async move { probe.answer().await }).await {
            Ok(answer) => answer,
            Err(error) => AccelAnswer {
                accel: agentd_api::vm::Accel::Tcg,
                reason: format!("KVM could not be tried: {error}"),
                settled: false,
            },
        }
    }

    fn firmware(&self) -> HostFirmware {
        HostFirmware::of_this_host()
    }

    async fn list(&self) -> Result<Vec<DomainSeen>, VmError> {
        self.look("list domains", domains::list).await
    }

    async fn observe(&self, id: Uuid) -> Result<Option<DomainSeen>, VmError> {
        self.look("look at a domain", move |c, tag| domains::observe(c, tag, id)).await
    }

    async fn ensure_defined(&self, spec: &DomainSpec) -> Result<Change, VmError> {
        xml::check_spec(spec)?;
        let spec = tuning::bound(spec);
        let wanted = Definition {
            id: spec.id,
            digest: xml::digest(&spec, &self.instance),
            xml: xml::render_domain(&spec, &self.instance),
            spec,
        };
        self.run("define a domain", PROCESS, move |c, tag| domains::ensure_defined(c, tag, &wanted)).await
    }

    fn digest(&self, spec: &DomainSpec) -> String {
        xml::digest(&tuning::bound(spec), &self.instance)
    }

    fn fixed_digest(&self, spec: &DomainSpec) -> String {
        xml::fixed_digest(spec, &self.instance)
    }

    async fn start(&self, id: Uuid) -> Result<Change, VmError> {
        // Waited for outside of the call's own time. Kept by the call, not by its caller, who may leave before it ends.
        let turn = self.starts.clone().acquire_owned().await.ok();
        self.run("start a guest", PROCESS, move |c, tag| {
            let _turn = turn;
            domains::start(c, tag, id)
        })
        .await
    }

    async fn shutdown(&self, id: Uuid) -> Result<Change, VmError> {
        self.run("ask a guest to power off", TELL, move |c, tag| domains::shutdown(c, tag, id)).await
    }

    async fn destroy(&self, id: Uuid) -> Result<Change, VmError> {
        self.run("cut a guest's power", PROCESS, move |c, tag| domains::destroy(c, tag, id)).await
    }

    async fn pause(&self, id: Uuid) -> Result<Change, VmError> {
        self.run("pause a guest", TELL, move |c, tag| domains::pause(c, tag, id)).await
    }

    async fn resume(&self, id: Uuid) -> Result<Change, VmError> {
        self.run("resume a guest", TELL, move |c, tag| domains::resume(c, tag, id)).await
    }

    async fn undefine(&self, id: Uuid) -> Result<Change, VmError> {
        self.run("undefine a domain", TELL, move |c, tag| domains::undefine(c, tag, id)).await
    }

    fn events(&self) -> broadcast::Receiver<DomainEvent> {
        self.events.subscribe()
    }

    async fn close(&self) {
        self.guests.close();
        self.hands.break_off().await;
        self.workers.end();
        self.link.stop();
        let ended = self.ended.lock().take();
        if let Some(ended) = ended {
            // A libvirt that hangs holds its thread, not us.
            let _ = tokio::time::timeout(CLOSE, ended).await;
        }
    }
}

fn starts_at_once() -> usize {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    processors.min(ACTING - 1)
}

/// As libvirt packs it: major * 1,000,000 + minor * 1,000 + release.
fn version(packed: u32) -> String {
    format!("{}.{}.{}", packed / 1_000_000, packed / 1000 % 1000, packed % 1000)
}
