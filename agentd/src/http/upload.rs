//! `PUT /v1/images/{name}/content`: hands the body on as it comes. The one body without a bound of its own here; the
//! receiver knows how much was announced, and takes no more.

use std::io;
use std::pin::Pin;
use std::time::Duration;

use agentd_api::{ObjectKey, Problem};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::request::Parts;
use http_body_util::{BodyExt, BodyStream};
use hyper::body::Incoming;

use super::objects::{key, replied};
use super::request::{self, Params};
use super::route::Found;
use super::service::{Answer, Call};
use crate::intent::{Caller, Reply};

/// What arrives of an upload, as it arrives. An error ends it: the caller went away, or sent nothing for too long.
pub type Content = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// Takes uploads.
#[async_trait]
pub trait Upload: Send + Sync {
    /// Receives the content of the object `key`. `length` is how many bytes the caller says will come. Answers with
    /// the object as it then stands. Reading slowly makes the caller send slowly.
    async fn receive(
        &self,
        caller: &Caller,
        key: &ObjectKey,
        length: Option<u64>,
        content: Content,
    ) -> Result<Reply, Problem>;
}

pub(super) async fn receive(call: &Call, found: &Found<'_>, head: &Parts, body: Incoming) -> Answer {
    let params = Params::parse(head.uri.query(), &["project"])?;
    let key = key(call, found, &params)?;
    let caller = call.caller(false, None);
    let length = request::content_length(&head.headers);
    let content = content(body, call.app.limits.body_time);
    // In the request's own task: when the caller hangs up there is nothing more to receive.
    let reply = call.app.upload.receive(&caller, &key, length, content).await?;
    Ok(replied(reply))
}

pub(super) fn content(body: Incoming, patience: Duration) -> Content {
    let frames = BodyStream::new(body.map_err(io::Error::other));
    let pieces = futures_util::stream::unfold(Some(frames), move |frames| async move {
        let mut frames = frames?;
        match tokio::time::timeout(patience, frames.next()).await {
            Ok(None) => None,
            Ok(Some(Ok(frame))) => Some((frame.into_data().map_err(|_| ()).map(Ok), Some(frames))),
            Ok(Some(Err(error))) => Some((Ok(Err(error)), None)),
            Err(_) => {
                let late = format!("nothing came for {patience:?}");
                Some((Ok(Err(io::Error::new(io::ErrorKind::TimedOut, late))), None))
            }
        }
    });
    // Trailers are no content.
    pieces.filter_map(|piece| std::future::ready(piece.ok())).boxed()
}
