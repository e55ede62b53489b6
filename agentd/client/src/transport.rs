//! Sends a request and reads its answer: request ids, time limits, the one retry, problems.

use std::error::Error as StdError;
use std::io;
use std::time::Duration;

use agentd_api::{Problem, paths};
use bytes::{Bytes, BytesMut};
use http::{HeaderName, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::address::Address;
use crate::client::Client;
use crate::error::ClientError;
use crate::path::Path;
use crate::trouble;

pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;

const JSON: &str = "application/json";
const MERGE_PATCH: &str = "application/merge-patch+json";
/// What an error shows of an answer that is no problem document.
const SHOWN: usize = 200;
/// Before a broken connection is tried once more: a daemon that restarts under socket activation is back by then.
const PAUSE: Duration = Duration::from_millis(200);

/// A request that can be sent more than once.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub method: Method,
    pub path: Path,
    pub body: Option<Bytes>,
    pub accept: &'static str,
    pub if_match: Option<u64>,
    pub idempotency_key: Option<String>,
    pub request_id: String,
}

impl Call {
    pub fn new(method: Method, path: Path) -> Self {
        let request_id = Uuid::new_v4().to_string();
        Self { method, path, body: None, accept: JSON, if_match: None, idempotency_key: None, request_id }
    }
    pub fn get(path: Path) -> Self {
        Self::new(Method::GET, path)
    }
    pub fn json(mut self, body: impl Into<Bytes>) -> Self {
        self.body = Some(body.into());
        self
    }
    /// The method and path, as errors name them.
    pub fn name(&self) -> String {
        format!("{} {}", self.method, self.path.plain())
    }
    fn repeatable(&self) -> bool {
        self.method == Method::GET || self.idempotency_key.is_some()
    }
    fn unsendable(&self, why: impl ToString) -> ClientError {
        ClientError::Unsendable { request: self.name(), why: why.to_string() }
    }

    pub fn request(&self, at: &Address, body: Body) -> Result<Request<Body>, ClientError> {
        let (uri, host) = self.target(at)?;
        let mut request = Request::builder()
            .method(self.method.clone())
            .uri(uri)
            .header(header::HOST, host)
            .header(header::ACCEPT, self.accept)
            .header(HeaderName::from_static(paths::REQUEST_ID), &self.request_id);
        if self.body.is_some() {
            let kind = if self.method == Method::PATCH { MERGE_PATCH } else { JSON };
            request = request.header(header::CONTENT_TYPE, kind);
        }
        if let Some(revision) = self.if_match {
            request = request.header(header::IF_MATCH, format!("\"{revision}\""));
        }
        if let Some(key) = &self.idempotency_key {
            request = request.header(HeaderName::from_static(paths::IDEMPOTENCY_KEY), key);
        }
        request.body(body).map_err(|e| self.unsendable(e))
    }

    /// Where it goes, and what the host is called there.
    fn target(&self, at: &Address) -> Result<(Uri, String), ClientError> {
        // hyperlocal panics on a path that is none, so it is parsed here first.
        let path: http::uri::PathAndQuery = self.path.as_str().parse().map_err(|e| self.unsendable(e))?;
        match at {
            Address::Socket(socket) if socket.to_str().is_none() => {
                Err(self.unsendable(format!("the socket's path {} is not UTF-8", socket.display())))
            }
            Address::Socket(socket) => {
                Ok((hyperlocal::Uri::new(socket, self.path.as_str()).into(), "agentd".to_owned()))
            }
            Address::Remote(remote) => {
                let host = remote.to_string();
                let uri =
                    Uri::builder().scheme("https").authority(host.as_str()).path_and_query(path).build();
                Ok((uri.map_err(|e| self.unsendable(e))?, host))
            }
        }
    }
}

impl Client {
    /// The whole answer of a success; everything else is an error.
    pub(crate) async fn call(&self, call: Call) -> Result<Bytes, ClientError> {
        let (status, body) = self.exchange(&call).await?;
        if status.is_success() { Ok(body) } else { Err(refusal(&call, status, &body)) }
    }

