//! The sockets of guests' agents, one task each: connects, greets, follows what comes, and begins anew when it must.
//!
//! ```text
//!   away --connected, greeted--> silent --the agent greets back--> up (a channel) --cut, or breach, or deaf--> away
//! ```
//! A guest that restarts greets with nothing, and is greeted anew; the sessions of before are over.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use agentd_guest_wire::{Facts, Found, Parser, Side, VERSION, flush, greeting};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

use super::channel::Channel;
use super::{GuestError, GuestSeen};

/// How long an agent may take to answer a greeting before it is taken for not there.
const PATIENCE: Duration = Duration::from_secs(3);
/// When a channel that was closed is tried again: at once where a guest is started again, and then more slowly.
const CONNECT_SOON: Duration = Duration::from_millis(50);
const CONNECT_AGAIN: Duration = Duration::from_millis(500);
/// What a guest may send that is nothing, before its connection is given up for a while.
const NOISE_MAX: usize = 4 << 20;
const NOISE_REST: Duration = Duration::from_secs(10);
/// Frames that wait to be written.
const QUEUE: usize = 32;
/// How long it may take to tell its facts. A port tells nobody that the guest's end of it was closed: an agent that says
/// nothing for so long is taken for gone, and its sessions end. That of a guest that is paused for longer, too.
const DEAF: Duration = Duration::from_secs(20);
/// When facts are asked for again: soon after it came up, since addresses come later, and ever more slowly.
const ASK_FIRST: Duration = Duration::from_secs(1);
const ASK_LAST: Duration = Duration::from_secs(30);
/// The longest while somebody waits for what it says.
const ASK_BUSY: Duration = Duration::from_secs(5);

#[derive(Debug, Clone)]
enum State {
    /// No connection, and why.
    Away(String),
    /// Connected, and nobody answers since then.
    Silent(Instant),
    Up(Arc<Channel>),
}

#[derive(Debug)]
struct Link {
    state: watch::Sender<State>,
    facts: Mutex<Option<Facts>>,
    _end: DropGuard,
}

/// All of them.
#[derive(Debug)]
pub struct Links {
    all: Mutex<HashMap<Uuid, Arc<Link>>>,
    events: broadcast::Sender<Uuid>,
}

impl Default for Links {
    fn default() -> Self {
        Self { all: Mutex::default(), events: broadcast::Sender::new(4096) }
    }
}

impl Links {
    pub fn events(&self) -> broadcast::Receiver<Uuid> {
        self.events.subscribe()
    }

    /// Follows the agent behind that socket from now on.
    pub fn attend(&self, vm: Uuid, socket: &Path) {
        self.link(vm, socket);
    }

    pub fn leave(&self, vm: Uuid) {
        self.all.lock().remove(&vm);
    }

    pub fn close(&self) {
        self.all.lock().clear();
    }

    fn link(&self, vm: Uuid, socket: &Path) -> Arc<Link> {
        let begin = || {
            let end = CancellationToken::new();
            let link = Arc::new(Link {
                state: watch::Sender::new(State::Away("it is not connected yet".to_owned())),
                facts: Mutex::default(),
                _end: end.clone().drop_guard(),
            });
            let follower = Follower {
                vm,
                socket: socket.to_owned(),
                state: link.state.clone(),
                link: Arc::downgrade(&link),
                events: self.events.clone(),
            };
            tokio::spawn(async move {
                // Cancel safety: what it holds ends by being dropped.
                tokio::select! {
                    () = end.cancelled() => {}
                    () = follower.run() => {}
                }
            });
            link
        };
        self.all.lock().entry(vm).or_insert_with(begin).clone()
    }

    pub fn seen(&self, vm: Uuid) -> GuestSeen {
        let Some(link) = self.all.lock().get(&vm).cloned() else { return GuestSeen::Unknown };
        if let Some(facts) = link.facts.lock().clone() {
            return GuestSeen::Facts(facts);
        }
        match &*link.state.borrow() {
            State::Silent(since) if since.elapsed() >= PATIENCE => GuestSeen::Silent,
            _ => GuestSeen::Unknown,
        }
    }

