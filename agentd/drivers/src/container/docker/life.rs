//! From nothing to running and back.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use serde_json::Value;
use uuid::Uuid;

use super::{DIGEST, EngineContainers, Inner, read, render};
use crate::container::{
    Change, ContainerDef, ContainerError, ContainerLife, ContainerState, Created, Endpoint,
};
use crate::engine::wire::query;
use crate::engine::{ACT, ASK, EngineError, Flavor, Linked};

const KILL: u32 = 9;
/// From this version of the API on a container is made with all of its endpoints, each with its MAC.
const SEVERAL_AT_ONCE: (u32, u32) = (1, 44);
/// How often what the engine is still at is looked at.
const LOOK: Duration = Duration::from_millis(20);

impl Inner {
    async fn create(&self, def: &ContainerDef) -> Result<Created, ContainerError> {
        def.check()?;
        if let Some(found) = self.inspect(def.id).await? {
            let labels = found.config.and_then(|config| config.labels).unwrap_or_default();
            let adopted = self.attended.lock().contains_key(&def.id);
            let same = adopted || labels.get(DIGEST) == Some(&crate::container::def::digest(def));
            return Ok(if same { Created::AlreadySo } else { Created::Differs });
        }
        for endpoint in &def.endpoints {
            if !self.has_network(endpoint.network).await? {
                return Err(ContainerError::NoNetwork(endpoint.network));
            }
        }
        self.has_volumes(def).await?;
        let linked = self.engine.linked().await?;
        self.settle_users(def, linked.flavor).await?;
        let failed =
            |error: serde_json::Error| EngineError::Failed { call: CREATE, detail: error.to_string() };
        let plugged = at_once(&linked, &def.endpoints);
        let body = render::body(def, plugged, &self.instance, linked.flavor).map_err(failed)?;
        let path = query("/containers/create", &[("name", &def.engine_name(&self.instance))]);
        self.ready_to_make(def.id).await?;
        let made = match self.post(CREATE, ACT, &path, &body).await {
            Ok(made) => made,
            Err(error) => {
                // Without an answer it may be there all the same.
                if error.status().is_some() {
                    self.unwire_all(def.id).await?;
                }
                return Err(not_made(def, error));
            }
        };
        let engine_id = made.get("Id").and_then(Value::as_str).unwrap_or_default().to_owned();
        self.known.lock().insert(def.id, engine_id);
        if let Err(error) = self.complete(def, &def.endpoints[plugged.len()..], &made).await {
            // Half of one is none.
            self.take_away(def.id).await?;
            return Err(error);
        }
        Ok(Created::Made)
    }

    /// What is to be done to one that was just made, and is not plugged in everywhere.
    async fn complete(
        &self,
        def: &ContainerDef,
        unplugged: &[Endpoint],
        made: &Value,
    ) -> Result<(), ContainerError> {
        let warnings = made.get("Warnings").and_then(Value::as_array).into_iter().flatten();
        // A limit that the kernel cannot hold is dropped with a warning.
        if let Some(lost) = warnings.filter_map(Value::as_str).find(|text| is_loss(text)) {
            return Err(ContainerError::Unsupported(lost.to_owned()));
        }
        for endpoint in unplugged {
            self.plug(def.id, endpoint).await?;
        }
        Ok(())
    }

    /// Tells the engine something about the object's container.
    pub(super) async fn tell(&self, id: Uuid, call: &'static str, rest: &str) -> Result<(), ContainerError> {
        let engine_id = self.engine_id(id).await?;
        let path = format!("/containers/{engine_id}/{rest}");
        let told = self.post(call, ACT, &path, &Value::Null).await;
        told.map(drop).map_err(|error| self.refused(id, error))
    }

    pub(super) async fn state(&self, id: Uuid) -> Result<ContainerState, ContainerError> {
        Ok(self.found(id).await?.state.as_ref().map_or(ContainerState::Created, read::state))
    }

    async fn start(&self, id: Uuid) -> Result<Change, ContainerError> {
        let found = self.found(id).await?;
        if found.state.as_ref().is_some_and(|said| read::state(said).is_on()) {
            return Ok(Change::AlreadySo);
        }
        self.ready_to_start(id, &found).await?;
        let engine_id = self.engine_id(id).await?;
        let started = self
            .post("start a container", ACT, &format!("/containers/{engine_id}/start"), &Value::Null)
            .await;
        match started {
            Ok(_) => Ok(Change::Made),
            Err(error) if error.message().to_lowercase().contains("address already in use") => {
                Err(ContainerError::Conflict(error.message().to_owned()))
            }
            // Also where it is the program that is not there: the container is.
            Err(error) if error.is_missing() && self.inspect(id).await?.is_some() => {
                Err(ContainerError::Refused(error.message().to_owned()))
            }
            Err(error) if error.message().contains("no space left") => {
                Err(ContainerError::Capacity(error.message().to_owned()))
            }
            Err(error) => Err(self.refused(id, error)),
        }
    }

