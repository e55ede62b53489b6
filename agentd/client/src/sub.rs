//! Subresources: `/v1/{kinds}/{name}/{sub}`. Two-way streams come as the upgraded connection, with frames on it or
//! bytes as they are; content comes as it is sent. Nothing is tried again: what was typed was typed.

use std::io;

use agentd_api::frame::{Frame, FrameBuffer};
use agentd_api::kind::{KindDef, SubAnswer, SubDef, SubMethod};
use agentd_api::{ObjectName, Problem};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::{HeaderValue, Method, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf, split};

use crate::client::Client;
use crate::error::ClientError;
use crate::path::Path;
use crate::transport::{Body, Call, refusal};

/// Which subresource of which object.
#[derive(Debug, Clone, Copy)]
pub struct SubPath<'a> {
    pub def: &'static KindDef,
    pub project: Option<&'a ObjectName>,
    /// A name or an id, as it was given.
    pub name: &'a str,
    pub sub: &'static SubDef,
    pub params: &'a [(&'a str, &'a str)],
}

impl SubPath<'_> {
    fn call(&self) -> Call {
        let method = match self.sub.method {
            SubMethod::Get => Method::GET,
            SubMethod::Put => Method::PUT,
            SubMethod::Post => Method::POST,
        };
        let path = Path::new(&["v1", self.def.plural, self.name, self.sub.name])
            .maybe("project", self.project.map(ObjectName::as_str));
        let path = self.params.iter().fold(path, |path, (name, value)| path.with(name, value));
        Call::new(method, path)
    }
}

/// An upgraded connection, as bytes.
pub type Connection = TokioIo<hyper::upgrade::Upgraded>;

/// Content on its way here.
pub struct Download {
    body: Incoming,
    call: Call,
    client: Client,
}

impl Download {
    /// The next piece, or nothing at its end. An answer that the daemon broke off is an error. Has no time limit.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        loop {
            match self.body.frame().await {
                None => return Ok(None),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
                Some(Err(error)) => return Err(self.client.broken(&self.call, Box::new(error))),
            }
        }
    }
}

impl Client {
    /// The whole answer of a subresource that answers with a document.
    pub async fn sub_json(&self, path: SubPath<'_>) -> Result<Bytes, ClientError> {
        self.call(path.call()).await
    }

    /// The content of a subresource, as it comes.
    pub async fn download(&self, path: SubPath<'_>) -> Result<Download, ClientError> {
        let call = path.call();
        let body = self.open(&call).await?;
        Ok(Download { body, call, client: self.clone() })
    }

    /// As [`download`](Self::download), for content whose beginning takes long to make: there is no time limit at all.
    pub async fn download_patiently(&self, path: SubPath<'_>) -> Result<Download, ClientError> {
        self.receive(path.call()).await
    }

    /// What a path answers, as it comes. There is no time limit at all.
    pub(crate) async fn receive(&self, call: Call) -> Result<Download, ClientError> {
        let empty = Body::new(Empty::new().map_err(|never| match never {}));
        let answer = self.send_body(&call, empty).await?;
        let status = answer.status();
        if !status.is_success() {
            let body = self.collect(&call, answer.into_body()).await?;
            return Err(refusal(&call, status, &body));
        }
        Ok(Download { body: answer.into_body(), call, client: self.clone() })
    }

    /// Sends content to a subresource, as it comes, and gives the whole answer. Has no time limit. An answer that comes
    /// before all was sent ends the sending.
    pub async fn send_content(
        &self,
        path: SubPath<'_>,
        content: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> Result<Bytes, ClientError> {
        let call = path.call();
        let body =
            UnsyncBoxBody::new(StreamBody::new(content.map(|piece| piece.map(hyper::body::Frame::data))));
        self.send_octets(&call, body, None).await
    }

    /// A two-way stream. What the daemon refuses is refused before it begins.
    pub async fn connect(&self, path: SubPath<'_>) -> Result<Connection, ClientError> {
        let call = path.call();
        let protocol = match path.sub.answer {
            SubAnswer::Content(_) | SubAnswer::Json | SubAnswer::JsonList => None,
            answer => answer.protocol(),
        };
        let empty = Body::new(Empty::new().map_err(|never| match never {}));
        let mut request = call.request(&self.inner.address, empty)?;
        if let Some(protocol) = protocol {
            request.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
            request.headers_mut().insert(header::UPGRADE, HeaderValue::from_static(protocol));
        }
        let sent = async {
            self.inner.http.request(request).await.map_err(|error| self.broken(&call, Box::new(error)))
        };
        let answer = self.limited(&call, sent).await?;
        let status = answer.status();
        if status != StatusCode::SWITCHING_PROTOCOLS {
            let body = self.collect(&call, answer.into_body()).await?;
            return Err(refusal(&call, status, &body));
        }
        let upgraded = hyper::upgrade::on(answer).await;
        Ok(TokioIo::new(upgraded.map_err(|error| self.broken(&call, Box::new(error)))?))
    }

    /// A two-way stream of frames.
    pub async fn frames(
        &self,
        path: SubPath<'_>,
    ) -> Result<(FrameReader<ReadHalf<Connection>>, FrameWriter<WriteHalf<Connection>>), ClientError> {
        let (reader, writer) = split(self.connect(path).await?);
        Ok((FrameReader::new(reader), FrameWriter::new(writer)))
    }
}

/// Reads frames. Cancel-safe: what has arrived is kept.
#[derive(Debug)]
pub struct FrameReader<R> {
    inner: R,
    buffer: FrameBuffer,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub fn new(inner: R) -> Self {
        Self { inner, buffer: FrameBuffer::default() }
    }

    /// The next frame, or nothing where the stream closed between two.
    pub async fn next(&mut self) -> io::Result<Option<Frame>> {
        loop {
            let found = self.buffer.pop().map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
            if found.is_some() {
                return Ok(found);
            }
            if self.inner.read_buf(self.buffer.room()).await? == 0 {
                let cut = io::Error::new(io::ErrorKind::UnexpectedEof, "the stream was cut within a frame");
                return if self.buffer.is_between() { Ok(None) } else { Err(cut) };
            }
        }
    }
}

/// Writes frames.
#[derive(Debug)]
pub struct FrameWriter<W> {
    inner: W,
}

impl<W: AsyncWrite + Unpin> FrameWriter<W> {
    pub fn new(inner: W) -> Self {
        Self { inner }
    }

    pub async fn send(&mut self, frame: &Frame) -> io::Result<()> {
        self.inner.write_all(&frame.to_bytes()).await?;
        self.inner.flush().await
    }

    pub async fn close(&mut self) -> io::Result<()> {
        self.inner.shutdown().await
    }
}

/// What a [`Frame::Failed`] says.
pub fn failed(text: &str) -> ClientError {
    match serde_json::from_str::<Problem>(text) {
        Ok(problem) => problem.into(),
        Err(source) => ClientError::Decode { request: "a stream's failure".to_owned(), source },
    }
}
