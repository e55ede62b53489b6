//! One connection's requests: gives each an id, sends strangers away, finds its place, calls the handler, counts it.
//!
//! Reading one object is answered in the call itself, without a task, a lock that is held, or a byte serialised anew.
//! Everything else is a boxed future. A handler that panics costs its request a 500 and nothing else.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use agentd_api::Problem;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Either, Ready, ready};
use http::header::HeaderName;
use http::{HeaderValue, Method, Request, Response};
use hyper::body::Incoming;
use hyper::service::Service;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tracing::Instrument;

use super::body::Body;
use super::pace::{Busy, Pace};
use super::route::{self, Found, Place};
use super::{
    App, archive, backup, doctor, error, events, list, objects, request, server_info, stats, sub, upload,
    watch,
};
use crate::intent::{Caller, Principal};
use agentd_api::paths;

const REQUEST_ID: HeaderName = HeaderName::from_static(paths::REQUEST_ID);

/// Whether the peer may call, and as whom.
pub(super) type Access = Result<Arc<Principal>, Problem>;

/// What a handler gives back.
pub(super) type Answer = Result<Response<Body>, Problem>;

pub(super) struct Session {
    app: Arc<App>,
    access: Access,
    end: End,
}

/// What a connection has of its own, and what it knows of the server's end.
#[derive(Clone)]
pub(super) struct End {
    pub stop: CancellationToken,
    /// The server waits for these tasks before it is done.
    pub tasks: TaskTracker,
    /// Kept also by a stream that has the connection after it was upgraded.
    pub berth: Arc<Berth>,
    pub pace: Arc<Pace>,
}

/// What a connection holds for as long as it is there: its place in its lane, and what ends it before its time.
pub(super) struct Berth {
    pub _place: OwnedSemaphorePermit,
    pub _leash: Option<AbortOnDropHandle<()>>,
}

/// What every handler is given.
#[derive(Clone)]
pub(super) struct Call {
    pub app: Arc<App>,
    pub principal: Arc<Principal>,
    pub request_id: HeaderValue,
    /// `end.stop` ends what would stay open: watches and followers.
    pub end: End,
}

impl Call {
    pub fn caller(&self, dry_run: bool, idempotency_key: Option<String>) -> Caller {
        Caller {
            principal: self.principal.as_ref().clone(),
            request_id: request::id_text(&self.request_id).to_owned(),
            dry_run,
            idempotency_key,
            cascade: false,
        }
    }

    pub fn body_limits(&self) -> request::BodyLimits {
        request::BodyLimits { bytes: self.app.limits.body, time: self.app.limits.body_time }
    }
}

/// A request on its way to its answer: what of it is counted.
struct Counted {
    app: Arc<App>,
    busy: Busy,
    request_id: HeaderValue,
    place: Place,
    method: Method,
    begun: Instant,
}

impl Counted {
    fn finish(self, mut answer: Response<Body>) -> Response<Body> {
        let status = answer.status().as_u16();
        let took = self.begun.elapsed();
        self.app.metrics.answered(self.place, &self.method, status, took);
        let request_id = request::id_text(&self.request_id);
        tracing::debug!(request_id, place = self.place.template(), method = %self.method, status, ?took, "answered");
        answer.headers_mut().insert(REQUEST_ID, self.request_id);
        answer.map(|body| body.while_busy(self.busy))
    }
}

impl Session {
    pub fn new(app: Arc<App>, access: Access, end: End) -> Self {
        Self { app, access, end }
    }
}

impl Service<Request<Incoming>> for Session {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<
        Ready<Result<Response<Body>, Infallible>>,
        BoxFuture<'static, Result<Response<Body>, Infallible>>,
    >;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let mut counted = Counted {
            app: self.app.clone(),
            busy: self.end.pace.begin(),
            request_id: request::id(request.headers()),
            place: Place::Nowhere,
            method: request.method().clone(),
            begun: Instant::now(),
        };
        let now = |counted: Counted, answer| Either::Left(ready(Ok(counted.finish(answer))));
        let principal = match &self.access {
            Ok(principal) => principal.clone(),
            Err(refusal) => {
                let answer = error::answer(refusal.clone(), &counted.request_id);
                return now(counted, answer);
            }
        };
        let found = match route::find(request.uri().path()) {
            Ok(found) => found,
            Err(lost) => {
                let answer = error::answer(error::lost(lost), &counted.request_id);
                return now(counted, answer);
            }
        };
        counted.place = found.place;
        if !found.allows(request.method().as_str()) {
            let answer = error::not_allowed(&found, request.method().as_str(), &counted.request_id);
            return now(counted, answer);
        }
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        if found.place == Place::Object && reads {
            let get = AssertUnwindSafe(|| objects::get(&self.app.store, &found, &request));
            let answer = std::panic::catch_unwind(get).unwrap_or_else(|_| Err(error::panicked()));
            let answer = answer.unwrap_or_else(|problem| error::answer(problem, &counted.request_id));
            return now(counted, answer);
        }
        let call = Call {
            app: self.app.clone(),
            principal,
            request_id: counted.request_id.clone(),
            end: self.end.clone(),
        };
        let request_id = request::id_text(&call.request_id);
        let span = tracing::info_span!("request", request_id);
        Either::Right(
            async move {
                let handled = AssertUnwindSafe(dispatch(call, request)).catch_unwind().await;
                let answer = handled.unwrap_or_else(|_| Err(error::panicked()));
                let answer = answer.unwrap_or_else(|problem| error::answer(problem, &counted.request_id));
                Ok(counted.finish(answer))
            }
            .instrument(span)
            .boxed(),
        )
    }
}

async fn dispatch(call: Call, request: Request<Incoming>) -> Answer {
    if route::find(request.uri().path()).is_ok_and(|found| found.place == Place::Sub) {
        let path = request.uri().path().to_owned();
        return sub::open(&call, &route::find(&path).map_err(error::lost)?, request).await;
    }
    let (head, body) = request.into_parts();
    let found: Found<'_> = route::find(head.uri.path()).map_err(error::lost)?;
    let reads = matches!(head.method, Method::GET | Method::HEAD);
    match found.place {
        Place::Collection if reads && watch::asked_for(&head) => watch::open(&call, &found, &head),
        Place::Collection if reads => list::list(&call, &found, &head),
        Place::Collection => objects::create(&call, &found, &head, body).await,
        Place::Object => objects::change(&call, &found, &head, body).await,
        Place::Action => objects::act(&call, &found, &head, body).await,
        Place::Content => upload::receive(&call, &found, &head, body).await,
        Place::Archives => archive::import(&call, &head, body).await,
        Place::Adopt => objects::adopt(&call, &head, body).await,
        Place::Backup => backup::get(&call, &head).await,
        Place::Foreign => server_info::foreign(&call, &head).await,
        Place::Events => events::get(&call, &head),
        Place::Doctor if reads => doctor::get(&call, &head).await,
        Place::Doctor => doctor::repair(&call, &head, body).await,
        Place::Metrics => server_info::metrics(&call, &head).await,
        Place::Stats => stats::get(&call, &head).await,
        place => server_info::get(&call, place, &head),
    }
}