    async fn ask_to_stop(&self, id: Uuid) -> Result<Change, ContainerError> {
        let found = self.found(id).await?;
        if !found.state.as_ref().is_some_and(|said| read::state(said).is_on()) {
            return Ok(Change::AlreadySo);
        }
        let signal = found.config.and_then(|config| config.stop_signal).filter(|signal| !signal.is_empty());
        let rest = query("kill", &[("signal", signal.as_deref().unwrap_or("SIGTERM"))]);
        already_if_off(self.tell(id, "stop a container", &rest).await)
    }

    async fn kill(&self, id: Uuid) -> Result<Change, ContainerError> {
        if !self.state(id).await?.is_on() {
            return Ok(Change::AlreadySo);
        }
        let rest = query("kill", &[("signal", &KILL.to_string())]);
        let change = already_if_off(self.tell(id, "kill a container", &rest).await)?;
        let late = |_| EngineError::Deadline { call: "kill a container", seconds: ACT.as_secs() };
        tokio::time::timeout(ACT, self.until_off(id)).await.map_err(late)??;
        Ok(change)
    }

    async fn stop(&self, id: Uuid, grace: Duration) -> Result<Change, ContainerError> {
        let change = self.ask_to_stop(id).await?;
        if change == Change::Made {
            match tokio::time::timeout(grace, self.until_off(id)).await {
                Ok(off) => off?,
                Err(_) => drop(self.kill(id).await?),
            }
        }
        Ok(change)
    }

    async fn set_paused(&self, id: Uuid, paused: bool) -> Result<Change, ContainerError> {
        match (self.state(id).await?, paused) {
            (ContainerState::Paused, true) | (ContainerState::Running, false) => Ok(Change::AlreadySo),
            (ContainerState::Running, true) => {
                self.tell(id, "pause a container", "pause").await.map(|()| Change::Made)
            }
            (ContainerState::Paused, false) => {
                self.tell(id, "resume a container", "unpause").await.map(|()| Change::Made)
            }
            _ => Err(ContainerError::Off(id)),
        }
    }

    async fn rename(&self, def: &ContainerDef) -> Result<Change, ContainerError> {
        let (id, name) = (def.id, def.engine_name(&self.instance));
        let found = self.found(id).await?;
        if found.name.is_some_and(|now| now.trim_start_matches('/') == name) {
            return Ok(Change::AlreadySo);
        }
        match self.tell(id, "rename a container", &query("rename", &[("name", &name)])).await {
            Err(ContainerError::Engine(error))
                if error.status() == Some(409) || is_taken(error.message()) =>
            {
                Err(ContainerError::Conflict(error.message().to_owned()))
            }
            done => done.map(|()| Change::Made),
        }
    }

    async fn take_restarts(&self, id: Uuid) -> Result<Change, ContainerError> {
        let found = self.found(id).await?;
        let engine_id = found.id.clone().unwrap_or_default();
        if !read::seen(id, found, &self.instance).restarts {
            return Ok(Change::AlreadySo);
        }
        let never = serde_json::json!({ "RestartPolicy": { "Name": "no" } });
        let path = format!("/containers/{engine_id}/update");
        let told = self.post("take a container's restarts", ACT, &path, &never).await;
        told.map(|_| Change::Made).map_err(|error| self.refused(id, error))
    }

    async fn take_away(&self, id: Uuid) -> Result<Change, ContainerError> {
        let found = self.inspect(id).await?;
        // First, so that it is done again where this is not finished.
        self.unwire_all(id).await?;
        let Some(found) = found else { return Ok(Change::AlreadySo) };
        let engine_id = found.id.unwrap_or_default();
        let linked = self.engine.linked().await?;
        let path = query(&format!("/containers/{engine_id}"), &[("force", "true"), ("v", "true")]);
        match self.within(REMOVE, ACT, linked.wire.delete(REMOVE, &path)).await {
            Ok(()) => {}
            Err(error) if error.is_missing() => {}
            // Somebody else is at it.
            Err(error) if error.status() == Some(409) && error.message().contains("in progress") => {}
            Err(error) => return Err(error.into()),
        }
        let until = Instant::now() + ACT;
        while self.inspect_by(&engine_id).await?.is_some() {
            if Instant::now() > until {
                return Err(EngineError::Deadline { call: REMOVE, seconds: ACT.as_secs() }.into());
            }
            tokio::time::sleep(LOOK).await;
        }
        self.forget(id);
        Ok(Change::Made)
    }
}

