//! One object: reading it, and the wishes that are handed to the intents. Wishes are carried out in a task of their
//! own: a caller who hangs up ends its connection, not what it asked for.

use std::future::Future;

use agentd_api::kind::KindDef;
use agentd_api::{ErrorCode, ObjectKey, ObjectName, Problem};
use agentd_store::{Store, Stored};
use http::header::{CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use serde_json::Value;
use std::sync::Arc;
use uuid::Uuid;

use super::body::Body;
use super::error;
use super::request::{self, JSON, MERGE_PATCH, Params};
use super::route::Found;
use super::service::{Answer, Call};
use crate::intent::{Caller, Reply};

pub(super) const JSON_TYPE: HeaderValue = HeaderValue::from_static("application/json");

pub(super) fn kind_of(found: &Found<'_>) -> Result<&'static KindDef, Problem> {
    found.def.ok_or_else(|| Problem::new(ErrorCode::NotFound, "there is no such kind"))
}

/// `GET /v1/{kinds}/{name}`: the bytes that the store keeps.
pub(super) fn get(store: &Store, found: &Found<'_>, request: &Request<Incoming>) -> Answer {
    let params = Params::parse(request.uri().query(), &["project"])?;
    let stored = find(store, found, &params)?;
    if none_match(request.headers(), stored.revision()) {
        let mut answer = Response::new(Body::empty());
        *answer.status_mut() = StatusCode::NOT_MODIFIED;
        answer.headers_mut().insert(ETAG, etag(stored.revision()));
        return Ok(answer);
    }
    let mut answer = Response::new(Body::whole(stored.json()));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, JSON_TYPE);
    headers.insert(ETAG, etag(stored.revision()));
    Ok(answer)
}

/// An object by its name, or by its id where no object has that name.
pub(super) fn find(store: &Store, found: &Found<'_>, params: &Params<'_>) -> Result<Arc<Stored>, Problem> {
    let def = kind_of(found)?;
    let key = ObjectKey::new(def.kind, params.project()?, request::name(found.name)?);
    if let Some(stored) = store.get(&key) {
        return Ok(stored);
    }
    let same_place = |stored: &Arc<Stored>| {
        stored.kind() == def.kind && params.get("project").is_none_or(|p| *stored.project().as_str() == *p)
    };
    key.name
        .as_str()
        .parse::<Uuid>()
        .ok()
        .and_then(|id| store.by_id(id))
        .filter(same_place)
        .ok_or_else(|| error::not_found(def, &key))
}

/// The key of an object that is to be changed. Where there is none, it is the name's own: the intent says what that
/// means.
pub(super) fn key(call: &Call, found: &Found<'_>, params: &Params<'_>) -> Result<ObjectKey, Problem> {
    match find(&call.app.store, found, params) {
        Ok(stored) => Ok(stored.key().clone()),
        Err(problem) if problem.code == ErrorCode::NotFound => {
            Ok(ObjectKey::new(kind_of(found)?.kind, params.project()?, request::name(found.name)?))
        }
        Err(problem) => Err(problem),
    }
}

fn etag(revision: u64) -> HeaderValue {
    let text = format!("\"{revision}\"");
    HeaderValue::try_from(text).expect("digits and quotes are printable")
}

fn none_match(headers: &HeaderMap, revision: u64) -> bool {
    let Some(value) = headers.get(IF_NONE_MATCH).and_then(|v| v.to_str().ok()) else { return false };
    let current = format!("\"{revision}\"");
    value.split(',').map(str::trim).any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == current)
}

pub(super) async fn create(call: &Call, found: &Found<'_>, head: &Parts, body: Incoming) -> Answer {
    let def = kind_of(found)?;
    let params = Params::parse(head.uri.query(), &["project", "dry_run"])?;
    let project: ObjectName = params.project()?;
    let caller = call.caller(params.flag("dry_run")?, request::idempotency_key(&head.headers)?);
    let draft = required(request::json(&head.headers, body, JSON, call.body_limits()).await?)?;
    let intents = call.app.intents.clone();
    carry_out(async move { intents.create(&caller, def, &project, draft).await }).await
}

