//! The only place where what went wrong becomes an HTTP answer. A problem's code decides its status; everything that is
//! no [`Problem`] yet becomes one here.
//!
//! What a caller is told is the problem's text. Causes that say more of the inside than of the request are logged under
//! the request's id, and the caller is given that id.

use std::time::Duration;

use agentd_api::kind::KindDef;
use agentd_api::{ErrorCode, ObjectKey, Problem, paths};
use agentd_store::{Compacted, StoreError};
use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use super::accept::HEAD_BYTES_MAX;
use super::body::Body;
use super::request;
use super::request::{id_text, shown};
use super::route::{Found, Lost};

pub(super) const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

/// The answer that says what went wrong. Its request id is set by the service, as every answer's is.
pub(super) fn answer(mut problem: Problem, request_id: &HeaderValue) -> Response<Body> {
    problem.request_id = id_text(request_id).to_owned();
    let status =
        StatusCode::from_u16(problem.code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    problem.status = status.as_u16();
    if status.is_server_error() {
        tracing::warn!(request_id = problem.request_id, code = %problem.code, "{}", problem.detail);
    }
    let mut answer = Response::new(Body::whole(text(&problem)));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, PROBLEM_JSON);
    match problem.code {
        // What is left of the request is not worth reading, or will not come.
        ErrorCode::TooLarge | ErrorCode::RequestTimeout | ErrorCode::Forbidden => {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        ErrorCode::TooManyRequests => {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        ErrorCode::StoreUnavailable | ErrorCode::BackendUnavailable => {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("5"));
        }
        _ => {}
    }
    answer
}

pub(super) fn not_allowed(found: &Found<'_>, method: &str, request_id: &HeaderValue) -> Response<Body> {
    let (place, allow) = (found.place, found.allow());
    let detail = format!("{} does not know {}; it knows {allow}", place.template(), shown(method));
    let mut answer = answer(Problem::new(ErrorCode::MethodNotAllowed, detail), request_id);
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    answer
}

/// The answer, as bytes, to a request whose head never came to its end.
pub(super) fn late_head(waited: Duration) -> Vec<u8> {
    let detail = format!("the head of the request was not complete after {waited:?}");
    raw(Problem::new(ErrorCode::RequestTimeout, detail))
}

/// The answer, as bytes, to a head that HTTP/1.1 has `status` for.
pub(super) fn refused_head(status: u16) -> Vec<u8> {
    let (code, detail) = match status {
        431 => {
            (ErrorCode::TooLarge, format!("the head of the request is longer than {HEAD_BYTES_MAX} bytes"))
        }
        414 => (ErrorCode::TooLarge, "the URI of the request is too long".to_owned()),
        505 => (ErrorCode::Invalid, "this is HTTP/2; agentd speaks HTTP/1.1".to_owned()),
        _ => (ErrorCode::Invalid, "the head of the request is not HTTP/1.1".to_owned()),
    };
    raw(Problem { status, ..Problem::new(code, detail) })
}

/// A whole answer as bytes, the last of its connection, to a request that no service was given.
fn raw(mut problem: Problem) -> Vec<u8> {
    let id = request::id(&HeaderMap::new());
    id_text(&id).clone_into(&mut problem.request_id);
    tracing::debug!(request_id = problem.request_id, status = problem.status, "answered: {}", problem.detail);
    let body = text(&problem);
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let head = format!(
        "HTTP/1.1 {} {}\r\n{CONTENT_TYPE}: application/problem+json\r\n{CONTENT_LENGTH}: {}\r\n\
         {CONNECTION}: close\r\n{}: {}\r\n\r\n",
        status.as_u16(),
        status.canonical_reason().unwrap_or_default(),
        body.len(),
        paths::REQUEST_ID,
        problem.request_id,
    );
    [head.as_bytes(), &body].concat()
}

/// A problem's wire form.
pub(super) fn text(problem: &Problem) -> Bytes {
    serde_json::to_vec(problem).expect("a problem has only strings and numbers").into()
}

pub(super) fn lost(lost: Lost<'_>) -> Problem {
    let detail = match lost {
        Lost::Path => {
            "there is nothing at this path; /v1/kinds and /openapi.json say what there is".to_owned()
        }
        Lost::Kind(kind) => format!("there is no kind '{}'; /v1/kinds says which there are", shown(kind)),
        Lost::Action(def, action) => {
            let known: Vec<&str> = def.actions.iter().map(|a| a.name).collect();
            format!("a {} has no action '{}'; it has {}", def.kind, shown(action), known.join(", "))
        }
    };
    Problem::new(ErrorCode::NotFound, detail)
}

pub(super) fn not_found(def: &KindDef, key: &ObjectKey) -> Problem {
    Problem::new(
        ErrorCode::NotFound,
        format!("{} '{}' is not in project '{}'", def.kind, key.name, key.project),
    )
    .hint(format!("agentctl get {} --project {}", def.plural, key.project))
}

pub(super) fn compacted(error: &Compacted) -> Problem {
    Problem::new(
        ErrorCode::RevisionCompacted,
        format!("the changes since then are not kept any more; the oldest kept is {}", error.oldest),
    )
    .hint("list again, and watch since the list's revision")
}

pub(super) fn store(error: &StoreError) -> Problem {
    Problem::new(ErrorCode::StoreUnavailable, error.to_string())
}

/// A handler that panicked: a defect of ours, whose place is in the log.
pub(super) fn panicked() -> Problem {
    Problem::new(
        ErrorCode::Internal,
        "agentd failed at this request; its log says where, under the request id",
    )
}
