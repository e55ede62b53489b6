//! What the daemon knows of itself and its host, for those who ask: answered from memory, and looked at anew every few
//! seconds in the background. Only `doctor` looks while it is asked.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use agentd_api::container::{Container, ForeignContainer, ForeignList, ForeignState, ImageRef};
use agentd_api::doctor::Report;
use agentd_api::server::{BackendInfo, HostInfo, Readiness, ServerInfo};
use agentd_api::vm::{Accel, CpuSet, FirmwareThere};
use agentd_api::{ByteSize, Cidr, Kind, PortMap, Problem, Timestamp};
use agentd_drivers::container::{ContainerState, ForeignDef, ForeignSeen, MountSource};
use agentd_drivers::engine::EngineProbe;
use agentd_drivers::network::Listener;
use agentd_drivers::vm::AccelAnswer;
use agentd_drivers::vm::accel::kvm_trouble;
use agentd_drivers::{Classed, Drivers, Instance, exec, fault};
use agentd_store::{Query, Store};
use async_trait::async_trait;
use parking_lot::RwLock;
use tokio_util::sync::CancellationToken;

use super::remote::Remote;
use crate::bind;
use crate::claims::ENGINE;
use crate::config::Config;
use crate::doctor;
use crate::host::Host;
use crate::intent::{EngineImage, Foreign};
use crate::{http, intent};

/// What the container engine is called among the backends.
const CONTAINERS: &str = "containers";
const REMOTE: &str = "remote";
const REFRESH: Duration = Duration::from_secs(5);
/// How long a backend may take to say that it is there.
const PATIENCE: Duration = Duration::from_secs(4);

pub struct Facts {
    host: Host,
    config: Config,
    instance: Instance,
    drivers: Drivers,
    store: Store,
    started_at: Timestamp,
    remote: Arc<Remote>,
    seen: RwLock<Seen>,
}

/// What the backends last said.
#[derive(Debug, Clone, Default)]
struct Seen {
    libvirt: Option<Result<BackendInfo, String>>,
    engine: Option<Result<BackendInfo, String>>,
    network_lacks: Vec<(String, String)>,
    image_lacks: Vec<(String, String)>,
    accel: Option<AccelAnswer>,
    default_network: Option<String>,
    pool_free: Option<ByteSize>,
}

impl Facts {
    pub fn new(
        config: Config,
        instance: Instance,
        drivers: Drivers,
        store: Store,
        remote: Arc<Remote>,
    ) -> Arc<Self> {
        let (host, started_at, seen) = (Host::read(), Timestamp::now(), RwLock::default());
        Arc::new(Self { host, config, instance, drivers, store, started_at, remote, seen })
    }

    /// Looks at the backends until `end`.
    pub async fn keep_looking(self: Arc<Self>, end: CancellationToken) {
        let looking = async {
            loop {
                self.look().await;
                tokio::time::sleep(REFRESH).await;
            }
        };
        let probing = async {
            loop {
                // Seconds, once in a boot of the host; the driver remembers. Asked again only while something stands in
                // the way of an answer (no QEMU), which may be mended meanwhile.
                let answer = self.drivers.vm.accel().await;
                let settled = answer.settled;
                self.seen.write().accel = Some(answer);
                if settled {
                    break;
                }
                tokio::time::sleep(REFRESH).await;
            }
        };
        let both = async { tokio::join!(looking, probing) };
        // Cancel safety: looking only reads; an answer that nobody waits for any more is dropped.
        tokio::select! {
            () = end.cancelled() => {}
            _ = both => {}
        }
    }

    pub fn boot_id(&self) -> &str {
        &self.host.boot_id
    }

    /// Why there is no network `default`, or None where there is one: for readiness and doctor.
    /// Whether that is news.
    pub fn default_network_is(&self, missing: Option<String>) -> bool {
        let mut seen = self.seen.write();
        let news = seen.default_network != missing;
        seen.default_network = missing;
        news
    }

    async fn look(&self) {
        let probe = async {
            match tokio::time::timeout(PATIENCE, self.drivers.vm.probe()).await {
                Ok(Ok(probe)) => Ok(BackendInfo {
                    name: "libvirt".to_owned(),
                    available: true,
                    detail: probe.version,
                    capabilities: probe.capabilities,
                }),
                Ok(Err(error)) => Err(fault::chain(&error)),
                Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
            }
        };
        let engine = async {
            match tokio::time::timeout(PATIENCE, self.drivers.container.probe()).await {
                Ok(Ok(probe)) => Ok(engine(&probe)),
                Ok(Err(error)) => Err(fault::chain(&error)),
                Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
            }
        };
        let lacks = async {
            let both = async { tokio::join!(self.drivers.network.missing(), self.drivers.image.missing()) };
            tokio::time::timeout(PATIENCE, both).await
        };
        let (libvirt, engine, lacks, free) = tokio::join!(probe, engine, lacks, self.drivers.pool.free());
        let mut seen = self.seen.write();
        seen.pool_free = free.ok();
        seen.libvirt = Some(libvirt);
        seen.engine = Some(engine);
        if let Ok((network, image)) = lacks {
            (seen.network_lacks, seen.image_lacks) = (network, image);
        }
    }

