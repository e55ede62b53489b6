//! Sessions: a program in a container, or the container's own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::Inner;
use super::frames::Frames;
use crate::container::ContainerError;
use crate::engine::wire::{Both, query};
use crate::engine::{ASK, EngineError};
use crate::vm::guest::{GuestError, Said, SessionIn, SessionOut};

/// How long the engine may take to say how a program ended whose output has ended.
const END: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(5);
const ROOM: usize = 32 << 10;
/// Of what a program says first: why it could not be run, where it could not.
const FIRST: usize = 1024;

/// Whose input and output it is.
#[derive(Debug, Clone)]
pub(super) enum Whose {
    /// A program that was started in it, by the engine's id of that.
    Program {
        exec: String,
        container: String,
    },
    Container(Uuid),
}

/// How a program is, as the engine tells it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Exec {
    running: bool,
    exit_code: Option<i32>,
    #[serde(default)]
    pid: i32,
}

pub(super) fn session(inner: Arc<Inner>, whose: Whose, both: Both, terminal: bool) -> (In, Out) {
    let (read, write) = tokio::io::split(both);
    let out = Out {
        inner: inner.clone(),
        whose: whose.clone(),
        read,
        frames: Frames::new(terminal),
        first: Vec::new(),
        over: false,
        ended: None,
    };
    (In { inner, whose, write }, out)
}

impl Inner {
    async fn program(&self, exec: &str) -> Result<Exec, EngineError> {
        let linked = self.engine.linked().await?;
        self.within(
            "look at a program",
            ASK,
            linked.wire.json("look at a program", &format!("/exec/{exec}/json")),
        )
        .await
    }

    /// Engines signal containers and not what runs in them beside: that is a process of this host.
    async fn signal_program(&self, (exec, container): (&str, &str), number: i32) -> Result<(), GuestError> {
        let failed = |detail: String| GuestError::Failed { call: "signal a program", detail };
        let signal = Signal::try_from(number)
            .map_err(|_| GuestError::Refused(format!("there is no signal {number}")))?;
        let until = Instant::now() + END;
        let program = loop {
            let program = self.program(exec).await.map_err(ContainerError::from)?;
            if program.running && program.pid > 1 {
                break program;
            }
            // One that has just been started is not there at once.
            if program.exit_code.is_some() || Instant::now() > until {
                return Err(GuestError::Gone);
            }
            tokio::time::sleep(LOOK).await;
        };
        // Its number may be another's by now.
        let groups = std::fs::read_to_string(format!("/proc/{}/cgroup", program.pid)).unwrap_or_default();
        if !groups.contains(container) {
            return Err(GuestError::Gone);
        }
        kill(Pid::from_raw(program.pid), signal).map_err(|error| failed(error.to_string()))
    }

    pub(super) async fn resize(&self, whose: &Whose, columns: u16, rows: u16) -> Result<(), GuestError> {
        let path = match whose {
            Whose::Program { exec, .. } => format!("/exec/{exec}/resize"),
            Whose::Container(id) => format!("/containers/{}/resize", self.engine_id(*id).await?),
        };
        let path = query(&path, &[("h", &rows.to_string()), ("w", &columns.to_string())]);
        let done = self.post("size a terminal", ASK, &path, &serde_json::Value::Null).await;
        done.map(drop).map_err(|error| ContainerError::from(error).into())
    }
}

pub(super) struct In {
    inner: Arc<Inner>,
    whose: Whose,
    write: WriteHalf<Both>,
}

#[async_trait]
impl SessionIn for In {
    async fn data(&mut self, bytes: &[u8]) -> Result<(), GuestError> {
        self.write.write_all(bytes).await.map_err(|_| GuestError::Gone)?;
        self.write.flush().await.map_err(|_| GuestError::Gone)
    }
    async fn end(&mut self) -> Result<(), GuestError> {
        self.write.shutdown().await.map_err(|_| GuestError::Gone)
    }
    async fn resize(&mut self, columns: u16, rows: u16) -> Result<(), GuestError> {
        self.inner.resize(&self.whose, columns, rows).await
    }
    async fn signal(&mut self, number: u32) -> Result<(), GuestError> {
        let signed = i32::try_from(number).unwrap_or(0);
        match &self.whose {
            Whose::Program { exec, container } => self.inner.signal_program((exec, container), signed).await,
            Whose::Container(id) => {
                let rest = query("kill", &[("signal", &number.to_string())]);
                Ok(self.inner.tell(*id, "signal a container", &rest).await?)
            }
        }
    }
}