    /// The agent's channel, if it answers, or soon does.
    pub async fn channel(&self, vm: Uuid, socket: &Path) -> Result<Arc<Channel>, GuestError> {
        let link = self.link(vm, socket);
        let mut states = link.state.subscribe();
        let began = Instant::now();
        loop {
            let state = states.borrow_and_update().clone();
            let since = match state {
                State::Up(channel) => return Ok(channel),
                State::Away(why) if began.elapsed() >= PATIENCE => return Err(GuestError::NoAgent(why)),
                State::Away(_) => began,
                State::Silent(since) => since,
            };
            // Cancel-safe, and nothing is lost with the state of a moment.
            if tokio::time::timeout_at(since + PATIENCE, states.changed()).await.is_err() {
                match &*states.borrow() {
                    State::Silent(_) => {
                        let why = "it does not run agentd-guest, or has not started it yet";
                        return Err(GuestError::NoAgent(why.to_owned()));
                    }
                    State::Away(why) => return Err(GuestError::NoAgent(why.clone())),
                    State::Up(_) => {}
                }
            }
        }
    }
}

struct Follower {
    vm: Uuid,
    socket: PathBuf,
    state: watch::Sender<State>,
    link: std::sync::Weak<Link>,
    events: broadcast::Sender<Uuid>,
}

/// Why a connection is begun anew.
enum Ended {
    Cut(String),
    /// The guest talks nonsense.
    Noise,
}

impl Follower {
    async fn run(self) {
        let mut again = CONNECT_SOON;
        loop {
            let ended = match UnixStream::connect(&self.socket).await {
                Ok(stream) => {
                    let began = Instant::now();
                    let ended = self.follow(stream).await;
                    // One that is cut whenever it is made is no reason to hurry.
                    if began.elapsed() > CONNECT_AGAIN {
                        again = CONNECT_SOON;
                    }
                    ended
                }
                Err(error) => Ended::Cut(match error.kind() {
                    std::io::ErrorKind::NotFound => {
                        "it was started without a channel for one; restart it".to_owned()
                    }
                    _ => format!("its channel cannot be reached: {error}"),
                }),
            };
            let (why, rest) = match ended {
                Ended::Cut(why) => {
                    let rest = again;
                    again = (again * 2).min(CONNECT_AGAIN);
                    (why, rest)
                }
                Ended::Noise => ("what it sends makes no sense".to_owned(), NOISE_REST),
            };
            self.is(State::Away(why));
            tokio::time::sleep(rest).await;
        }
    }

    /// A state of which facts are known no more, unless it is up.
    fn is(&self, state: State) {
        let before = self.state.send_replace(state);
        if let State::Up(channel) = before {
            channel.close();
            let Some(link) = self.link.upgrade() else { return };
            link.facts.lock().take();
            // Nobody listening is no failure.
            let _ = self.events.send(self.vm);
        }
    }

    async fn follow(&self, stream: UnixStream) -> Ended {
        let (mut from, to) = stream.into_split();
        let (out, queue) = mpsc::channel(QUEUE);
        let writer = tokio::spawn(write(to, queue));
        let deaf = CancellationToken::new();
        // Cancel safety: what was read is of a connection that is given up.
        let ended = tokio::select! {
            ended = self.read(&mut from, &out, &deaf) => ended,
            () = deaf.cancelled() => Ended::Cut("its agent has stopped answering".to_owned()),
        };
        writer.abort();
        ended
    }

    /// Greets, in the name of a nonce that is new.
    async fn greet(&self, out: &mpsc::Sender<Vec<u8>>) -> u32 {
        let nonce = fresh();
        self.is(State::Silent(Instant::now()));
        // It fails with the connection, which its reader sees.
        let _ = out.send([greeting(Side::Host, nonce), flush()].concat()).await;
        nonce
    }

