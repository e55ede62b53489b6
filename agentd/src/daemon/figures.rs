//! Figures of all guests: asks the drivers once for whoever asks at the same time, and joins their answers with the objects.
//!
//! One backend that is away takes nothing from the other's figures: what is missing is said beside them.
//! Nothing is sampled while nobody asks. An answer is never older than its question: who asks while a call is under way
//! waits for the next one, which is then the answer of all who wait.

use std::sync::Arc;

use agentd_api::container::Container;
use agentd_api::stats::{Figures, NetworkFigures, StatsList, StatsMissing};
use agentd_api::vm::Vm;
use agentd_api::{Kind, Object, ObjectName, Problem, State, Timestamp};
use agentd_drivers::container::{ContainerDriver, ContainerStats};
use agentd_drivers::vm::VmDriver;
use agentd_drivers::vm::stats::DomainStats;
use agentd_drivers::{Classed, Drivers, Instance, fault};
use agentd_store::{Query, Store};
use async_trait::async_trait;
use parking_lot::Mutex;
use std::time::Instant;

use crate::http::GuestFigures;

pub struct AllFigures {
    pub store: Store,
    pub vm: Arc<dyn VmDriver>,
    pub container: Arc<dyn ContainerDriver>,
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
    async fn now(&self) -> Arc<StatsList> {
        let asked = Instant::now();
        let _turn = self.turn.lock().await;
        if let Some(last) = self.last.lock().clone().filter(|last| last.began >= asked) {
            return last.list;
        }
        let (began, at) = (Instant::now(), Timestamp::now());
        let (vms, containers) = tokio::join!(self.vms(), self.containers());
        let (mut items, mut missing) = (Vec::new(), Vec::new());
        for (kind, told) in [(Vm::DEF.kind, vms), (Container::DEF.kind, containers)] {
            match told {
                Ok(figures) => items.extend(figures),
                Err(Problem { code, detail: reason, .. }) => {
                    missing.push(StatsMissing { kind: kind.to_owned(), code, reason });
                }
            }
        }
        items.sort_by(|a, b| (&b.kind, &a.project, &a.name).cmp(&(&a.kind, &b.project, &b.name)));
        let list = Arc::new(StatsList { at, items, missing });
        *self.last.lock() = Some(Taken { began, list: list.clone() });
        list
    }
}

impl AllFigures {
    pub fn new(store: Store, drivers: &Drivers, instance: Instance) -> Self {
        let (vm, container) = (drivers.vm.clone(), drivers.container.clone());
        Self { store, vm, container, instance, turn: tokio::sync::Mutex::default(), last: Mutex::default() }
    }

    /// Nor is libvirt where there are no VMs.
    async fn vms(&self) -> Result<Vec<Figures>, Problem> {
        let there = Query { limit: Some(1), ..Query::kind(Vm::DEF.kind) };
        if self.store.list(&there).items.is_empty() {
            return Ok(Vec::new());
        }
        let told = self.vm.stats().await.map_err(|e| unknown(&e))?;
        Ok(told.into_iter().filter_map(|stats| self.figures(stats)).collect())
    }

    /// Without containers no engine is needed, and none is asked.
    async fn containers(&self) -> Result<Vec<Figures>, Problem> {
        let up = |state: &str| Query {
            fields: vec![("state".to_owned(), true, state.to_owned())],
            limit: Some(1),
            ..Query::kind(Container::DEF.kind)
        };
        if [State::Running, State::Paused].iter().all(|s| self.store.list(&up(s.as_str())).items.is_empty()) {
            return Ok(Vec::new());
        }
        let told = self.container.stats().await.map_err(|e| unknown(&e))?;
        let figures = |stats: ContainerStats| {
            let stored = self.store.by_id(stats.id).filter(|s| s.kind() == Container::DEF.kind)?;
            Some(Figures {
                kind: Container::DEF.kind.to_owned(),
                project: stored.project().clone(),
                name: stored.name().clone(),
                id: stats.id,
                cpu: stats.cpu,
                memory: stats.memory,
                disks: stats.disks,
                networks: stats.networks,
            })
        };
        Ok(told.into_iter().filter_map(figures).collect())
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

fn unknown<E: Classed>(error: &E) -> Problem {
    Problem::new(error.code(), format!("the guests' figures cannot be had: {}", fault::chain(error)))
}
