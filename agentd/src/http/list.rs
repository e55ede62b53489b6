//! Lists of a kind's objects, whole or in pages. What a list costs is the copying of the bytes that are sent.

use agentd_api::Problem;
use agentd_store::Query;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderValue, Response};

use super::body::Body;
use super::joined::ListBody;
use super::objects::{JSON_TYPE, kind_of};
use super::request::Params;
use super::route::Found;
use super::select;
use super::service::{Answer, Call};

pub(super) const SELECTION: [&str; 3] = ["project", "labels", "fields"];

/// The objects that a request speaks of.
pub(super) fn query(found: &Found<'_>, params: &Params<'_>) -> Result<Query, Problem> {
    let def = kind_of(found)?;
    let mut query = Query::kind(def.kind);
    query.project = params.projects()?;
    query.labels = select::labels(params.get("labels").unwrap_or_default())?;
    query.fields = select::fields(def, params.get("fields").unwrap_or_default())?;
    Ok(query)
}

pub(super) fn list(call: &Call, found: &Found<'_>, head: &Parts) -> Answer {
    let [a, b, c] = SELECTION;
    let params = Params::parse(head.uri.query(), &[a, b, c, "limit", "continue", "watch"])?;
    params.flag("watch")?;
    let mut query = query(found, &params)?;
    query.limit = params.number("limit", 1)?.map(|n| usize::try_from(n).unwrap_or(usize::MAX));
    // None at all begins at the beginning, so that a script can send what it has.
    query.after = params.get("continue").filter(|token| !token.is_empty()).map(str::to_owned);
    if query.after.as_deref().is_some_and(|token| !Query::is_token(token)) {
        return Err(Problem::field("continue", "is not what a list gave as its 'continue'"));
    }
    let listing = call.app.store.list(&query);
    let list = ListBody::new(listing.items, listing.revision, listing.next.as_deref());
    let mut answer = Response::new(Body::list(list));
    answer.headers_mut().insert(CONTENT_TYPE, JSON_TYPE);
    answer.headers_mut().insert(http::header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(answer)
}