    async fn read(
        &self,
        from: &mut (impl AsyncReadExt + Unpin),
        out: &mpsc::Sender<Vec<u8>>,
        deaf: &CancellationToken,
    ) -> Ended {
        let mut nonce = self.greet(out).await;
        let (mut parser, mut buffer, mut noise) = (Parser::new(Side::Guest), vec![0; 64 << 10], 0);
        let mut channel: Option<Arc<Channel>> = None;
        loop {
            match from.read(&mut buffer).await {
                Ok(0) => return Ended::Cut("its channel was closed".to_owned()),
                Ok(count) => {
                    parser.push(&buffer[..count]);
                    noise += if channel.is_none() { count } else { 0 };
                }
                Err(error) => return Ended::Cut(format!("its channel failed: {error}")),
            }
            while let Some(found) = parser.next() {
                match found {
                    Found::Greeting { nonce: named, version } if named == nonce && channel.is_none() => {
                        if version != VERSION {
                            let why = format!("its agent speaks version {version} and agentd {VERSION}");
                            return Ended::Cut(why);
                        }
                        parser.accept(nonce);
                        let now = Channel::new(nonce, out.clone());
                        self.came_up(now.clone(), deaf.clone());
                        channel = Some(now);
                        noise = 0;
                    }
                    // It has just started, or started anew.
                    Found::Greeting { nonce: 0, .. } => {
                        channel = None;
                        parser.reset_to_greeting();
                        nonce = self.greet(out).await;
                    }
                    Found::Greeting { .. } => {}
                    Found::Message(message) => {
                        let told = channel.as_ref().map_or(Ok(()), |channel| channel.came(message));
                        if let Err(breach) = told {
                            tracing::warn!(vm = %self.vm, "its guest's agent sent {}", breach.0);
                            return Ended::Noise;
                        }
                    }
                    Found::Lost => {
                        channel = None;
                        nonce = self.greet(out).await;
                    }
                }
            }
            if noise > NOISE_MAX {
                return Ended::Noise;
            }
        }
    }

    fn came_up(&self, channel: Arc<Channel>, deaf: CancellationToken) {
        self.is(State::Up(channel.clone()));
        let (link, events, vm) = (self.link.clone(), self.events.clone(), self.vm);
        // Ends with the channel: it is closed, or the link is gone.
        tokio::spawn(async move {
            let mut wait = ASK_FIRST;
            loop {
                let facts = channel.facts(DEAF).await;
                let Some(link) = link.upgrade() else { return };
                let facts = match facts {
                    Ok(facts) => facts,
                    Err(GuestError::Deadline { .. }) => return deaf.cancel(),
                    Err(_) => return,
                };
                let same = matches!(&*link.state.borrow(), State::Up(now) if Arc::ptr_eq(now, &channel));
                if !same {
                    return;
                }
                let changed = link.facts.lock().replace(facts.clone()).as_ref() != Some(&facts);
                drop(link);
                if changed {
                    // Nobody listening is no failure.
                    let _ = events.send(vm);
                }
                let asked = Instant::now();
                while asked.elapsed() < if channel.is_busy() { wait.min(ASK_BUSY) } else { wait } {
                    tokio::time::sleep(wait.min(ASK_BUSY)).await;
                }
                wait = (wait * 2).min(ASK_LAST);
            }
        });
    }
}

async fn write(mut to: OwnedWriteHalf, mut queue: mpsc::Receiver<Vec<u8>>) {
    while let Some(frame) = queue.recv().await {
        if to.write_all(&frame).await.is_err() {
            return;
        }
    }
}

/// A number that no earlier connection had, and that is not 0.
fn fresh() -> u32 {
    // Of the random part of a random id.
    let id = Uuid::new_v4();
    let bytes = id.as_bytes();
    u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]).max(1)
}
