//! The networks of a real host: bridges by rtnetlink, rules by nft, addresses and names by dnsmasq.
//!
//! ```text
//! bridge.rs   links and their addresses           taken.rs     networks that the host is in by itself
//! sysctl.rs   /proc/sys/net                       beside.rs    Docker's and ufw's tables
//! dnsmasq.rs  its process                         folder.rs    its files, of ../dnsmasq_config.rs's text
//! unit.rs     its unit, under systemd
//! firewall.rs the table in the kernel, of ../ruleset.rs's text
//! watch.rs    what changed behind our back        rules.rs     ... in nftables
//! listeners.rs  who else listens on the host      holder.rs    ... and who that is, or (groups.rs) of which unit
//! ```
//!
//! Each call looks at the host and changes what differs; one that fails half-way has done the first half and is called
//! again. Calls for one network wait for each other, and so do those for the firewall.

mod attributes;
mod beside;
mod bridge;
mod dnsmasq;
mod firewall;
mod folder;
mod groups;
mod holder;
mod listeners;
mod rules;
mod sysctl;
mod taken;
mod watch;

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use agentd_api::{Cidr, PortMap};
use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::{Mutex as AsyncMutex, broadcast};
use uuid::Uuid;

use self::bridge::{BridgeSeen, Links};
use self::dnsmasq::Serving;
use self::firewall::Firewall;
use self::watch::{Watch, Watched};
use super::{FirewallSetup, Listener, NetworkDriver, NetworkError, NetworkSeen, NetworkSetup, ruleset};
use crate::exec::{self, ExecError};
use crate::{Instance, fault};

#[derive(Debug, Clone, Default)]
pub struct NetworkOptions {
    /// Whom guests' name servers ask; the servers of the host's resolv.conf where empty.
    pub upstream: Vec<IpAddr>,
}

#[derive(Debug)]
pub struct HostNetwork {
    instance: Instance,
    options: NetworkOptions,
    locks: Mutex<HashMap<Uuid, Arc<AsyncMutex<()>>>>,
    firewall: AsyncMutex<Firewall>,
    watch: Watch,
}

impl HostNetwork {
    /// Must be called within a tokio runtime. Touches nothing yet: what this host lacks shows in calls and `missing`.
    pub fn new(instance: Instance, options: NetworkOptions) -> Arc<Self> {
        let watch = Watch::start(ruleset::table_name(&instance));
        Arc::new(Self { instance, options, locks: Mutex::default(), firewall: AsyncMutex::default(), watch })
    }

    fn lock_of(&self, id: Uuid) -> Arc<AsyncMutex<()>> {
        self.locks.lock().entry(id).or_default().clone()
    }

    /// The networks that have a folder.
    fn folders(&self) -> Result<Vec<Uuid>, NetworkError> {
        let entries = match std::fs::read_dir(self.instance.networks_dir()) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => {
                let step = "listing the networks' folders".to_owned();
                return Err(NetworkError::Failed { step, detail: error.to_string() });
            }
        };
        Ok(entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
    }
}

fn bridge_is_whole(seen: Option<&BridgeSeen>) -> bool {
    seen.is_some_and(|seen| seen.up && seen.marked && !seen.addresses.is_empty())
}

#[async_trait]
impl NetworkDriver for HostNetwork {
    async fn missing(&self) -> Vec<(String, String)> {
        let needed = [("nft", "nftables"), ("dnsmasq", "dnsmasq-base")];
        let lacking = needed.iter().filter(|(program, _)| exec::find(program).is_err());
        lacking.map(|(program, package)| ((*program).to_owned(), (*package).to_owned())).collect()
    }