    fn backends(&self) -> Vec<BackendInfo> {
        let seen = self.seen.read();
        let libvirt = match &seen.libvirt {
            Some(Ok(info)) => info.clone(),
            Some(Err(why)) => away("libvirt", why.clone()),
            None => away("libvirt", "not asked yet".to_owned()),
        };
        let engine = match &seen.engine {
            Some(Ok(info)) => info.clone(),
            Some(Err(why)) => away(CONTAINERS, why.clone()),
            None => away(CONTAINERS, "not asked yet".to_owned()),
        };
        let (network, images) =
            (by_lacks("network", &seen.network_lacks), by_lacks("images", &seen.image_lacks));
        let remote = self.remote.seen().map(|remote| BackendInfo {
            available: remote.serves.is_some(),
            ..away(REMOTE, remote.detail())
        });
        [libvirt, engine, network, images].into_iter().chain(remote).collect()
    }

    /// Whether this daemon is to run containers: the configuration names an engine, or there are some.
    fn engine_needed(&self) -> bool {
        let some = Query { limit: Some(1), ..Query::kind(Container::DEF.kind) };
        self.config.containers.socket.is_some() || !self.store.list(&some).items.is_empty()
    }

    async fn looking(&self) -> doctor::Looking {
        self.look().await;
        let seen = self.seen.read().clone();
        let libvirt = match seen.libvirt {
            Some(Ok(info)) => Ok(info.detail),
            Some(Err(why)) => Err(why),
            None => Err("not asked yet".to_owned()),
        };
        let engine = match seen.engine {
            Some(Ok(info)) => Ok(info.detail),
            Some(Err(why)) => Err(why),
            None => Err("not asked yet".to_owned()),
        };
        doctor::Looking {
            engine,
            find: |program| exec::find(program).ok(),
            kvm_trouble,
            root: "/".into(),
            state_dir: self.instance.state_dir().to_owned(),
            group: self.config.daemon.group.clone(),
            lacks: seen.network_lacks.into_iter().chain(seen.image_lacks).collect(),
            libvirt,
            accel: seen.accel,
            store: self.store.health().map_err(|e| fault::chain(&e)),
            default_network: seen.default_network,
            guest_program: super::guest_program(&self.config),
            firmware: self.drivers.vm.firmware().there(),
            remote: self.remote.seen(),
        }
    }
}

fn stranger(seen: ForeignSeen) -> ForeignContainer {
    ForeignContainer {
        kind: Container::DEF.kind.to_owned(),
        name: seen.name,
        engine_id: seen.engine_id,
        image: seen.image,
        command: seen.command,
        state: match seen.state {
            ContainerState::Created => ForeignState::Created,
            ContainerState::Running => ForeignState::Running,
            ContainerState::Paused => ForeignState::Paused,
            ContainerState::Exited => ForeignState::Stopped,
            ContainerState::Removing => ForeignState::Removing,
        },
        privileged: seen.privileged,
        created_at: seen.created_at,
        daemon: seen.daemon,
    }
}

/// What it has mounted of the host that is not below one of the folders, with links followed.
async fn outside(def: &ForeignDef, allowed: &[PathBuf]) -> Vec<PathBuf> {
    let mut outside = Vec::new();
    for mount in &def.mounts {
        let MountSource::Bind(path) = &mount.source else { continue };
        let led = bind::led(path, allowed).await;
        if !led.is_ok_and(|led| led.allowed) || !allowed.iter().any(|folder| path.starts_with(folder)) {
            outside.push(path.clone());
        }
    }
    outside
}

fn engine(probe: &EngineProbe) -> BackendInfo {
    let detail =
        format!("{:?} {}, API {}, cgroup v{}", probe.flavor, probe.version, probe.api, probe.cgroups);
    let capabilities = probe.security.clone();
    BackendInfo { name: CONTAINERS.to_owned(), available: true, detail, capabilities }
}

fn away(name: &str, detail: String) -> BackendInfo {
    BackendInfo { name: name.to_owned(), available: false, detail, capabilities: Vec::new() }
}

fn by_lacks(name: &str, lacks: &[(String, String)]) -> BackendInfo {
    if lacks.is_empty() {
        let detail = "all that it needs is there".to_owned();
        return BackendInfo { available: true, ..away(name, detail) };
    }
    let missing: Vec<String> = lacks.iter().map(|(what, package)| format!("{what} ({package})")).collect();
    away(name, format!("missing: {}", missing.join(", ")))
}

