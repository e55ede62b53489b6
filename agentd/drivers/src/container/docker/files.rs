//! Archives out of a container and into it, as they come. What is in one is looked at by its heads alone.

use std::io;
use std::sync::Arc;

use agentd_api::ErrorCode;
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::Inner;
use super::tar::Tar;
use crate::container::ContainerError;
use crate::engine::wire::{Content, WireBody, query};
use crate::engine::{ASK, EngineError};
use crate::fault::Classed;
use crate::vm::guest::{GuestError, GuestIn, GuestOut, Said, SessionIn, SessionOut};

const FOLDER: u32 = 1 << 31;
const LINK: u32 = 1 << 27;

/// What is at a path, as the engine tells it in a head; the mode's bits are Go's.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stat {
    mode: u32,
    #[serde(default)]
    link_target: String,
}

impl Inner {
    async fn stat(&self, container: &str, path: &str) -> Result<Option<Stat>, EngineError> {
        const CALL: &str = "look at a file";
        let linked = self.engine.linked().await?;
        let path = archive_of(container, path);
        let head = linked.wire.head(CALL, &path);
        let head = match self.within(CALL, ASK, head).await {
            Ok(head) => head,
            Err(error) if error.is_missing() => return Ok(None),
            Err(error) => return Err(error),
        };
        let text =
            head.get("X-Docker-Container-Path-Stat").map(http::HeaderValue::as_bytes).unwrap_or_default();
        let failed = |detail: String| EngineError::Failed { call: CALL, detail };
        let json = base64(text).ok_or_else(|| failed("its answer has no head for it".to_owned()))?;
        serde_json::from_slice(&json).map(Some).map_err(|error| failed(error.to_string()))
    }

    /// Where a path leads, links at its end followed: the path, and whether a folder is there.
    async fn place(&self, container: &str, path: &str) -> Result<Option<(String, bool)>, EngineError> {
        let Some(stat) = self.stat(container, path).await? else { return Ok(None) };
        if stat.mode & LINK == 0 {
            return Ok(Some((path.to_owned(), stat.mode & FOLDER != 0)));
        }
        // The engine has followed all of it.
        let there = self.stat(container, &stat.link_target).await?;
        Ok(there.map(|there| (stat.link_target, there.mode & FOLDER != 0)))
    }
}

fn archive_of(container: &str, path: &str) -> String {
    query(&format!("/containers/{container}/archive"), &[("path", path)])
}

fn missing(path: &str) -> GuestError {
    GuestError::Missing(format!("there is no {path}"))
}

pub(super) async fn pack(inner: &Arc<Inner>, id: Uuid, path: &str) -> Result<GuestOut, GuestError> {
    let container = inner.engine_id(id).await?;
    let linked = inner.engine.linked().await.map_err(ContainerError::from)?;
    let Some((from, _)) = inner.place(&container, path).await.map_err(ContainerError::from)? else {
        inner.found(id).await?;
        return Err(missing(path));
    };
    let content = linked.wire.get("send files", &archive_of(&container, &from)).await;
    let content = content
        .map_err(|error| if error.is_missing() { missing(path) } else { inner.refused(id, error).into() })?;
    // The top entry is called as was asked for, and not as what a link there leads to.
    let name = path.trim_end_matches('/').rsplit('/').next().filter(|name| !name.is_empty());
    Ok(Box::new(Packed { content, tar: Tar::new(name.map(ToOwned::to_owned)) }))
}

struct Packed {
    content: Content,
    tar: Tar,
}

#[async_trait]
impl SessionOut for Packed {
    async fn next(&mut self) -> Result<Said, GuestError> {
        let failed = |detail: String| GuestError::Failed { call: "send files", detail };
        while let Some(piece) = self.content.next().await {
            let piece = self.tar.pass(&piece.map_err(|_| GuestError::Gone)?).map_err(failed)?;
            if !piece.is_empty() {
                return Ok(Said::Out(piece));
            }
        }
        Ok(Said::Done { count: self.tar.entries, bytes: self.tar.bytes })
    }
}

