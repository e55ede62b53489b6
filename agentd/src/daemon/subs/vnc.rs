//! `vms/{name}/vnc`: one viewer's connection to the guest's screen, behind a ticket that holds for that one connection.
//!
//! ```text
//!   open --> the ticket is set --> Json {ticket, seconds} --> Json {connect}
//!        --> bytes both ways --> the ticket is taken back a moment later, and when the stream ends
//! ```
//! Nothing listens on the host but QEMU's Unix socket, which lets nobody in without a ticket; the port that a viewer
//! connects to is opened by the caller, on its own machine. A ticket that a crash of agentd leaves runs out by itself.

use std::collections::HashSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use agentd_api::frame::Frame;
use agentd_api::{ErrorCode, Problem};
use agentd_drivers::fault::chain;
use agentd_drivers::vm::VmDriver;
use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;
use uuid::Uuid;

use super::Opener;
use super::frames::{FrameSink, FrameSource, frames};
use super::refusal::refused;
use crate::http::{Channel, SubCall, SubReply};

/// For a viewer to connect.
const WAIT: Duration = Duration::from_secs(120);
/// For a viewer that has connected to show its ticket.
const SHOW: Duration = Duration::from_secs(15);
/// VNC compares no more than eight characters.
const TICKET: usize = 8;
/// 64 characters: none is likelier than another. Without those that look alike in print there would be fewer.
const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

pub struct Vnc {
    vm: Arc<dyn VmDriver>,
    viewed: Arc<Mutex<HashSet<Uuid>>>,
}

impl Vnc {
    pub fn new(vm: Arc<dyn VmDriver>) -> Self {
        Self { vm, viewed: Arc::default() }
    }
}

/// The one place in front of a screen, given up when dropped.
struct Place {
    viewed: Arc<Mutex<HashSet<Uuid>>>,
    vm: Uuid,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.viewed.lock().remove(&self.vm);
    }
}

#[async_trait]
impl Opener for Vnc {
    async fn open(&self, call: SubCall) -> Result<SubReply, Problem> {
        let id = call.object.id();
        if !self.viewed.lock().insert(id) {
            let detail = "somebody has a ticket for its screen, or looks at it";
            return Err(Problem::new(ErrorCode::InUse, detail).hint("a screen has one viewer at a time"));
        }
        let place = Place { viewed: self.viewed.clone(), vm: id };
        let ticket = ticket();
        let opened = self.vm.open_vnc(id, &ticket, WAIT).await;
        let socket = opened.map_err(|e| refused(&e, call.object.name()))?;
        let view = View { driver: self.vm.clone(), place, ticket, socket };
        Ok(SubReply::Session(Box::new(move |channel| Box::pin(view.run(channel)))))
    }
}

fn ticket() -> String {
    let random = Uuid::new_v4().into_bytes();
    // Six bits of each; those that tell the version and the variant of a UUID are in the bytes 6 and 8, which are not used.
    let bytes = random[..6].iter().chain(&random[10..]).take(TICKET);
    bytes.map(|byte| char::from(LETTERS[usize::from(byte & 63)])).collect()
}

struct View {
    driver: Arc<dyn VmDriver>,
    place: Place,
    ticket: String,
    socket: PathBuf,
}

impl View {
    async fn run(self, channel: Channel) {
        let (mut from, mut to) = frames(channel);
        let shown = self.show(&mut from, &mut to).await;
        self.close().await;
        // A caller that is gone hears nothing of it.
        let _ = match shown {
            Ok(()) => to.end().await,
            Err(error) => {
                let detail = format!("the guest's screen: {error}");
                to.fail(&Problem::new(ErrorCode::BackendUnavailable, detail)).await
            }
        };
    }

    async fn close(&self) {
        if let Err(error) = self.driver.close_vnc(self.place.vm).await {
            // It runs out by itself.
            tracing::debug!(vm = %self.place.vm, "a ticket was not taken back: {}", chain(&error));
        }
    }

    async fn show(
        &self,
        from: &mut FrameSource<impl AsyncRead + Unpin>,
        to: &mut FrameSink<impl AsyncWrite + Unpin>,
    ) -> io::Result<()> {
        let told = json!({"ticket": self.ticket, "seconds": WAIT.as_secs()}).to_string();
        to.send(&Frame::Json(told)).await?;
        let late = || io::Error::new(io::ErrorKind::TimedOut, "no viewer connected while the ticket held");
        let Some(Frame::Json(_)) = timeout(WAIT, from.next()).await.map_err(|_| late())?? else {
            return Ok(());
        };
        let mut screen = UnixStream::connect(&self.socket).await?;
        let (mut screen_from, mut screen_to) = screen.split();
        let viewer = async {
            while let Some(Frame::In(bytes)) = from.next().await? {
                screen_to.write_all(&bytes).await?;
            }
            Ok(())
        };
        let guest = async {
            let mut buffer = vec![0; 32 << 10];
            loop {
                match screen_from.read(&mut buffer).await? {
                    0 => return Ok(()),
                    read => to.send(&Frame::Out(buffer.get(..read).unwrap_or_default().to_vec())).await?,
                }
            }
        };
        let once = async {
            tokio::time::sleep(SHOW).await;
            self.close().await;
            std::future::pending::<io::Result<()>>().await
        };
        // Cancel safety: whichever side ends, the other is of no more use.
        tokio::select! {
            ended = viewer => ended,
            ended = guest => ended,
            never = once => never,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tickets_are_of_the_length_that_counts_and_differ() {
        let some: HashSet<String> = (0..1000).map(|_| ticket()).collect();
        assert_eq!(some.len(), 1000);
        assert!(some.iter().all(|t| t.len() == TICKET && t.bytes().all(|b| LETTERS.contains(&b))));
    }
}
