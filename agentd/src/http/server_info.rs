//! What the server says of itself: who it is, which kinds it has, how it is.

use std::sync::{Arc, OnceLock};

use agentd_api::container::ForeignList;
use agentd_api::doctor::Report;
use agentd_api::server::{Readiness, ServerInfo};
use agentd_api::{ErrorCode, FieldError, Problem};
use async_trait::async_trait;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderValue, Response};
use serde::Serialize;

use super::body::Body;
use super::objects::JSON_TYPE;
use super::request::Params;
use super::route::Place;
use super::service::{Answer, Call};
use super::{error, metrics, openapi, stats};

/// What only the whole daemon knows of itself.
#[async_trait]
pub trait Facts: Send + Sync {
    /// The server, its host and its backends. Its revision is filled in here. Answers at once, from memory.
    fn server(&self) -> ServerInfo;
    /// Whether the daemon does all that it was configured to do. Answers at once, from memory.
    fn readiness(&self) -> Readiness;
    /// What the host's engine has that is none of this daemon's. Asks it.
    async fn foreign(&self) -> Result<ForeignList, Problem>;
    /// Looks at the host, which may take a while.
    async fn doctor(&self) -> Report;
}

pub(super) fn get(call: &Call, place: Place, head: &Parts) -> Answer {
    Params::parse(head.uri.query(), &[])?;
    match place {
        Place::Server => {
            let info = ServerInfo { revision: call.app.store.revision(), ..call.app.facts.server() };
            json(&info)
        }
        Place::Kinds => Ok(typed(kinds(), JSON_TYPE)),
        Place::OpenApi => Ok(typed(document(), JSON_TYPE)),
        Place::Healthz => {
            call.app.store.health().map_err(|e| error::store(&e))?;
            Ok(typed(Bytes::from_static(b"ok\n"), HeaderValue::from_static("text/plain; charset=utf-8")))
        }
        Place::Readyz => ready(call),
        // Those have handlers of their own; the service never sends them here.
        _ => Err(Problem::new(ErrorCode::NotFound, "there is nothing at this path")),
    }
}

pub(super) async fn metrics(call: &Call, head: &Parts) -> Answer {
    Params::parse(head.uri.query(), &[])?;
    let figures = stats::for_metrics(call).await;
    let text = call
        .app
        .metrics
        .render(&call.app.store, figures)
        .map_err(|_| Problem::new(ErrorCode::Internal, "the metrics cannot be written as text"))?;
    Ok(typed(text, HeaderValue::from_static(metrics::CONTENT_TYPE)))
}

pub(super) async fn foreign(call: &Call, head: &Parts) -> Answer {
    Params::parse(head.uri.query(), &[])?;
    let facts: Arc<dyn Facts> = call.app.facts.clone();
    json(&facts.foreign().await?)
}

fn ready(call: &Call) -> Answer {
    let mut readiness = call.app.facts.readiness();
    if let Err(error) = call.app.store.health() {
        readiness.ready = false;
        readiness.reasons.insert(0, format!("store: {error}"));
    }
    if readiness.ready {
        return json(&readiness);
    }
    let mut problem =
        Problem::new(ErrorCode::BackendUnavailable, format!("not ready: {}", readiness.reasons.join("; ")));
    problem.errors = readiness.reasons.into_iter().map(|r| FieldError::new("reasons", r)).collect();
    Err(problem.hint("agentctl doctor"))
}

fn kinds() -> Bytes {
    static KINDS: OnceLock<Bytes> = OnceLock::new();
    KINDS.get_or_init(|| openapi::discovery().to_string().into()).clone()
}

fn document() -> Bytes {
    static DOCUMENT: OnceLock<Bytes> = OnceLock::new();
    DOCUMENT.get_or_init(|| openapi::text().into()).clone()
}

pub(super) fn json(value: &impl Serialize) -> Answer {
    let text = serde_json::to_vec(value).map_err(|e| {
        Problem::new(ErrorCode::Internal, format!("the answer cannot be written as JSON: {e}"))
    })?;
    Ok(typed(text, JSON_TYPE))
}

fn typed(body: impl Into<Bytes>, content_type: HeaderValue) -> Response<Body> {
    let mut answer = Response::new(Body::whole(body));
    answer.headers_mut().insert(CONTENT_TYPE, content_type);
    answer
}
