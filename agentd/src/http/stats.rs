//! `GET /v1/stats`: figures of the guests that run.

use std::sync::Arc;

use agentd_api::stats::{Figures, StatsList};
use agentd_api::{ErrorCode, ObjectName, Problem, registry};
use async_trait::async_trait;
use http::request::Parts;

use super::request::{self, Params};
use super::server_info::json;
use super::service::{Answer, Call};

/// Takes figures.
#[async_trait]
pub trait GuestFigures: Send + Sync {
    /// Of all guests of all projects that run, taken after this call. Ordered by kind, project and name.
    async fn now(&self) -> Result<Arc<StatsList>, Problem>;
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
    let list = call.app.figures.now().await?;
    let wanted = |figures: &&Figures| {
        project.as_ref().is_none_or(|project| *project == figures.project)
            && kind.is_none_or(|kind| kind == figures.kind)
            && name.as_ref().is_none_or(|name| *name == figures.name)
    };
    let items: Vec<Figures> = list.items.iter().filter(wanted).cloned().collect();
    json(&StatsList { at: list.at, items })
}

/// For metrics, which are answered also where there are none.
pub(super) async fn for_metrics(call: &Call) -> Option<Arc<StatsList>> {
    const PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);
    let taken = tokio::time::timeout(PATIENCE, call.app.figures.now()).await;
    let late = || Err(Problem::new(ErrorCode::BackendUnavailable, "no answer in time"));
    taken
        .unwrap_or_else(|_| late())
        .inspect_err(|problem| tracing::debug!(%problem.detail, "metrics without figures of guests"))
        .ok()
}