const CREATE: &str = "make a container";
const REMOVE: &str = "remove a container";

fn is_loss(warning: &str) -> bool {
    let warning = warning.to_lowercase();
    ["not support", "discarded", "limitation lost"].iter().any(|word| warning.contains(word))
}

fn not_made(def: &ContainerDef, error: EngineError) -> ContainerError {
    let message = error.message().to_owned();
    match error.status() {
        Some(404) if message.to_lowercase().contains("image") => ContainerError::NoImage(def.image.clone()),
        Some(409) => ContainerError::Conflict(message),
        Some(400 | 404) => ContainerError::Refused(message),
        Some(501) => ContainerError::Unsupported(message),
        Some(507) => ContainerError::Capacity(message),
        _ if message.contains("no space left") => ContainerError::Capacity(message),
        // Podman has one status for all.
        Some(500) if is_taken(&message) => ContainerError::Conflict(message),
        _ => error.into(),
    }
}

/// Those that the engine plugs as it makes a container.
fn at_once<'a>(linked: &Linked, all: &'a [Endpoint]) -> &'a [Endpoint] {
    match linked.flavor {
        // Wired by us, see `podman`.
        Flavor::Podman => &[],
        Flavor::Docker if linked.speaks(SEVERAL_AT_ONCE) => all,
        Flavor::Docker => &all[..all.len().min(1)],
    }
}

fn is_taken(message: &str) -> bool {
    message.contains("that name is already in use")
}

fn already_if_off(told: Result<(), ContainerError>) -> Result<Change, ContainerError> {
    match told {
        Ok(()) => Ok(Change::Made),
        Err(ContainerError::Off(_)) => Ok(Change::AlreadySo),
        Err(error) => Err(error),
    }
}

#[async_trait]
impl ContainerLife for EngineContainers {
    async fn ensure_created(&self, def: &ContainerDef) -> Result<Created, ContainerError> {
        let def = def.clone();
        self.detached(CREATE, |inner| async move { inner.create(&def).await }).await
    }

    async fn start(&self, id: Uuid) -> Result<Change, ContainerError> {
        self.detached("start a container", |inner| async move { inner.start(id).await }).await
    }

    async fn ask_to_stop(&self, id: Uuid) -> Result<Change, ContainerError> {
        self.detached("stop a container", |inner| async move { inner.ask_to_stop(id).await }).await
    }

    async fn stop(&self, id: Uuid, grace: Duration) -> Result<Change, ContainerError> {
        self.detached("stop a container", move |inner| async move { inner.stop(id, grace).await }).await
    }

    async fn kill(&self, id: Uuid) -> Result<Change, ContainerError> {
        self.detached("kill a container", |inner| async move { inner.kill(id).await }).await
    }

    async fn signal(&self, id: Uuid, number: u32) -> Result<(), ContainerError> {
        self.inner.tell(id, "signal a container", &query("kill", &[("signal", &number.to_string())])).await
    }

    async fn pause(&self, id: Uuid) -> Result<Change, ContainerError> {
        self.detached("pause a container", |inner| async move { inner.set_paused(id, true).await }).await
    }

    async fn unpause(&self, id: Uuid) -> Result<Change, ContainerError> {
        self.detached("resume a container", |inner| async move { inner.set_paused(id, false).await }).await
    }

    async fn rename(&self, def: &ContainerDef) -> Result<Change, ContainerError> {
        let def = def.clone();
        self.detached("rename a container", |inner| async move { inner.rename(&def).await }).await
    }

    async fn take_restarts(&self, id: Uuid) -> Result<Change, ContainerError> {
        self.detached(
            "take a container's restarts",
            move |inner| async move { inner.take_restarts(id).await },
        )
        .await
    }

    async fn remove(&self, id: Uuid) -> Result<Change, ContainerError> {
        self.detached(REMOVE, |inner| async move { inner.take_away(id).await }).await
    }
}

impl Inner {
    /// Whether the engine answers a question about the container in time; used by those that wait for its end.
    pub(super) async fn until_off(&self, id: Uuid) -> Result<(), ContainerError> {
        while self.state(id).await?.is_on() {
            let engine_id = self.engine_id(id).await?;
            let linked = self.engine.linked().await?;
            let path = query(&format!("/containers/{engine_id}/wait"), &[("condition", "not-running")]);
            // Where the engine goes away meanwhile, the next look says so.
            match linked.wire.post("wait for a container", &path, &Value::Null).await {
                Ok(_) => {}
                Err(error) if error.is_missing() => return Err(self.refused(id, error)),
                Err(error) => {
                    tracing::debug!(%error, limit = ?ASK, "waiting for a container goes on");
                    tokio::time::sleep(LOOK).await;
                }
            }
        }
        Ok(())
    }
}
