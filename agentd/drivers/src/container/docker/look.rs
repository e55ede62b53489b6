//! Lists, events, and what is none of ours.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use bollard::models::{ContainerInspectResponse, ContainerSummary};
use futures_util::{StreamExt, stream};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::time::Instant;
use uuid::Uuid;

use super::strange::{self, Told};
use super::{DIGEST, EngineContainers, INSTANCE, Inner, plugs, read};
use crate::container::{
    ContainerDef, ContainerError, ContainerEvent, ContainerListed, ContainerLook, ContainerSeen, ForeignDef,
    ForeignSeen, Wired,
};
use crate::engine::{ASK, EngineError, EngineEvent, Outage, Subject};

const LOOK: &str = "look at a container";
/// Strangers that are looked at at a time.
const AT_ONCE: usize = 8;
/// How long a list of strangers waits for what the engine does not tell of them in one answer.
const PATIENCE: Duration = Duration::from_secs(5);

#[async_trait]
impl ContainerLook for EngineContainers {
    fn attend(&self, id: Uuid, engine_id: &str) {
        self.inner.attended.lock().insert(id, engine_id.to_owned());
    }

    fn leave(&self, id: Uuid) {
        self.inner.attended.lock().remove(&id);
        self.inner.forget(id);
    }

    async fn list(&self) -> Result<Vec<ContainerListed>, ContainerError> {
        let inner = &self.inner;
        inner.watch_links();
        let mut listed: Vec<_> =
            inner.summaries(None).await?.into_iter().filter_map(|s| inner.listed(s)).collect();
        let ids = listed.iter().map(|listed| (listed.id, listed.engine_id.clone()));
        *inner.known.lock() = ids.collect();
        inner.count_links(&mut listed).await;
        Ok(listed)
    }

    async fn observe(&self, id: Uuid) -> Result<Option<ContainerSeen>, ContainerError> {
        match self.inner.inspect(id).await? {
            Some(found) => Ok(Some(self.inner.seen(id, found).await?)),
            None => Ok(None),
        }
    }

    async fn foreign(&self) -> Result<Vec<ForeignSeen>, ContainerError> {
        Ok(self.inner.strangers().await?)
    }

