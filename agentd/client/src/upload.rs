//! Sends an image's content. Nothing is repeated: a stream can be read once, and what has arrived is the image's
//! `status.received`.

use std::io;

use agentd_api::image::Image;
use agentd_api::{Kind, Object, ObjectName};
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use http::{HeaderValue, Method, header};
use http_body_util::StreamBody;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Frame;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::client::Client;
use crate::error::ClientError;
use crate::path::Path;
use crate::transport::{Body, Call, decode, refusal};

const CHUNK: usize = 256 << 10;

/// A file on its way to the daemon.
pub struct Upload<R, P> {
    pub project: ObjectName,
    /// The image, created before with an `upload` source.
    pub name: ObjectName,
    pub content: R,
    /// How many bytes `content` has. Fewer or more of them are an error.
    pub length: u64,
    /// Called with the number of bytes that were handed over so far.
    pub progress: P,
}

impl Client {
    /// `PUT /v1/images/{name}/content`. Has no time limit.
    pub async fn upload<R, P>(&self, upload: Upload<R, P>) -> Result<Object<Image>, ClientError>
    where
        R: AsyncRead + Send + Unpin + 'static,
        P: FnMut(u64) + Send + 'static,
    {
        let path = Path::new(&["v1", Image::DEF.plural, upload.name.as_str(), "content"])
            .with("project", upload.project.as_str());
        let call = Call::new(Method::PUT, path);
        let Upload { content, length, progress, .. } = upload;
        let body = self.send_known(&call, Sending { content, length, progress }).await?;
        decode(&call.name(), &body)
    }

    /// Sends content of a known length, and gives the whole answer.
    pub(crate) async fn send_known<R, P>(
        &self,
        call: &Call,
        sending: Sending<R, P>,
    ) -> Result<Bytes, ClientError>
    where
        R: AsyncRead + Send + Unpin + 'static,
        P: FnMut(u64) + Send + 'static,
    {
        let length = sending.length;
        self.send_octets(call, body(sending), Some(length)).await
    }

    /// Sends content, of a length where it is known, and gives the whole answer.
    pub(crate) async fn send_octets(
        &self,
        call: &Call,
        content: Body,
        length: Option<u64>,
    ) -> Result<Bytes, ClientError> {
        let mut request = call.request(&self.inner.address, content)?;
        let kind = HeaderValue::from_static("application/octet-stream");
        request.headers_mut().insert(header::CONTENT_TYPE, kind);
        if let Some(length) = length {
            request.headers_mut().insert(header::CONTENT_LENGTH, length.into());
        }
        let answer =
            self.inner.http.request(request).await.map_err(|error| self.broken(call, Box::new(error)))?;
        let status = answer.status();
        let body = self.collect(call, answer.into_body()).await?;
        if status.is_success() { Ok(body) } else { Err(refusal(call, status, &body)) }
    }
}

/// What is sent: never more than was announced.
pub(crate) struct Sending<R, P> {
    pub content: R,
    pub length: u64,
    pub progress: P,
}

fn body<R, P>(upload: Sending<R, P>) -> Body
where
    R: AsyncRead + Send + Unpin + 'static,
    P: FnMut(u64) + Send + 'static,
{
    let chunks = stream::unfold((upload, 0u64), |(mut upload, sent)| async move {
        // Never more than was announced: hyper would take the rest as the next request's beginning.
        let left = upload.length - sent;
        if left == 0 {
            return None;
        }
        let size = usize::try_from(left).map_or(CHUNK, |left| left.min(CHUNK));
        let mut chunk = BytesMut::with_capacity(size);
        let mut limited = (&mut upload.content).take(size as u64);
        match limited.read_buf(&mut chunk).await {
            Ok(0) => {
                let text = format!("the file ended after {sent} of {} bytes", upload.length);
                Some((Err(io::Error::new(io::ErrorKind::UnexpectedEof, text)), (upload, sent)))
            }
            Ok(count) => {
                let sent = sent + count as u64;
                (upload.progress)(sent);
                Some((Ok(chunk.freeze()), (upload, sent)))
            }
            Err(error) => Some((Err(error), (upload, sent))),
        }
    });
    UnsyncBoxBody::new(StreamBody::new(chunks.map(|part: io::Result<Bytes>| part.map(Frame::data))))
}
