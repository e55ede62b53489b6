//! `GET /v1/backup`: all that the daemon knows, as one file.

use agentd_api::Problem;
use async_trait::async_trait;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderValue, Response};

use super::body::{Body, Pieces};
use super::request::Params;
use super::service::{Answer, Call};

/// Makes backups.
#[async_trait]
pub trait Backup: Send + Sync {
    /// The header's line and the store's file, of one revision. What is made for it goes with the last of it, or with the
    /// caller.
    async fn back_up(&self) -> Result<Pieces, Problem>;
}

pub(super) async fn get(call: &Call, head: &Parts) -> Answer {
    Params::parse(head.uri.query(), &[])?;
    let mut answer = Response::new(Body::pieces(call.app.backup.back_up().await?));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(answer)
}