    /// The whole answer, whatever its status.
    pub(crate) async fn exchange(&self, call: &Call) -> Result<(StatusCode, Bytes), ClientError> {
        match self.exchange_once(call).await {
            Err(ClientError::Transport { .. }) if call.repeatable() => {
                tokio::time::sleep(PAUSE).await;
                self.exchange_once(call).await
            }
            other => other,
        }
    }

    async fn exchange_once(&self, call: &Call) -> Result<(StatusCode, Bytes), ClientError> {
        let response = self.limited(call, self.send(call)).await?;
        let status = response.status();
        let body = self.collect(call, response.into_body()).await?;
        Ok((status, body))
    }

    /// An answer whose body is still to come. Its beginning has the usual time limit, the rest has none.
    pub(crate) async fn open(&self, call: &Call) -> Result<Incoming, ClientError> {
        let sent = match self.limited(call, self.send(call)).await {
            Err(ClientError::Transport { .. }) if call.repeatable() => {
                tokio::time::sleep(PAUSE).await;
                self.limited(call, self.send(call)).await?
            }
            other => other?,
        };
        let status = sent.status();
        if status.is_success() {
            return Ok(sent.into_body());
        }
        let body = self.collect(call, sent.into_body()).await?;
        Err(refusal(call, status, &body))
    }

    async fn send(&self, call: &Call) -> Result<Response<Incoming>, ClientError> {
        let body = Full::new(call.body.clone().unwrap_or_default()).map_err(|never| match never {});
        self.send_body(call, UnsyncBoxBody::new(body)).await
    }

    pub(crate) async fn send_body(&self, call: &Call, body: Body) -> Result<Response<Incoming>, ClientError> {
        let request = call.request(&self.inner.address, body)?;
        self.inner.http.request(request).await.map_err(|error| self.broken(call, Box::new(error)))
    }

    /// Each part of the answer has the time limit, so that a long list may take long and a dead daemon may not.
    pub(crate) async fn collect(&self, call: &Call, mut body: Incoming) -> Result<Bytes, ClientError> {
        let mut whole = BytesMut::with_capacity(usize::try_from(exact_length(&body)).unwrap_or(0));
        loop {
            let next = async {
                match body.frame().await {
                    Some(frame) => frame.map(Some).map_err(|error| self.broken(call, Box::new(error))),
                    None => Ok(None),
                }
            };
            let Some(frame) = self.limited(call, next).await? else { return Ok(whole.freeze()) };
            if let Ok(data) = frame.into_data() {
                whole.extend_from_slice(&data);
            }
        }
    }

    pub(crate) async fn limited<T>(
        &self,
        call: &Call,
        work: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        let after = self.inner.timeout;
        tokio::time::timeout(after, work).await.unwrap_or_else(|_| {
            Err(ClientError::TimedOut { request: call.name(), request_id: call.request_id.clone(), after })
        })
    }

    pub(crate) fn broken(&self, call: &Call, error: Box<dyn StdError + Send + Sync>) -> ClientError {
        trouble::of(&self.inner.address, call, error)
    }
}

fn exact_length(body: &Incoming) -> u64 {
    use hyper::body::Body as _;
    // Trusted only so far: the daemon's word decides about memory before its bytes are there.
    body.size_hint().exact().unwrap_or(0).min(64 << 20)
}

/// The error that an answer which is no success stands for.
pub(crate) fn refusal(call: &Call, status: StatusCode, body: &[u8]) -> ClientError {
    match serde_json::from_slice::<Problem>(body) {
        Ok(mut problem) => {
            if problem.request_id.is_empty() {
                problem.request_id.clone_from(&call.request_id);
            }
            problem.into()
        }
        Err(_) => {
            let text: String = String::from_utf8_lossy(body).chars().take(SHOWN).collect();
            let body = text.escape_debug().to_string();
            ClientError::Unexpected { request: call.name(), status: status.as_u16(), body }
        }
    }
}

/// An answer's body as `T`. `request` is what the error names.
pub fn decode<T: DeserializeOwned>(request: &str, body: &[u8]) -> Result<T, ClientError> {
    serde_json::from_slice(body).map_err(|source| ClientError::Decode { request: request.to_owned(), source })
}
