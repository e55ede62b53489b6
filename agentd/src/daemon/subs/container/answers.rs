//! `containers/{name}/stats`, `top` and `diff`: one question to the engine, one document.

use std::sync::Arc;

use agentd_api::container::{Container, ContainerChange, ContainerChangeKind, ContainerTop};
use agentd_api::stats::Figures;
use agentd_api::{ErrorCode, Kind, Problem};
use agentd_drivers::container::{ChangedHow, ContainerDriver, ContainerError};
use async_trait::async_trait;

use super::{json, refused};
use crate::daemon::subs::Opener;
use crate::http::{SubCall, SubReply};

pub struct Stats {
    pub containers: Arc<dyn ContainerDriver>,
}

pub struct Top {
    pub containers: Arc<dyn ContainerDriver>,
}

pub struct Diff {
    pub containers: Arc<dyn ContainerDriver>,
}

#[async_trait]
impl Opener for Stats {
    async fn open(&self, call: SubCall) -> Result<SubReply, Problem> {
        let (object, id) = (&call.object, call.object.id());
        let all = self.containers.stats().await.map_err(|e| refused(&e, object.name()))?;
        let Some(one) = all.into_iter().find(|stats| stats.id == id) else {
            return Err(refused(&ContainerError::Off(id), object.name()));
        };
        json(&Figures {
            kind: Container::DEF.kind.to_owned(),
            project: object.project().clone(),
            name: object.name().clone(),
            id,
            cpu: one.cpu,
            memory: one.memory,
            disks: one.disks,
            networks: one.networks,
        })
    }
}

#[async_trait]
impl Opener for Top {
    async fn open(&self, call: SubCall) -> Result<SubReply, Problem> {
        let top = self.containers.top(call.object.id()).await.map_err(|e| refused(&e, call.object.name()))?;
        json(&ContainerTop { titles: top.titles, processes: top.rows })
    }
}

#[async_trait]
impl Opener for Diff {
    async fn open(&self, call: SubCall) -> Result<SubReply, Problem> {
        let changed =
            self.containers.diff(call.object.id()).await.map_err(|e| refused(&e, call.object.name()))?;
        let change = |how| match how {
            ChangedHow::Added => ContainerChangeKind::Added,
            ChangedHow::Modified => ContainerChangeKind::Modified,
            ChangedHow::Deleted => ContainerChangeKind::Deleted,
        };
        let all: Vec<ContainerChange> = changed
            .into_iter()
            .map(|one| ContainerChange { path: one.path, change: change(one.how) })
            .collect();
        json(&all)
    }
}

/// What is wrong with a body that was to be a document.
pub(super) fn unreadable(error: &serde_json::Error) -> Problem {
    Problem::new(ErrorCode::Invalid, format!("the body is no ContainerCommit: {error}"))
}