#[async_trait]
impl http::Facts for Facts {
    fn server(&self) -> ServerInfo {
        let accel = self.seen.read().accel.clone();
        ServerInfo {
            name: "agentd".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            revision: self.store.revision(),
            instance: self.instance.tag().to_owned(),
            started_at: self.started_at,
            state_dir: self.instance.state_dir().display().to_string(),
            host: HostInfo {
                hostname: self.host.hostname.clone(),
                kernel: self.host.kernel.clone(),
                cpus: self.host.cpus,
                memory: self.host.memory,
                accel: accel.as_ref().map(|a| a.accel.as_str().to_owned()),
                accel_reason: accel.map(|a| a.reason),
            },
            backends: self.backends(),
        }
    }

    /// Ready is what can run a VM, and a container and other machines' calls where it is to. That no image can be built here is said, and is no reason
    /// to send nobody.
    fn readiness(&self) -> Readiness {
        let mut backends = self.backends();
        if !self.engine_needed() {
            backends.retain(|b| b.available || b.name != CONTAINERS);
        }
        let ready = backends.iter().all(|b| b.available || b.name == "images");
        let mut reasons: Vec<String> =
            backends.iter().filter(|b| !b.available).map(|b| format!("{}: {}", b.name, b.detail)).collect();
        reasons.extend(self.seen.read().default_network.iter().map(|why| format!("network default: {why}")));
        Readiness { ready, reasons }
    }

    async fn foreign(&self) -> Result<ForeignList, Problem> {
        let seen = self.drivers.container.foreign().await.map_err(|error| {
            let detail = format!("the engine's containers cannot be listed: {}", fault::chain(&error));
            Problem::new(error.code(), detail).hint("`agentctl doctor` says what is amiss with the engine")
        })?;
        // One whose adoption is written down is ours, also before the driver was told.
        let ours = |seen: &ForeignSeen| self.store.owner_of(ENGINE, &seen.engine_id).is_some();
        let mut items: Vec<_> = seen.into_iter().filter(|seen| !ours(seen)).map(stranger).collect();
        items.sort_by(|a, b| (&a.name, &a.engine_id).cmp(&(&b.name, &b.engine_id)));
        Ok(ForeignList { items })
    }

    async fn doctor(&self) -> Report {
        let looking = self.looking().await;
        // Files and the user database: not for the threads that serve.
        match tokio::task::spawn_blocking(move || doctor::report(&doctor::observe(looking))).await {
            Ok(report) => report,
            Err(error) => {
                let detail = format!("the examination itself failed: {error}");
                let verdict = agentd_api::doctor::Verdict::Fail;
                let check =
                    agentd_api::doctor::Check { name: "doctor".to_owned(), verdict, detail, fix: None };
                Report { checks: vec![check], findings: Vec::new() }
            }
        }
    }
}

#[async_trait]
impl intent::HostFacts for Facts {
    fn memory(&self) -> ByteSize {
        self.host.memory
    }
    fn processors(&self) -> CpuSet {
        crate::host::online().clone()
    }
    fn huge_pages(&self) -> Option<ByteSize> {
        crate::host::huge_pages()
    }
    fn accel(&self) -> Option<Accel> {
        self.seen.read().accel.as_ref().map(|answer| answer.accel)
    }
    fn firmware(&self) -> FirmwareThere {
        self.drivers.vm.firmware().there()
    }
    fn boot_id(&self) -> &str {
        &self.host.boot_id
    }
    /// Where it is not known yet, whatever is wanted is taken to fit.
    fn pool_free(&self) -> ByteSize {
        self.seen.read().pool_free.unwrap_or(ByteSize(u64::MAX))
    }
    fn bind_mounts(&self) -> Vec<PathBuf> {
        self.config.containers.bind_mounts.clone()
    }
    async fn engine_image(&self, image: &ImageRef) -> EngineImage {
        match self.drivers.container.image_id(image.as_str()).await {
            Ok(Some(_)) => EngineImage::There,
            Ok(None) => EngineImage::NotThere,
            Err(error) => EngineImage::Unknown(fault::chain(&error)),
        }
    }
    async fn foreign(&self, name: &str) -> Foreign {
        match self.drivers.container.foreign_def(name).await {
            Ok(Some(def)) => {
                let outside = outside(&def, &self.config.containers.bind_mounts).await;
                Foreign::There { def: Box::new(def), outside }
            }
            Ok(None) => Foreign::NotThere,
            Err(error) => Foreign::Unknown(fault::chain(&error)),
        }
    }
    async fn taken(&self) -> Result<Vec<Cidr>, String> {
        self.drivers.network.taken().await.map_err(|e| fault::chain(&e))
    }
    async fn listeners(&self, ports: &[PortMap]) -> Result<Vec<Listener>, String> {
        self.drivers.network.listeners(ports).await.map_err(|e| fault::chain(&e))
    }
}
