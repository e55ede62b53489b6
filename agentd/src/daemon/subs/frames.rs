//! Frames on an upgraded connection, as the daemon reads and writes them.

use std::io;

use agentd_api::Problem;
use agentd_api::frame::{Frame, FrameBuffer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf, split};

use crate::http::Channel;

/// The two directions of a stream of frames.
pub fn frames(channel: Channel) -> (FrameSource<ReadHalf<Channel>>, FrameSink<WriteHalf<Channel>>) {
    let (from, to) = split(channel);
    (FrameSource { from, buffer: FrameBuffer::default() }, FrameSink { to })
}

#[derive(Debug)]
pub struct FrameSource<R> {
    from: R,
    buffer: FrameBuffer,
}

impl<R: AsyncRead + Unpin> FrameSource<R> {
    /// The next frame, or nothing where the caller closed between two. Cancel-safe: what has arrived is kept.
    pub async fn next(&mut self) -> io::Result<Option<Frame>> {
        loop {
            let found = self.buffer.pop().map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
            if found.is_some() {
                return Ok(found);
            }
            if self.from.read_buf(self.buffer.room()).await? == 0 {
                let cut = io::ErrorKind::UnexpectedEof;
                return if self.buffer.is_between() { Ok(None) } else { Err(cut.into()) };
            }
        }
    }
}

#[derive(Debug)]
pub struct FrameSink<W> {
    to: W,
}

impl<W: AsyncWrite + Unpin> FrameSink<W> {
    /// Waits for as long as the caller does not read.
    pub async fn send(&mut self, frame: &Frame) -> io::Result<()> {
        self.to.write_all(&frame.to_bytes()).await?;
        self.to.flush().await
    }

    /// The stream fails, with the reason.
    pub async fn fail(&mut self, problem: &Problem) -> io::Result<()> {
        let text = serde_json::to_string(problem).map_err(io::Error::other)?;
        self.send(&Frame::Failed(text)).await
    }

    /// The stream ends as it should.
    pub async fn end(mut self) -> io::Result<()> {
        self.send(&Frame::End).await?;
        self.to.shutdown().await
    }
}
