//! Subresources: `/v1/{kinds}/{name}/{sub}`, for whatever a kind declares beside its objects: consoles, files, figures.
//!
//! ```text
//!   request --> known parameters? --> the object --> Subresources::open --+--> JSON
//!                                                                         +--> content, as it comes
//!                                                                         +--> 101, and a session in a task of its own
//! ```
//! What can be refused is refused before the connection is upgraded, as a problem. A session has the connection to
//! itself from then on; it is told when the server stops, and ended a moment later if it does not end by itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use agentd_api::kind::{ParamShape, SubAnswer, SubDef};
use agentd_api::{ErrorCode, Problem};
use agentd_store::Stored;
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, UPGRADE};
use http::request::Parts;
use http::{HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use super::body::Body;
use super::objects::{JSON_TYPE, find};
use super::request::Params;
use super::route::Found;
use super::service::{Answer, Call, End};
use super::upload::{Content, content};
use crate::intent::Caller;

/// What is asked of an object.
pub struct SubCall {
    pub caller: Caller,
    pub object: Arc<Stored>,
    pub sub: &'static SubDef,
    /// Those that were given; each is one that the subresource declares, and of its shape.
    pub params: BTreeMap<&'static str, String>,
    /// The body of the request. Of an upgrade there is none.
    pub body: Content,
    /// The length of the body, where it was announced.
    pub length: Option<u64>,
    /// Told when the server stops.
    pub stop: CancellationToken,
}

impl SubCall {
    pub fn text(&self, name: &str) -> Option<&str> {
        self.params.get(name).map(String::as_str)
    }
    pub fn flag(&self, name: &str) -> bool {
        self.text(name) == Some("true")
    }
    pub fn number(&self, name: &str) -> Option<u64> {
        self.text(name).and_then(|text| text.parse().ok())
    }
}

/// An upgraded connection.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}
pub type Channel = Box<dyn Duplex>;

/// What has the connection once it is upgraded.
pub type Session = Box<dyn FnOnce(Channel) -> BoxFuture<'static, ()> + Send>;

/// What is sent as it comes. An error cuts the answer short, so that the caller sees that it is not whole.
pub type Pieces = super::body::Pieces;

pub enum SubReply {
    Json(Bytes),
    /// Of the media type that the subresource declares.
    Content(Pieces),
    /// Only where the subresource is declared as a two-way stream.
    Session(Session),
}

/// Opens subresources.
#[async_trait]
pub trait Subresources: Send + Sync {
    async fn open(&self, call: SubCall) -> Result<SubReply, Problem>;
}

pub(super) async fn open(call: &Call, found: &Found<'_>, mut request: Request<Incoming>) -> Answer {
    let nowhere = || Problem::new(ErrorCode::NotFound, "there is no such subresource");
    let sub = found.sub_of(request.method().as_str()).ok_or_else(nowhere)?;
    let upgrade = sub.answer.protocol().map(|protocol| {
        asks_for(request.headers(), protocol).then(|| hyper::upgrade::on(&mut request)).ok_or(protocol)
    });
    let (head, body) = request.into_parts();
    let asked = asked(call, found, sub, &head, body)?;
    let upgrade = match upgrade {
        None => None,
        Some(Ok(upgrade)) => Some(upgrade),
        Some(Err(protocol)) => {
            let problem = Problem::field("Upgrade", format!("must be {protocol}, with Connection: Upgrade"));
            return Err(problem.hint(format!("{} is a two-way stream over an upgraded connection", sub.name)));
        }
    };
    let reply = call.app.subs.open(asked).await?;
    match (reply, upgrade) {
        (SubReply::Json(json), None) => Ok(typed(Body::whole(json), JSON_TYPE)),
        (SubReply::Content(pieces), None) => {
            let SubAnswer::Content(kind) = sub.answer else { return Err(mismatch(sub)) };
            Ok(typed(Body::pieces(pieces), HeaderValue::from_static(kind)))
        }
        (SubReply::Session(session), Some(upgrade)) => Ok(upgraded(call, sub, upgrade, session)),
        _ => Err(mismatch(sub)),
    }
}

fn mismatch(sub: &SubDef) -> Problem {
    Problem::new(ErrorCode::Internal, format!("{} answers otherwise than it is declared to", sub.name))
}

fn typed(body: Body, kind: HeaderValue) -> Response<Body> {
    let mut answer = Response::new(body);
    answer.headers_mut().insert(CONTENT_TYPE, kind);
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

fn asks_for(headers: &http::HeaderMap, protocol: &str) -> bool {
    let has = |name, word: &str| {
        let values = headers.get_all(name).iter().filter_map(|v| v.to_str().ok());
        values.flat_map(|v| v.split(',')).any(|v| v.trim().eq_ignore_ascii_case(word))
    };
    has(CONNECTION, "upgrade") && has(UPGRADE, protocol)
}

fn asked(
    call: &Call,
    found: &Found<'_>,
    sub: &'static SubDef,
    head: &Parts,
    body: Incoming,
) -> Result<SubCall, Problem> {
    let mut allowed = vec!["project"];
    allowed.extend(sub.params.iter().map(|p| p.name));
    let params = Params::parse(head.uri.query(), &allowed)?;
    for param in sub.params {
        match param.shape {
            ParamShape::Text => {}
            ParamShape::Flag => drop(params.flag(param.name)?),
            ParamShape::Number => drop(params.number(param.name, 0)?),
            ParamShape::OneOf(words) => params.one_of(param.name, words)?,
        }
    }
    let object = find(&call.app.store, found, &params)?;
    let given = sub.params.iter().filter_map(|p| Some((p.name, params.get(p.name)?.to_owned())));
    Ok(SubCall {
        caller: call.caller(false, None),
        object,
        sub,
        params: given.collect(),
        length: super::request::content_length(&head.headers),
        body: content(body, call.app.limits.body_time),
        stop: call.end.stop.clone(),
    })
}

/// Answers 101 and leaves the connection to the session.
fn upgraded(
    call: &Call,
    sub: &'static SubDef,
    upgrade: hyper::upgrade::OnUpgrade,
    session: Session,
) -> Response<Body> {
    let (end, grace) = (call.end.clone(), call.app.limits.grace);
    call.end.tasks.spawn(async move {
        let End { stop, berth: _berth, pace, .. } = end;
        let channel = match upgrade.await {
            Ok(io) => Box::new(TokioIo::new(io)),
            Err(error) => {
                tracing::debug!(%error, sub = sub.name, "the caller went away before its stream began");
                return;
            }
        };
        pace.upgraded();
        let late = async {
            stop.cancelled().await;
            tokio::time::sleep(grace).await;
        };
        // Cancel safety: the session is only dropped when the server ends; what it holds on to ends by being dropped.
        tokio::select! {
            () = session(channel) => {}
            () = late => tracing::debug!(sub = sub.name, "a stream was cut, since the server stops"),
        }
    });
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static(sub.answer.protocol().unwrap_or_default()));
    answer
}
