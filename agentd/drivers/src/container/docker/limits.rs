//! What is changed while it runs.

use async_trait::async_trait;
use uuid::Uuid;

use super::{EngineContainers, Inner, read, render};
use crate::container::{Change, ContainerError, ContainerLimits, Limits};
use crate::engine::{ACT, EngineError};

const CALL: &str = "change a container's limits";

impl Inner {
    async fn update(&self, id: Uuid, wanted: &Limits) -> Result<Change, ContainerError> {
        let found = self.found(id).await?;
        wanted.check()?;
        let now = found.host_config.as_ref().map(read::limits).unwrap_or_default();
        let wanted = wanted.settled();
        if now == wanted {
            return Ok(Change::AlreadySo);
        }
        if let Some(what) = lifted(&now, &wanted) {
            return Err(ContainerError::Unsupported(format!(
                "a limit of {what} cannot be lifted, only changed"
            )));
        }
        let engine_id = found.id.unwrap_or_default();
        let linked = self.engine.linked().await?;
        let update = linked.docker.update_container(&engine_id, render::update(&wanted, linked.flavor));
        match self.engine.ask(CALL, ACT, update).await {
            Ok(()) => {}
            Err(error) if matches!(error.status(), Some(400 | 409 | 500)) => {
                return Err(ContainerError::Refused(error.message().to_owned()));
            }
            // The container is there: it is the call that is not, in Podman before 4.5.
            Err(error) if error.is_missing() && self.inspect(id).await?.is_some() => {
                return Err(ContainerError::Unsupported(
                    "this version of it changes no limits of a container that is there".to_owned(),
                ));
            }
            Err(error) => return Err(self.refused(id, error)),
        }
        // What the kernel cannot hold is dropped with a warning.
        let then = self.found(id).await?.host_config.as_ref().map(read::limits).unwrap_or_default();
        if then != wanted {
            let detail = format!("{then:?} is what it has now, and not {wanted:?}");
            return Err(EngineError::Failed { call: CALL, detail }.into());
        }
        Ok(Change::Made)
    }
}

/// The engine takes what is absent for what is to stay.
fn lifted(now: &Limits, wanted: &Limits) -> Option<&'static str> {
    let lifts = [
        ("cpus", now.nanocpus.is_some() && wanted.nanocpus.is_none()),
        ("shares", now.cpu_shares.is_some() && wanted.cpu_shares.is_none()),
        ("the processors to run on", now.cpuset.is_some() && wanted.cpuset.is_none()),
        ("memory", now.memory.is_some() && wanted.memory.is_none()),
        ("reserved memory", now.memory_reserved.is_some() && wanted.memory_reserved.is_none()),
        ("the share of disks", now.io_weight.is_some() && wanted.io_weight.is_none()),
    ];
    lifts.iter().find(|(_, lifted)| *lifted).map(|(what, _)| *what)
}

#[async_trait]
impl ContainerLimits for EngineContainers {
    async fn update(&self, id: Uuid, limits: &Limits) -> Result<Change, ContainerError> {
        let limits = limits.clone();
        self.detached(CALL, |inner| async move { inner.update(id, &limits).await }).await
    }
}
