//! `GET /v1/stats`: figures of the guests that run.

use std::sync::Arc;

use agentd_api::stats::{Figures, StatsList};
use agentd_api::{ObjectName, Problem, registry};
use async_trait::async_trait;
use http::request::Parts;

use super::request::{self, Params};
use super::server_info::json;
use super::service::{Answer, Call};

/// Takes figures.
#[async_trait]
pub trait GuestFigures: Send + Sync {
    /// Of all guests of all projects that run, taken after this call. Ordered by kind, project and name.
    async fn now(&self) -> Arc<StatsList>;
}

pub(super) async fn get(call: &Call, head: &Parts) -> Answer {
    let params = Params::parse(head.uri.query(), &["project", "kind", "name"])?;
    let project = match params.get("project") {
        Some("*") => None,
        _ => Some(params.project()?),
    };
    let kind = params.get("kind");
    if let Some(unknown) = kind.filter(|kind| registry::by_kind(kind).is_none()) {
        return Err(Problem::field("kind", format!("there is no kind '{}'", request::shown(unknown))));
    }
    let name: Option<ObjectName> = params.get("name").map(request::name).transpose()?;
    let list = call.app.figures.now().await;
    let wanted = |figures: &&Figures| {
        project.as_ref().is_none_or(|project| *project == figures.project)
            && kind.is_none_or(|kind| kind == figures.kind)
            && name.as_ref().is_none_or(|name| *name == figures.name)
    };
    let items: Vec<Figures> = list.items.iter().filter(wanted).cloned().collect();
    let mut missing = list.missing.clone();
    missing.retain(|missing| kind.is_none_or(|kind| kind == missing.kind));
    // Where nothing that was asked for can be had, that is the answer.
    if let (true, Some(first)) = (items.is_empty(), missing.first()) {
        return Err(Problem::new(first.code, first.reason.clone()));
    }
    json(&StatsList { at: list.at, items, missing })
}

/// For metrics, which are answered also where there are none.
pub(super) async fn for_metrics(call: &Call) -> Option<Arc<StatsList>> {
    const PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);
    let taken = tokio::time::timeout(PATIENCE, call.app.figures.now()).await;
    let list = taken
        .inspect_err(|_| tracing::debug!("metrics without figures of guests: no answer in time"))
        .ok()?;
    for missing in &list.missing {
        tracing::debug!(kind = missing.kind, missing.reason, "metrics without figures of some guests");
    }
    Some(list)
}