    async fn ensure(&self, setup: &NetworkSetup) -> Result<NetworkSeen, NetworkError> {
        let lock = self.lock_of(setup.id);
        let _held = lock.lock().await;
        let links = Links::open()?;
        let bridge = links.ensure(&self.instance, setup.id, setup.cidr).await?;
        let serving = Serving {
            folder: self.instance.network_dir(setup.id),
            bridge: self.instance.bridge(setup.id),
            index: bridge.index,
            upstream: self.options.upstream.clone(),
        };
        let pid = dnsmasq::ensure_served(&serving, setup).await?;
        let watched = Watched {
            bridge: serving.bridge,
            index: bridge.index,
            alias: bridge::alias(&self.instance, setup.id),
            folder: serving.folder.clone(),
            pid,
        };
        self.watch.note(setup.id, watched);
        let seen = links.observe(&self.instance, setup.id).await?;
        let whole = bridge_is_whole(seen.as_ref()) && seen.is_some_and(|seen| seen.has(setup.cidr));
        Ok(NetworkSeen { bridge: whole, dns: dnsmasq::running(&serving.folder).is_some() })
    }

    async fn observe(&self, id: Uuid) -> Result<NetworkSeen, NetworkError> {
        let seen = Links::open()?.observe(&self.instance, id).await?;
        let dns = dnsmasq::running(&self.instance.network_dir(id)).is_some();
        Ok(NetworkSeen { bridge: bridge_is_whole(seen.as_ref()), dns })
    }

    async fn ensure_firewall(&self, setup: &FirewallSetup) -> Result<(), NetworkError> {
        let mut firewall = self.firewall.lock().await;
        let there = Links::open()?.list(&self.instance).await?;
        let there: Vec<String> = there.into_iter().map(|id| self.instance.bridge(id)).collect();
        firewall.ensure(&self.instance, setup, &there).await?;
        let wanted: BTreeSet<String> = setup.networks.iter().map(|n| self.instance.bridge(n.id)).collect();
        beside::ensure_beside(self.instance.tag(), &Vec::from_iter(wanted)).await
    }

    async fn remove(&self, id: Uuid) -> Result<(), NetworkError> {
        let lock = self.lock_of(id);
        let _held = lock.lock().await;
        self.watch.forget(id);
        let folder = self.instance.network_dir(id);
        dnsmasq::stop(&folder).await?;
        Links::open()?.remove(&self.instance, id).await?;
        match std::fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                let step = "removing the network's folder".to_owned();
                return Err(NetworkError::Failed { step, detail: error.to_string() });
            }
            _ => {}
        }
        let mut locks = self.locks.lock();
        // Two: the map's and ours. With more, somebody waits for this very lock, and must not meet a newcomer's.
        if Arc::strong_count(&lock) == 2 {
            locks.remove(&id);
        }
        Ok(())
    }

    async fn list(&self) -> Result<Vec<Uuid>, NetworkError> {
        let mut ids = Links::open()?.list(&self.instance).await?;
        ids.extend(self.folders()?);
        ids.sort();
        ids.dedup();
        Ok(ids)
    }

    async fn taken(&self) -> Result<Vec<Cidr>, NetworkError> {
        taken::taken(&Links::open()?, &self.instance).await
    }

    async fn listeners(&self, ports: &[PortMap]) -> Result<Vec<Listener>, NetworkError> {
        let ports = ports.to_vec();
        blocking("reading who listens on the host", move || listeners::listeners_met_by(&ports)).await
    }

    fn bridge(&self, id: Uuid) -> String {
        self.instance.bridge(id)
    }
    fn events(&self) -> broadcast::Receiver<()> {
        self.watch.subscribe()
    }
    async fn close(&self) {
        self.watch.stop();
    }
}

/// A program's failure as this driver's, with the step that it was part of.
fn failed_to(step: &'static str) -> impl Fn(ExecError) -> NetworkError {
    move |error| match &error {
        ExecError::Missing(program) => NetworkError::ProgramMissing { program: program.clone() },
        ExecError::Status { stderr, .. } if stderr.contains("Operation not supported") => {
            NetworkError::Unsupported(format!("{step}: {stderr}"))
        }
        _ => NetworkError::Failed { step: step.to_owned(), detail: fault::chain(&error) },
    }
}

/// Work on files, on a thread that may wait for them.
async fn blocking<T: Send + 'static>(
    step: &'static str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, NetworkError> {
    let failed = |detail: String| NetworkError::Failed { step: step.to_owned(), detail };
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| failed(e.to_string()))?
        .map_err(|e| failed(e.to_string()))
}