pub(super) struct Out {
    inner: Arc<Inner>,
    whose: Whose,
    read: ReadHalf<Both>,
    frames: Frames,
    first: Vec<u8>,
    over: bool,
    /// The engine's word of its end, asked for before.
    ended: Option<JoinHandle<Option<i32>>>,
}

impl Out {
    /// Asks how the container ends, before it does.
    pub(super) fn wait_for_end(&mut self, container: &str, condition: &'static str) {
        let path = query(&format!("/containers/{container}/wait"), &[("condition", condition)]);
        let engine = self.inner.engine.clone();
        self.ended = Some(tokio::spawn(async move {
            let linked = engine.linked().await.ok()?;
            let told =
                linked.wire.post("wait for a container", &path, &serde_json::Value::Null).await.ok()?;
            i32::try_from(told.get("StatusCode")?.as_i64()?).ok()
        }));
    }

    /// How it ended, after its output has.
    async fn end(&mut self) -> Result<Said, GuestError> {
        match &self.whose {
            Whose::Program { exec, .. } => {
                let until = Instant::now() + END;
                loop {
                    let program = self.inner.program(exec).await.map_err(ContainerError::from)?;
                    if let (false, Some(code)) = (program.running, program.exit_code) {
                        let said = String::from_utf8_lossy(&self.first);
                        // Engines find that out once it is started, and tell it as if the program said so.
                        if code == 126 && said.starts_with("unable to find user") {
                            return Err(GuestError::Missing(said.trim_end().to_owned()));
                        }
                        return Ok(Said::Exit(meant(code, &self.first)));
                    }
                    if Instant::now() > until {
                        return Err(GuestError::Deadline { call: "end a program", seconds: END.as_secs() });
                    }
                    tokio::time::sleep(LOOK).await;
                }
            }
            Whose::Container(id) => {
                let told = match self.ended.take() {
                    Some(ended) => tokio::time::timeout(END, ended).await.ok().and_then(Result::ok).flatten(),
                    None => None,
                };
                match told {
                    Some(code) => Ok(Said::Exit(code)),
                    None => Ok(Said::Exit(self.inner.wait(*id).await?.code)),
                }
            }
        }
    }
}

/// A shell's numbers: 127 where the program is not there, which older engines call 126 as one that cannot be run.
fn meant(code: i32, first: &[u8]) -> i32 {
    let said = String::from_utf8_lossy(first);
    let missing =
        ["executable file not found", "no such file or directory"].iter().any(|why| said.contains(why));
    if code == 126 && said.contains("exec failed") && missing { 127 } else { code }
}

#[async_trait]
impl SessionOut for Out {
    async fn next(&mut self) -> Result<Said, GuestError> {
        loop {
            if let Some(said) = self.frames.pop() {
                if let (Said::Out(bytes) | Said::Err(bytes), left @ 1..) = (&said, FIRST - self.first.len()) {
                    self.first.extend_from_slice(&bytes[..bytes.len().min(left)]);
                }
                return Ok(said);
            }
            let room = self.frames.room();
            room.reserve(ROOM);
            // An engine that goes away cuts the connection: how it ended is then not known, and said so.
            let read = self.read.read_buf(room).await.unwrap_or(0);
            if read == 0 {
                let end = self.end().await;
                self.over = true;
                return end;
            }
        }
    }
}

impl Drop for Out {
    fn drop(&mut self) {
        if let Some(ended) = &self.ended {
            ended.abort();
        }
        let Whose::Program { exec, container } = self.whose.clone() else { return };
        if self.over {
            return;
        }
        let inner = self.inner.clone();
        // The engine lets a program go on whose caller has left.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let _ = inner.signal_program((&exec, &container), Signal::SIGKILL as i32).await;
            });
        }
    }
}

/// What comes by a connection of its own, as pieces of one or two streams.
pub(super) struct Log {
    pub(super) content: crate::engine::wire::Content,
    pub(super) frames: Frames,
    pub(super) bytes: u64,
}

#[async_trait]
impl SessionOut for Log {
    async fn next(&mut self) -> Result<Said, GuestError> {
        use futures_util::StreamExt;
        loop {
            if let Some(said) = self.frames.pop() {
                if let Said::Out(bytes) | Said::Err(bytes) = &said {
                    self.bytes += bytes.len() as u64;
                }
                return Ok(said);
            }
            match self.content.next().await {
                Some(Ok(bytes)) => self.frames.push(&bytes),
                None => return Ok(Said::Done { count: 0, bytes: self.bytes }),
                Some(Err(_)) => return Err(GuestError::Gone),
            }
        }
    }
}