/// PUT, PATCH and DELETE.
pub(super) async fn change(call: &Call, found: &Found<'_>, head: &Parts, body: Incoming) -> Answer {
    let deletes = head.method == Method::DELETE;
    let names: &[&str] = if deletes { &["project", "dry_run", "cascade"] } else { &["project", "dry_run"] };
    let params = Params::parse(head.uri.query(), names)?;
    let key = key(call, found, &params)?;
    let if_match = request::if_match(&head.headers)?;
    let caller = call.caller(params.flag("dry_run")?, request::idempotency_key(&head.headers)?);
    let intents = call.app.intents.clone();
    let limits = call.body_limits();
    if deletes {
        let caller = Caller { cascade: params.flag("cascade")?, ..caller };
        return carry_out(async move { intents.delete(&caller, &key, if_match).await }).await;
    }
    if head.method == Method::PATCH {
        let patch = required(request::json(&head.headers, body, MERGE_PATCH, limits).await?)?;
        return carry_out(async move { intents.patch(&caller, &key, patch, if_match).await }).await;
    }
    let draft = required(request::json(&head.headers, body, JSON, limits).await?)?;
    carry_out(async move { intents.replace(&caller, &key, draft, if_match).await }).await
}

pub(super) async fn act(call: &Call, found: &Found<'_>, head: &Parts, body: Incoming) -> Answer {
    let params = Params::parse(head.uri.query(), &["project", "dry_run"])?;
    let key = key(call, found, &params)?;
    let action = found.action.ok_or_else(|| Problem::new(ErrorCode::NotFound, "there is no such action"))?;
    let caller = call.caller(params.flag("dry_run")?, request::idempotency_key(&head.headers)?);
    let body = request::json(&head.headers, body, JSON, call.body_limits()).await?;
    // No body is an object without fields; a null is neither.
    let body = body.unwrap_or_else(|| Value::Object(serde_json::Map::new()));
    if !body.is_object() {
        return Err(Problem::field("body", "must be a JSON object"));
    }
    let intents = call.app.intents.clone();
    carry_out(async move { intents.act(&caller, &key, action.name, body).await }).await
}

/// `POST /v1/adopt`: what somebody else made becomes an object.
pub(super) async fn adopt(call: &Call, head: &Parts, body: Incoming) -> Answer {
    let params = Params::parse(head.uri.query(), &["project", "dry_run"])?;
    let project: ObjectName = params.project()?;
    let caller = call.caller(params.flag("dry_run")?, request::idempotency_key(&head.headers)?);
    let body = required(request::json(&head.headers, body, JSON, call.body_limits()).await?)?;
    let wish = parsed(body)?;
    let intents = call.app.intents.clone();
    carry_out(async move { intents.adopt(&caller, &project, wish).await }).await
}

pub(super) fn parsed<T: serde::de::DeserializeOwned>(body: Value) -> Result<T, Problem> {
    agentd_api::fields::from_value(&body).map_err(|error| Problem::invalid(vec![error.below("")]))
}

pub(super) fn required(body: Option<Value>) -> Result<Value, Problem> {
    body.ok_or_else(|| Problem::field("body", "is empty; send a JSON object"))
}

async fn carry_out(wish: impl Future<Output = Result<Reply, Problem>> + Send + 'static) -> Answer {
    let reply = tokio::spawn(wish).await.unwrap_or_else(|_| Err(error::panicked()))?;
    Ok(replied(reply))
}

pub(super) fn replied(reply: Reply) -> Response<Body> {
    let mut answer = Response::new(Body::whole(reply.json));
    *answer.status_mut() = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::OK);
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, JSON_TYPE);
    headers.insert(ETAG, etag(reply.revision));
    answer
}