    async fn foreign_def(&self, name: &str) -> Result<Option<ForeignDef>, ContainerError> {
        // An empty name would be the list.
        let plain = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
        if name.is_empty() || !name.chars().all(plain) {
            return Ok(None);
        }
        let linked = self.inner.engine.linked().await?;
        let path = format!("/containers/{name}/json");
        let raw: Value = match self.inner.within(LOOK, ASK, linked.wire.json(LOOK, &path)).await {
            Ok(raw) => raw,
            Err(error) if error.is_missing() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let unread = |error: serde_json::Error| EngineError::Failed { call: LOOK, detail: error.to_string() };
        let found = ContainerInspectResponse::deserialize(&raw).map_err(unread)?;
        let labels = found.config.as_ref().and_then(|config| config.labels.as_ref());
        let ours = labels.is_some_and(|labels| self.inner.owner(labels).is_some());
        if ours || found.id.as_deref().is_some_and(|id| self.inner.attending(id).is_some()) {
            return Ok(None);
        }
        let told = Told { raw: &raw, found, flavor: linked.flavor, instance: &self.inner.instance };
        Ok(Some(strange::foreign(told)))
    }

    async fn image_id(&self, name: &str) -> Result<Option<String>, ContainerError> {
        let engine = &self.inner.engine;
        let docker = engine.linked().await?.docker.clone();
        match engine.ask("tell of an image", ASK, docker.inspect_image(name)).await {
            Ok(image) => Ok(image.id.map(|id| match id.starts_with("sha256:") {
                true => id,
                false => format!("sha256:{id}"),
            })),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn events(&self) -> broadcast::Receiver<ContainerEvent> {
        self.inner.events.subscribe()
    }

    fn outage(&self) -> Option<Outage> {
        self.inner.engine.outage()
    }

    fn digest(&self, def: &ContainerDef) -> String {
        crate::container::def::digest(def)
    }
}

impl Inner {
    /// Of those that run, by one look at the links of all.
    async fn count_links(&self, listed: &mut [ContainerListed]) {
        if !listed.iter().any(|listed| listed.state.is_on()) {
            return;
        }
        let plugs = match plugs::all(&self.instance).await {
            Ok(plugs) => plugs,
            Err(error) => return tracing::debug!(%error, "containers' links cannot be counted"),
        };
        let mut counts: HashMap<Uuid, usize> = HashMap::new();
        for plug in plugs.iter().filter(|plug| plug.bridged) {
            *counts.entry(plug.container).or_default() += 1;
        }
        for listed in listed.iter_mut().filter(|listed| listed.state.is_on()) {
            listed.links = Some(counts.get(&listed.id).copied().unwrap_or_default());
        }
    }

    fn listed(&self, summary: ContainerSummary) -> Option<ContainerListed> {
        let engine_id = summary.id?;
        let labels = summary.labels.unwrap_or_default();
        let id = self.attending(&engine_id).or_else(|| self.owner(&labels))?;
        let digest = labels.get(DIGEST).cloned();
        Some(ContainerListed { id, engine_id, state: read::listed(summary.state), digest, links: None })
    }

    /// All that are none of ours. A list of the engine's does not say which are privileged: each is looked at once in its
    /// life.
    async fn strangers(&self) -> Result<Vec<ForeignSeen>, EngineError> {
        let all = self.summaries(None).await?.into_iter();
        let all: Vec<ForeignSeen> = all.filter_map(|summary| self.stranger(summary)).collect();
        self.forget_strangers_but(&all);
        let until = Instant::now() + PATIENCE;
        let looked_at = stream::iter(all).map(|mut seen| async move {
            seen.privileged = self.is_privileged(&seen.engine_id, until).await;
            seen
        });
        let all: Vec<ForeignSeen> = looked_at.buffer_unordered(AT_ONCE).collect().await;
        Ok(all)
    }

    fn forget_strangers_but(&self, there: &[ForeignSeen]) {
        let there: HashSet<&str> = there.iter().map(|seen| seen.engine_id.as_str()).collect();
        self.privileged.lock().retain(|engine_id, _| there.contains(engine_id.as_str()));
    }

    /// None where it is gone meanwhile, or where the engine does not tell by then.
    async fn is_privileged(&self, engine_id: &str, until: Instant) -> Option<bool> {
        let told = self.privileged.lock().get(engine_id).copied();
        if told.is_some() {
            return told;
        }
        let looked_at = tokio::time::timeout_at(until, self.inspect_by(engine_id)).await;
        let privileged = looked_at.ok()?.ok()??.host_config?.privileged?;
        self.privileged.lock().insert(engine_id.to_owned(), privileged);
        Some(privileged)
    }

    fn stranger(&self, summary: ContainerSummary) -> Option<ForeignSeen> {
        let engine_id = summary.id?;
        let labels = summary.labels.unwrap_or_default();
        if self.attending(&engine_id).is_some() || self.owner(&labels).is_some() {
            return None;
        }
        let name = summary.names.unwrap_or_default().into_iter().next().unwrap_or_default();
        let created = summary.created.and_then(|seconds| u64::try_from(seconds).ok());
        Some(ForeignSeen {
            engine_id,
            name: name.trim_start_matches('/').to_owned(),
            image: summary.image.unwrap_or_default(),
            command: summary.command.unwrap_or_default(),
            state: read::listed(summary.state),
            privileged: None,
            created_at: created.map(|seconds| agentd_api::Timestamp(seconds.saturating_mul(1000))),
            daemon: labels.get(INSTANCE).cloned(),
        })
    }

    /// Whose change it is, if it is one of ours: None where it is not, Some(None) where it may be anybody's.
    fn concerned(&self, event: &EngineEvent) -> Option<Option<Uuid>> {
        match event.subject {
            Subject::Everything => Some(None),
            Subject::Container => {
                // What runs in it and what is looked at changes nothing.
                let idle =
                    ["exec_", "attach", "detach", "resize", "top", "export", "archive-path", "copy", "kill"];
                if idle.iter().any(|word| event.action.starts_with(word)) {
                    return None;
                }
                let id = self.attending(&event.id).or_else(|| self.owner(&event.attributes))?;
                match event.action.as_str() {
                    "destroy" | "remove" => self.forget(id),
                    "create" => drop(self.known.lock().insert(id, event.id.clone())),
                    _ => {}
                }
                Some(Some(id))
            }
            Subject::Network => {
                let container = event.attributes.get("container")?;
                let known = self.known.lock().iter().find(|(_, id)| *id == container).map(|(id, _)| *id);
                if let Some(id) = self.attending(container).or(known) {
                    return Some(Some(id));
                }
                let name = event.attributes.get("name")?;
                matches!(read::wired(name, &self.instance), Wired::Ours(_)).then_some(None)
            }
            Subject::Image => None,
        }
    }
}

/// Hands on what the engine tells, until the driver is gone.
pub(super) fn follow(inner: &Arc<Inner>) {
    let mut events = inner.engine.events();
    let weak: Weak<Inner> = Arc::downgrade(inner);
    tokio::spawn(async move {
        loop {
            let event = events.recv().await;
            let Some(inner) = weak.upgrade() else { return };
            let id = match event {
                Ok(event) => inner.concerned(&event),
                Err(RecvError::Lagged(_)) => Some(None),
                Err(RecvError::Closed) => return,
            };
            if let Some(id) = id {
                let _ = inner.events.send(ContainerEvent { id });
            }
        }
    });
}
