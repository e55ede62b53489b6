//! Streams from and to the engine, by hyper alone.
//!
//! bollard's own decoders keep a terminal's line until its end, however long it is, and take a terminal's byte 0, 1 or 2
//! for the head of a frame. What is said here is handed on as it comes, and the engine waits while nobody takes it.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use http::header::{CONNECTION, CONTENT_TYPE, HOST, UPGRADE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, BodyStream, Full};
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::EngineError;

/// The longest document that is read whole.
const DOCUMENT_MAX: usize = 64 << 20;
/// The longest text of a refusal.
const REFUSAL_MAX: usize = 64 << 10;
const CONNECT: Duration = Duration::from_secs(5);

pub type WireBody = BoxBody<Bytes, io::Error>;
/// A connection that carries bytes both ways.
pub type Both = TokioIo<Upgraded>;

/// Whom to ask, and in which version of the API. Each request has a connection of its own.
#[derive(Debug, Clone)]
pub struct Wire {
    socket: PathBuf,
    prefix: String,
}

impl Wire {
    pub(super) fn new(socket: &Path, prefix: &str) -> Self {
        Self { socket: socket.to_owned(), prefix: prefix.to_owned() }
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// What is at `path`, as it comes.
    pub async fn get(&self, call: &'static str, path: &str) -> Result<Content, EngineError> {
        let answer = self.send(call, self.request(Method::GET, path).body(empty())).await?;
        Ok(Content(BodyStream::new(answer.into_body())))
    }

    /// What is at `path`, as a document.
    pub async fn json<T: DeserializeOwned>(&self, call: &'static str, path: &str) -> Result<T, EngineError> {
        let mut content = self.get(call, path).await?;
        let mut whole = BytesMut::new();
        while let Some(piece) = content.next().await {
            whole.extend_from_slice(&piece.map_err(|e| failed(call, e))?);
            if whole.len() > DOCUMENT_MAX {
                return Err(failed(call, format!("its answer is longer than {DOCUMENT_MAX} bytes")));
            }
        }
        serde_json::from_slice(&whole).map_err(|e| failed(call, e))
    }

    /// The head of what is at `path`.
    pub async fn head(&self, call: &'static str, path: &str) -> Result<http::HeaderMap, EngineError> {
        let answer = self.send(call, self.request(Method::HEAD, path).body(empty())).await?;
        Ok(answer.headers().clone())
    }

    /// Sends a document and reads one. Null where the engine answers nothing.
    pub async fn post(
        &self,
        call: &'static str,
        path: &str,
        document: &serde_json::Value,
    ) -> Result<serde_json::Value, EngineError> {
        let request = self.request(Method::POST, path);
        // An engine may take a body as what is wanted, where none is.
        let request = match document {
            serde_json::Value::Null => request.body(empty()),
            document => request.header(CONTENT_TYPE, "application/json").body(full(document.to_string())),
        };
        let answer = self.send(call, request).await?;
        let mut content = Content(BodyStream::new(answer.into_body()));
        let whole = read_up_to(&mut content, DOCUMENT_MAX).await;
        // Podman ends nothing with an end of line.
        if whole.trim_ascii().is_empty() {
            return Ok(serde_json::Value::Null);
        }
        serde_json::from_slice(&whole).map_err(|e| failed(call, e))
    }

    /// Sends content as it comes, with headers beside it, and gives what is answered as that comes. Dropping the answer ends
    /// the connection, by which the engine stops what it was at.
    pub async fn exchange(
        &self,
        call: &'static str,
        path: &str,
        headers: &[(&'static str, String)],
        content: Option<WireBody>,
    ) -> Result<Content, EngineError> {
        let mut request = self.request(Method::POST, path);
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let request = match content {
            Some(content) => request.header(CONTENT_TYPE, "application/x-tar").body(content),
            None => request.body(empty()),
        };
        let answer = self.send(call, request).await?;
        Ok(Content(BodyStream::new(answer.into_body())))
    }

    /// As [`json`](Self::json), with headers beside the question.
    pub async fn json_with<T: DeserializeOwned>(
        &self,
        call: &'static str,
        path: &str,
        headers: &[(&'static str, String)],
    ) -> Result<T, EngineError> {
        let mut request = self.request(Method::GET, path);
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let answer = self.send(call, request.body(empty())).await?;
        let whole = read_up_to(&mut Content(BodyStream::new(answer.into_body())), DOCUMENT_MAX).await;
        serde_json::from_slice(&whole).map_err(|e| failed(call, e))
    }

    /// Sends content as it comes.
    pub async fn put(&self, call: &'static str, path: &str, content: WireBody) -> Result<(), EngineError> {
        let request = self.request(Method::PUT, path).header(CONTENT_TYPE, "application/x-tar");
        self.send(call, request.body(content)).await.map(drop)
    }

    pub async fn delete(&self, call: &'static str, path: &str) -> Result<(), EngineError> {
        self.send(call, self.request(Method::DELETE, path).body(empty())).await.map(drop)
    }

    /// Asks for a connection that goes on as bytes both ways.
    pub async fn upgrade(
        &self,
        call: &'static str,
        path: &str,
        document: Option<&serde_json::Value>,
    ) -> Result<Both, EngineError> {
        let request = self.request(Method::POST, path).header(CONNECTION, "Upgrade").header(UPGRADE, "tcp");
        let request = match document {
            Some(document) => {
                request.header(CONTENT_TYPE, "application/json").body(full(document.to_string()))
            }
            None => request.body(empty()),
        };
        let answer = self.send(call, request).await?;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(failed(call, format!("it answers {} and does not upgrade", answer.status())));
        }
        Ok(TokioIo::new(hyper::upgrade::on(answer).await.map_err(|e| failed(call, e))?))
    }

    fn request(&self, method: Method, path: &str) -> http::request::Builder {
        Request::builder().method(method).uri(format!("{}{path}", self.prefix)).header(HOST, "engine")
    }

    async fn send(
        &self,
        call: &'static str,
        request: Result<Request<WireBody>, http::Error>,
    ) -> Result<Response<Incoming>, EngineError> {
        let request = request.map_err(|e| failed(call, e))?;
        let late = |_| EngineError::Deadline { call, seconds: CONNECT.as_secs() };
        let connecting = tokio::time::timeout(CONNECT, UnixStream::connect(&self.socket));
        let stream = connecting.await.map_err(late)?.map_err(|e| self.away(&e))?;
        let shake = hyper::client::conn::http1::handshake(TokioIo::new(stream));
        let (mut sender, connection) = shake.await.map_err(|e| self.away(&e))?;
        // It ends with the answer's body, or with what it was upgraded to.
        tokio::spawn(connection.with_upgrades());
        let answer = sender.send_request(request).await.map_err(|e| self.away(&e))?;
        let status = answer.status();
        if status.is_client_error() || status.is_server_error() {
            let mut content = Content(BodyStream::new(answer.into_body()));
            let message = message_of(&read_up_to(&mut content, REFUSAL_MAX).await);
            return Err(EngineError::Status { call, status: status.as_u16(), message });
        }
        Ok(answer)
    }

    fn away(&self, error: &dyn std::error::Error) -> EngineError {
        EngineError::Unavailable {
            socket: self.socket.display().to_string(),
            detail: crate::fault::chain(error),
        }
    }
}

fn failed(call: &'static str, detail: impl std::fmt::Display) -> EngineError {
    EngineError::Failed { call, detail: detail.to_string() }
}

fn empty() -> WireBody {
    full(Bytes::new())
}

fn full(bytes: impl Into<Bytes>) -> WireBody {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed()
}

/// What comes until its end, a failure, or so many bytes.
async fn read_up_to(content: &mut Content, most: usize) -> BytesMut {
    let mut whole = BytesMut::new();
    while let Some(Ok(piece)) = content.next().await {
        whole.extend_from_slice(&piece[..piece.len().min(most - whole.len())]);
        if whole.len() == most {
            break;
        }
    }
    whole
}

/// The engine's own words in `{"message": "..."}`.
fn message_of(text: &[u8]) -> String {
    let document = serde_json::from_slice::<serde_json::Value>(text).ok();
    let message = document.as_ref().and_then(|d| d.get("message").or_else(|| d.get("cause"))?.as_str());
    let plain = || String::from_utf8_lossy(text).trim().to_owned();
    message.map_or_else(plain, |message| message.trim().to_owned())
}

/// Bytes of the engine's, in the pieces that they came in.
#[derive(Debug)]
pub struct Content(BodyStream<Incoming>);

impl Stream for Content {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            match futures_util::ready!(self.0.poll_next_unpin(context)) {
                Some(Ok(frame)) => {
                    // Trailers are nobody's business here.
                    if let Ok(data) = frame.into_data() {
                        return Poll::Ready(Some(Ok(data)));
                    }
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(io::Error::other(error)))),
                None => return Poll::Ready(None),
            }
        }
    }
}

/// Documents of a line each. One that is too long ends them.
#[derive(Debug)]
pub struct Lines<S = Content> {
    content: S,
    kept: BytesMut,
    most: usize,
}

impl<S: Stream<Item = io::Result<Bytes>> + Unpin> Lines<S> {
    pub fn new(content: S, most: usize) -> Self {
        Self { content, kept: BytesMut::new(), most }
    }

    /// Cancel-safe.
    pub async fn next(&mut self) -> Option<io::Result<Bytes>> {
        loop {
            if let Some(end) = self.kept.iter().position(|byte| *byte == b'\n') {
                let line = self.kept.split_to(end + 1).freeze();
                if !line.trim_ascii().is_empty() {
                    return Some(Ok(line));
                }
                continue;
            }
            if self.kept.len() > self.most {
                return Some(Err(io::Error::other(format!("a line is longer than {} bytes", self.most))));
            }
            match self.content.next().await? {
                Ok(piece) => self.kept.extend_from_slice(&piece),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// A path with a query, each value in what a URL may hold.
pub fn query(path: &str, pairs: &[(&str, &str)]) -> String {
    let mut out = path.to_owned();
    for (index, (key, value)) in pairs.iter().enumerate() {
        out.push(if index == 0 { '?' } else { '&' });
        out.push_str(key);
        out.push('=');
        for byte in value.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                out.push(char::from(byte));
            } else {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}
