//! The host beside the objects: what bears this daemon's mark and belongs to no object, and objects whose side on the host
//! is gone.
//!
//! ```text
//!   lists of the drivers, the store --look--> findings, each with its remedy, or none --those asked for--> mended
//! ```
//! A remedy is what loses nobody's data: a stopped domain's definition, a network, a folder without disks, another try
//! at an object. Whatever holds content is only named, with what a person would type. What cannot be looked through,
//! because its backend is away, has no findings; that it is away is a check of its own.

mod missing;
mod orphans;

use std::time::Duration;

use agentd_api::doctor::{Finding, FindingSort, Repair};
use agentd_api::event::Outcome;
use agentd_api::kind::Kind;
use agentd_api::network::Network;
use agentd_api::vm::Vm;
use agentd_api::{ObjectKey, State};
use agentd_drivers::{Drivers, Instance, fault};
use agentd_store::{NewEvent, Store, TxError};
use async_trait::async_trait;
use tokio::time::Instant;
use uuid::Uuid;

use crate::http::HostSides;
use crate::intent::{Caller, Intents};

/// How long an object that is tried again may take to have its side on the host.
const PATIENCE: Duration = Duration::from_secs(10);
const AGAIN: Duration = Duration::from_millis(100);

pub struct Sides {
    store: Store,
    drivers: Drivers,
    instance: Instance,
    intents: Intents,
}

/// What is done about a finding.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Remedy {
    Undefine(Uuid),
    RemoveNetwork(Uuid),
    RemoveFolder(Uuid),
    Retry(ObjectKey),
}

impl Remedy {
    fn text(&self) -> &'static str {
        match self {
            Self::Undefine(_) => "removes its definition; disks stay",
            Self::RemoveNetwork(_) => "removes its bridge and its dnsmasq",
            Self::RemoveFolder(_) => "removes the folder, which holds no disk",
            Self::Retry(_) => "forgets failed attempts at it, and tries again now",
        }
    }

    fn done(&self) -> &'static str {
        match self {
            Self::Undefine(_) => "its definition is removed",
            Self::RemoveNetwork(_) => "its bridge and its dnsmasq are removed",
            Self::RemoveFolder(_) => "the folder is removed",
            Self::Retry(_) => "it is on the host",
        }
    }
}

/// Something that was found.
#[derive(Debug, Clone)]
struct Found {
    sort: FindingSort,
    subject: String,
    detail: String,
    remedy: Option<Remedy>,
    by_hand: Option<String>,
}

impl From<Found> for Finding {
    fn from(found: Found) -> Self {
        let fix = found.remedy.as_ref().map(|remedy| remedy.text().to_owned());
        let Found { sort, subject, detail, by_hand, .. } = found;
        Self { sort, subject, detail, fix, by_hand }
    }
}

#[async_trait]
impl HostSides for Sides {
    async fn findings(&self) -> Vec<Finding> {
        self.look().await.into_iter().map(Finding::from).collect()
    }

    async fn repair(&self, subjects: Vec<String>, caller: Caller) -> Vec<Repair> {
        let found = self.look().await;
        let mut done = Vec::with_capacity(subjects.len());
        for subject in subjects {
            let known = found.iter().find(|found| found.subject == subject);
            let outcome = match known.map(|found| (&found.remedy, &found.by_hand)) {
                None => Err("it is not found any more".to_owned()),
                Some((None, by_hand)) => {
                    let hand = by_hand.as_ref().map(|by| format!(": {by}")).unwrap_or_default();
                    Err(format!("this is for a person to do{hand}"))
                }
                Some((Some(remedy), _)) => self.apply(remedy, &subject, &caller).await,
            };
            let (done_so, detail) = match outcome {
                Ok(detail) => (true, detail),
                Err(detail) => (false, detail),
            };
            done.push(Repair { subject, done: done_so, detail });
        }
        done
    }
}

impl Sides {
    pub fn new(store: &Store, drivers: &Drivers, instance: &Instance, intents: &Intents) -> Self {
        let (store, drivers) = (store.clone(), drivers.clone());
        Self { store, drivers, instance: instance.clone(), intents: intents.clone() }
    }

    async fn look(&self) -> Vec<Found> {
        let mut found = self.orphans().await;
        found.extend(self.missing().await);
        found
    }

    async fn apply(&self, remedy: &Remedy, subject: &str, caller: &Caller) -> Result<String, String> {
        let (kind, id, end) = match remedy {
            Remedy::Undefine(id) => {
                let end = self.drivers.vm.undefine(*id).await.map(drop);
                (Vm::DEF.kind, *id, end.map_err(|error| fault::chain(&error)))
            }
            Remedy::RemoveNetwork(id) => {
                let end = self.drivers.network.remove(*id).await;
                (Network::DEF.kind, *id, end.map_err(|error| fault::chain(&error)))
            }
            Remedy::RemoveFolder(id) => {
                let end = self.drivers.volume.remove(*id).await;
                (Vm::DEF.kind, *id, end.map_err(|error| fault::chain(&error)))
            }
            Remedy::Retry(key) => return self.retry(key, (subject, caller)).await,
        };
        end?;
        tracing::info!(kind, %id, "{subject}, which belonged to no object: {}", remedy.done());
        self.record((kind, id), caller, format!("{subject} belonged to no object: {}", remedy.done())).await;
        Ok(remedy.done().to_owned())
    }

    async fn retry(&self, key: &ObjectKey, (subject, caller): (&str, &Caller)) -> Result<String, String> {
        let tried = self.intents.act(caller, key, "retry", serde_json::Value::Null).await;
        tried.map_err(|problem| problem.detail)?;
        let limit = Instant::now() + PATIENCE;
        while self.missing().await.iter().any(|found| found.subject == subject) {
            let status =
                self.store.get(key).map(|stored| stored.value()["status"].clone()).unwrap_or_default();
            if status["state"] == State::Failed.as_str() || Instant::now() > limit {
                let why = status["reason"].as_str().unwrap_or("no reason is given");
                return Err(format!("it was tried again, and is still not on the host: {why}"));
            }
            tokio::time::sleep(AGAIN).await;
        }
        Ok(Remedy::Retry(key.clone()).done().to_owned())
    }

    async fn record(&self, (kind, id): (&str, Uuid), caller: &Caller, message: String) {
        let event = NewEvent {
            kind: kind.to_owned(),
            project: String::new(),
            name: String::new(),
            id,
            actor: caller.principal.actor(),
            verb: "repaired".to_owned(),
            message,
            outcome: Outcome::Done,
            request_id: Some(caller.request_id.clone()),
        };
        let recorded = self.store.transact(move |tx| {
            tx.record(event.clone());
            Ok::<(), TxError>(())
        });
        if let Err(error) = recorded.await {
            tracing::error!("a repair is not recorded: {error}");
        }
    }
}
