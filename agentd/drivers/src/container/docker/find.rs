//! Whose container is which.

use std::collections::HashMap;

use bollard::models::{ContainerInspectResponse, ContainerSummary};
use bollard::query_parameters::{InspectContainerOptions, ListContainersOptionsBuilder};
use serde_json::json;
use uuid::Uuid;

use super::{ID, INSTANCE, Inner, read};
use crate::container::{ContainerError, ContainerSeen};
use crate::engine::wire::query;
use crate::engine::{ASK, EngineError};

impl Inner {
    /// Whether a thing with those labels was made by this daemon, and for which object.
    pub(super) fn owner(&self, labels: &HashMap<String, String>) -> Option<Uuid> {
        let ours = labels.get(INSTANCE).is_some_and(|tag| tag == self.instance.tag());
        ours.then(|| labels.get(ID)?.parse().ok()).flatten()
    }

    /// The object that was told to have a container of that engine's id.
    pub(super) fn attending(&self, engine_id: &str) -> Option<Uuid> {
        self.attended.lock().iter().find(|(_, attended)| *attended == engine_id).map(|(id, _)| *id)
    }

    /// All containers, or those with that label.
    pub(super) async fn summaries(
        &self,
        label: Option<String>,
    ) -> Result<Vec<ContainerSummary>, EngineError> {
        let call = "list containers";
        let label = label.as_deref();
        if self.wires().await? {
            let filters = label.map_or_else(|| json!({}), |label| json!({ "label": [label] })).to_string();
            return self
                .podmans(call, &query("/containers/json", &[("all", "true"), ("filters", &filters)]))
                .await;
        }
        let docker = self.engine.linked().await?.docker.clone();
        let mut options = ListContainersOptionsBuilder::default().all(true);
        if let Some(label) = label {
            options = options.filters(&HashMap::from([("label", vec![label])]));
        }
        self.engine.ask(call, ASK, docker.list_containers(Some(options.build()))).await
    }

    /// The engine's id of the object's container; Missing where there is none.
    pub(super) async fn engine_id(&self, id: Uuid) -> Result<String, ContainerError> {
        if let Some(engine_id) = self.attended.lock().get(&id) {
            return Ok(engine_id.clone());
        }
        if let Some(engine_id) = self.known.lock().get(&id) {
            return Ok(engine_id.clone());
        }
        self.look_up(id).await?.ok_or(ContainerError::Missing(id))
    }

    async fn look_up(&self, id: Uuid) -> Result<Option<String>, ContainerError> {
        let found = self.summaries(Some(format!("{ID}={id}"))).await?;
        let ours = found
            .into_iter()
            .filter(|summary| summary.labels.as_ref().and_then(|labels| self.owner(labels)) == Some(id));
        let engine_id = ours.filter_map(|summary| summary.id).next();
        if let Some(engine_id) = &engine_id {
            self.known.lock().insert(id, engine_id.clone());
        }
        Ok(engine_id)
    }

    /// All that the engine knows of the object's container.
    pub(super) async fn inspect(&self, id: Uuid) -> Result<Option<ContainerInspectResponse>, ContainerError> {
        let attended = self.attended.lock().get(&id).cloned();
        if let Some(engine_id) = attended {
            return Ok(self.inspect_by(&engine_id).await?);
        }
        let known = self.known.lock().get(&id).cloned();
        if let Some(engine_id) = known {
            if let Some(found) = self.inspect_by(&engine_id).await? {
                return Ok(Some(found));
            }
            self.forget(id);
        }
        match self.look_up(id).await? {
            Some(engine_id) => Ok(self.inspect_by(&engine_id).await?),
            None => Ok(None),
        }
    }

    /// As `inspect`; Missing where there is none.
    pub(super) async fn found(&self, id: Uuid) -> Result<ContainerInspectResponse, ContainerError> {
        self.inspect(id).await?.ok_or(ContainerError::Missing(id))
    }

    pub(super) async fn inspect_by(
        &self,
        name: &str,
    ) -> Result<Option<ContainerInspectResponse>, EngineError> {
        let call = "look at a container";
        let found = if self.wires().await? {
            self.podmans(call, &format!("/containers/{name}/json")).await
        } else {
            let docker = self.engine.linked().await?.docker.clone();
            let look = docker.inspect_container(name, None::<InspectContainerOptions>);
            self.engine.ask(call, ASK, look).await
        };
        match found {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What there is to tell of it.
    pub(super) async fn seen(
        &self,
        id: Uuid,
        found: ContainerInspectResponse,
    ) -> Result<ContainerSeen, ContainerError> {
        self.watch_links();
        let mut seen = read::seen(id, found, &self.instance);
        if self.wires().await? {
            seen.endpoints.extend(self.plugged(id).await?);
            seen.endpoints.sort();
        } else {
            self.hold_against_kernel(&mut seen).await;
        }
        Ok(seen)
    }

    pub(super) fn forget(&self, id: Uuid) {
        self.known.lock().remove(&id);
    }

    /// What the engine's refusal of an act on the object's container means.
    pub(super) fn refused(&self, id: Uuid, error: EngineError) -> ContainerError {
        match error.status() {
            Some(404) => {
                self.forget(id);
                ContainerError::Missing(id)
            }
            Some(409) if error.message().contains("not running") => ContainerError::Off(id),
            // Podman's word for it, also of one that is paused.
            Some(409 | 500) if error.message().contains("container state improper") => {
                ContainerError::Off(id)
            }
            Some(400) => ContainerError::Refused(error.message().to_owned()),
            Some(501) => ContainerError::Unsupported(error.message().to_owned()),
            _ => error.into(),
        }
    }
}