pub(super) async fn unpack(
    inner: &Arc<Inner>,
    id: Uuid,
    path: &str,
) -> Result<(GuestIn, GuestOut), GuestError> {
    let container = inner.engine_id(id).await?;
    inner.found(id).await?;
    let (folder, name) = match inner.place(&container, path).await.map_err(ContainerError::from)? {
        Some((folder, true)) => (folder, None),
        _ if path.ends_with('/') => return Err(missing(path)),
        _ => {
            let (above, name) = path.rsplit_once('/').ok_or_else(|| missing(path))?;
            let above = if above.is_empty() { "/" } else { above };
            match inner.place(&container, above).await.map_err(ContainerError::from)? {
                Some((folder, true)) => (folder, Some(name.to_owned())),
                _ => return Err(missing(above)),
            }
        }
    };
    let linked = inner.engine.linked().await.map_err(ContainerError::from)?;
    // Small: a container that takes no more lets its sender wait.
    let (pieces, came) = mpsc::channel::<Result<Bytes, io::Error>>(4);
    let body: WireBody = BodyExt::boxed(StreamBody::new(stream_of(came).map(|piece| piece.map(Frame::data))));
    let put =
        tokio::spawn(
            async move { linked.wire.put("take files", &archive_of(&container, &folder), body).await },
        );
    let (count, counted) = mpsc::channel(1);
    let input = Unpacking { pieces: Some(pieces), tar: Tar::new(name), count };
    Ok((Box::new(input), Box::new(Unpacked { put, counted })))
}

fn stream_of(
    came: mpsc::Receiver<Result<Bytes, io::Error>>,
) -> impl futures_util::Stream<Item = Result<Bytes, io::Error>> + Send {
    futures_util::stream::unfold(came, |mut came| async move { Some((came.recv().await?, came)) })
}

struct Unpacking {
    pieces: Option<mpsc::Sender<Result<Bytes, io::Error>>>,
    tar: Tar,
    count: mpsc::Sender<Result<(u64, u64), String>>,
}

#[async_trait]
impl SessionIn for Unpacking {
    async fn data(&mut self, bytes: &[u8]) -> Result<(), GuestError> {
        let pieces = self.pieces.as_ref().ok_or(GuestError::Gone)?;
        match self.tar.pass(bytes) {
            Ok(piece) => pieces.send(Ok(piece.into())).await.map_err(|_| GuestError::Gone),
            Err(why) => {
                let _ = pieces.send(Err(io::Error::other(why.clone()))).await;
                let _ = self.count.try_send(Err(why));
                Err(GuestError::Gone)
            }
        }
    }
    async fn end(&mut self) -> Result<(), GuestError> {
        let done = if self.tar.is_whole() {
            Ok((self.tar.entries, self.tar.bytes))
        } else {
            Err("the archive ends too soon".to_owned())
        };
        if let Err(why) = &done
            && let Some(pieces) = &self.pieces
        {
            let _ = pieces.send(Err(io::Error::other(why.clone()))).await;
        }
        let _ = self.count.try_send(done);
        self.pieces = None;
        Ok(())
    }
    async fn resize(&mut self, _: u16, _: u16) -> Result<(), GuestError> {
        Ok(())
    }
    async fn signal(&mut self, _: u32) -> Result<(), GuestError> {
        Ok(())
    }
}

impl Drop for Unpacking {
    /// What was not sent to its end is no archive: the engine's side is cut.
    fn drop(&mut self) {
        if let Some(pieces) = self.pieces.take() {
            let _ = pieces.try_send(Err(io::Error::other("the archive was not sent to its end")));
        }
    }
}

struct Unpacked {
    put: JoinHandle<Result<(), EngineError>>,
    counted: mpsc::Receiver<Result<(u64, u64), String>>,
}

#[async_trait]
impl SessionOut for Unpacked {
    async fn next(&mut self) -> Result<Said, GuestError> {
        let done = (&mut self.put).await.map_err(|_| GuestError::Gone)?;
        let counted = self.counted.try_recv();
        if let Ok(Err(why)) = &counted {
            return Err(GuestError::Refused(why.clone()));
        }
        match done {
            Ok(()) => {
                let (count, bytes) = counted.ok().and_then(Result::ok).unwrap_or_default();
                Ok(Said::Done { count, bytes })
            }
            Err(error)
                if error.message().contains("read-only") || error.message().contains("marked read-only") =>
            {
                Err(GuestError::Refused(error.message().to_owned()))
            }
            Err(error) if error.message().contains("no space left") => {
                Err(GuestError::Full(error.message().to_owned()))
            }
            Err(error) if error.code() == ErrorCode::NotFound => {
                Err(GuestError::Missing(error.message().to_owned()))
            }
            Err(error) => Err(ContainerError::from(error).into()),
        }
    }
}

impl Drop for Unpacked {
    fn drop(&mut self) {
        self.put.abort();
    }
}

/// What base64 says, of a head's text. Nothing where it is none.
fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| {
        Some(match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        })
    };
    let (mut out, mut kept, mut bits) = (Vec::new(), 0_u32, 0_u32);
    for byte in text.iter().take_while(|byte| **byte != b'=') {
        kept = (kept << 6) | u32::from(digit(*byte)?);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            out.push(u8::try_from((kept >> bits) & 0xff).ok()?);
        }
    }
    (!out.is_empty()).then_some(out)
}
