//! Figures of all guests: asks the driver once for whoever asks at the same time, and joins its answer with the objects.
//!
//! Nothing is sampled while nobody asks. An answer is never older than its question: who asks while a call is under way
//! waits for the next one, which is then the answer of all who wait.

use std::sync::Arc;

use agentd_api::stats::{Figures, NetworkFigures, StatsList};
use agentd_api::vm::Vm;
use agentd_api::{Kind, Object, ObjectName, Problem, Timestamp};
use agentd_drivers::vm::VmDriver;
use agentd_drivers::vm::stats::DomainStats;
use agentd_drivers::{Classed, Instance, fault};
use agentd_store::Store;
use async_trait::async_trait;
use parking_lot::Mutex;
use std::time::Instant;

use crate::http::GuestFigures;

pub struct AllFigures {
    pub store: Store,
    pub vm: Arc<dyn VmDriver>,
    pub instance: Instance,
    pub turn: tokio::sync::Mutex<()>,
    pub last: Mutex<Option<Taken>>,
}

/// What one call told, and when it began.
#[derive(Clone)]
pub struct Taken {
    began: Instant,
    list: Arc<StatsList>,
}

#[async_trait]
impl GuestFigures for AllFigures {
    async fn now(&self) -> Result<Arc<StatsList>, Problem> {
        let asked = Instant::now();
        let _turn = self.turn.lock().await;
        if let Some(last) = self.last.lock().clone().filter(|last| last.began >= asked) {
            return Ok(last.list);
        }
        let (began, at) = (Instant::now(), Timestamp::now());
        let told = self.vm.stats().await.map_err(|e| {
            Problem::new(e.code(), format!("the guests' figures cannot be had: {}", fault::chain(&e)))
        })?;
        let mut items: Vec<Figures> = told.into_iter().filter_map(|stats| self.figures(stats)).collect();
        items.sort_by(|a, b| (&a.project, &a.name).cmp(&(&b.project, &b.name)));
        let list = Arc::new(StatsList { at, items });
        *self.last.lock() = Some(Taken { began, list: list.clone() });
        Ok(list)
    }
}

impl AllFigures {
    pub fn new(store: Store, vm: Arc<dyn VmDriver>, instance: Instance) -> Self {
        Self { store, vm, instance, turn: tokio::sync::Mutex::default(), last: Mutex::default() }
    }

    /// None for a guest that no object owns.
    fn figures(&self, stats: DomainStats) -> Option<Figures> {
        let stored = self.store.by_id(stats.id).filter(|stored| stored.kind() == Vm::DEF.kind)?;
        let vm: Object<Vm> = stored.object().ok()?;
        let on = |n: usize| vm.status.addresses.get(n).map(|address| address.network.clone());
        let networks = stats.networks.into_iter().map(|nic| self.named(nic, stats.id, on));
        Some(Figures {
            kind: Vm::DEF.kind.to_owned(),
            project: vm.meta.project.clone(),
            name: vm.meta.name.clone(),
            id: stats.id,
            cpu: stats.cpu,
            memory: stats.memory,
            disks: stats.disks,
            networks: networks.collect(),
        })
    }

    fn named(
        &self,
        nic: NetworkFigures,
        vm: uuid::Uuid,
        on: impl Fn(usize) -> Option<ObjectName>,
    ) -> NetworkFigures {
        const NICS: usize = 64;
        let number = (0..NICS).find(|n| self.instance.tap(vm, *n) == nic.device);
        NetworkFigures { network: number.and_then(on), ..nic }
    }
}
