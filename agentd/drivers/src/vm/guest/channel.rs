//! A connection to an agent that has answered, and the sessions on it.
//!
//! What comes for a session waits in its queue, which the guest cannot make longer than the window it was granted; the
//! one that reads the connection never waits for a session. A guest that sends more than it may, or what makes no sense,
//! loses the connection.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use agentd_guest_wire::{Answer, DATA_MAX, Message, SESSIONS_MAX, Stream, Trouble, WINDOW, Wish, cost};
use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc};

use super::{GuestError, Said, SessionIn, SessionOut};

/// Granted anew once so much was taken.
const GRANT: u32 = WINDOW / 4;

/// A guest sent what it may not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Breach(pub &'static str);

#[derive(Debug)]
pub struct Channel {
    nonce: u32,
    /// Whole frames, for the one that writes.
    out: mpsc::Sender<Vec<u8>>,
    sessions: Mutex<Sessions>,
}

#[derive(Debug, Default)]
struct Sessions {
    last: u32,
    open: HashMap<u32, Entry>,
    over: bool,
}

#[derive(Debug)]
struct Entry {
    said: mpsc::UnboundedSender<Heard>,
    /// What the guest may still send.
    room: u32,
    /// What it has granted.
    credit: Arc<Semaphore>,
}

/// What came for a session.
#[derive(Debug)]
enum Heard {
    Started,
    Said(Said, u32),
    Facts(Box<agentd_guest_wire::Facts>),
    Failed(Trouble, String),
}

impl Channel {
    pub fn new(nonce: u32, out: mpsc::Sender<Vec<u8>>) -> Arc<Self> {
        Arc::new(Self { nonce, out, sessions: Mutex::default() })
    }

    /// All sessions end; no more are opened.
    pub fn close(&self) {
        let mut sessions = self.sessions.lock();
        sessions.over = true;
        for (_, entry) in sessions.open.drain() {
            entry.credit.close();
        }
    }

    /// Whether somebody waits for what the agent says.
    pub fn is_busy(&self) -> bool {
        !self.sessions.lock().open.is_empty()
    }

    /// Brings a message to its session. Those of sessions that are over are read over: the guest may not know yet.
    pub fn came(&self, message: Message) -> Result<(), Breach> {
        let mut sessions = self.sessions.lock();
        let id = message.session();
        if id > sessions.last {
            return Err(Breach("of a session that was not opened"));
        }
        let Some(entry) = sessions.open.get_mut(&id) else { return Ok(()) };
        // A receiver that is gone has closed the session, or is about to.
        match message {
            Message::Data { stream, bytes, .. } => {
                let price = cost(bytes.len());
                entry.room = entry.room.checked_sub(price).ok_or(Breach("more data than was granted"))?;
                let said = match stream {
                    Stream::Out => Said::Out(bytes),
                    Stream::Err => Said::Err(bytes),
                    Stream::In => return Err(Breach("its own input")),
                };
                let _ = entry.said.send(Heard::Said(said, price));
            }
            Message::Credit { bytes, .. } => {
                let more = entry.credit.available_permits() + bytes as usize;
                if more > WINDOW as usize {
                    return Err(Breach("more credit than there is"));
                }
                entry.credit.add_permits(bytes as usize);
            }
            Message::Reply { answer, .. } => {
                let last = answer.last();
                // Each of these is sent once, but for a first one, which costs what data costs.
                entry.room = entry.room.checked_sub(cost(0)).ok_or(Breach("too many answers"))?;
                let _ = entry.said.send(match answer {
                    Answer::Started => Heard::Started,
                    Answer::Exit(status) => Heard::Said(Said::Exit(status), 0),
                    Answer::Done { count, bytes } => Heard::Said(Said::Done { count, bytes }, 0),
                    Answer::Facts(facts) => Heard::Facts(Box::new(facts)),
                    Answer::Failed { trouble, detail } => Heard::Failed(trouble, detail),
                });
                if last && let Some(entry) = sessions.open.remove(&id) {
                    entry.credit.close();
                }
            }
            Message::End { .. } => {}
            _ => return Err(Breach("what only agentd says")),
        }
        Ok(())
    }

    /// Opens a session.
    pub async fn open(self: &Arc<Self>, call: &'static str, wish: Wish) -> Result<(In, Out), GuestError> {
        let (said, heard) = mpsc::unbounded_channel();
        let credit = Arc::new(Semaphore::new(WINDOW as usize));
        let id = {
            let mut sessions = self.sessions.lock();
            if sessions.over {
                return Err(GuestError::Gone);
            }
            if sessions.open.len() >= SESSIONS_MAX {
                let detail = format!("{SESSIONS_MAX} things are under way in it already");
                return Err(GuestError::Failed { call, detail });
            }
            sessions.last = sessions.last.checked_add(1).ok_or(GuestError::Gone)?;
            let id = sessions.last;
            sessions.open.insert(id, Entry { said, room: WINDOW, credit: credit.clone() });
            id
        };
        let input = In { channel: self.clone(), id, credit };
        let output = Out { channel: self.clone(), id, call, heard, taken: 0 };
        self.send(&Message::Open { session: id, wish }).await?;
        Ok((input, output))
    }

    /// A session that is over with its first answer.
    pub async fn ask(
        self: &Arc<Self>,
        (call, limit): (&'static str, Duration),
        wish: Wish,
    ) -> Result<Said, GuestError> {
        let work = async {
            let (_input, mut output) = self.open(call, wish).await?;
            output.next().await
        };
        let late = GuestError::Deadline { call, seconds: limit.as_secs() };
        tokio::time::timeout(limit, work).await.unwrap_or(Err(late))
    }

    pub async fn facts(self: &Arc<Self>, limit: Duration) -> Result<agentd_guest_wire::Facts, GuestError> {
        const CALL: &str = "tell of itself";
        let work = async {
            let (_input, mut output) = self.open(CALL, Wish::Facts).await?;
            match output.hear().await? {
                Heard::Facts(facts) => Ok(*facts),
                _ => Err(GuestError::Failed { call: CALL, detail: "it answers something else".to_owned() }),
            }
        };
        let late = GuestError::Deadline { call: CALL, seconds: limit.as_secs() };
        tokio::time::timeout(limit, work).await.unwrap_or(Err(late))
    }

    async fn send(&self, message: &Message) -> Result<(), GuestError> {
        self.out.send(message.encode(self.nonce)).await.map_err(|_| GuestError::Gone)
    }
}

#[derive(Debug)]
pub struct In {
    channel: Arc<Channel>,
    id: u32,
    credit: Arc<Semaphore>,
}

#[async_trait]
impl SessionIn for In {
    async fn data(&mut self, bytes: &[u8]) -> Result<(), GuestError> {
        for piece in bytes.chunks(DATA_MAX) {
            let granted = self.credit.acquire_many(cost(piece.len())).await;
            granted.map_err(|_| GuestError::Gone)?.forget();
            let message = Message::Data { session: self.id, stream: Stream::In, bytes: piece.to_vec() };
            self.channel.send(&message).await?;
        }
        Ok(())
    }
    async fn end(&mut self) -> Result<(), GuestError> {
        self.channel.send(&Message::End { session: self.id, stream: Stream::In }).await
    }
    async fn resize(&mut self, columns: u16, rows: u16) -> Result<(), GuestError> {
        self.channel.send(&Message::Resize { session: self.id, columns, rows }).await
    }
    async fn signal(&mut self, number: u32) -> Result<(), GuestError> {
        self.channel.send(&Message::Signal { session: self.id, number }).await
    }
}

#[derive(Debug)]
pub struct Out {
    channel: Arc<Channel>,
    id: u32,
    call: &'static str,
    heard: mpsc::UnboundedReceiver<Heard>,
    /// What was taken since the guest was last granted more.
    taken: u32,
}

impl Out {
    async fn hear(&mut self) -> Result<Heard, GuestError> {
        if self.taken >= GRANT {
            // Waiting for a place takes nothing from anyone: this stays cancel-safe.
            let place = self.channel.out.reserve().await.map_err(|_| GuestError::Gone)?;
            let bytes = std::mem::take(&mut self.taken);
            if let Some(entry) = self.channel.sessions.lock().open.get_mut(&self.id) {
                entry.room += bytes;
                place.send(Message::Credit { session: self.id, bytes }.encode(self.channel.nonce));
            }
        }
        match self.heard.recv().await.ok_or(GuestError::Gone)? {
            Heard::Failed(trouble, detail) => Err(match trouble {
                Trouble::Invalid => GuestError::Refused(detail),
                Trouble::Missing => GuestError::Missing(detail),
                Trouble::Unsupported => GuestError::Unsupported(detail),
                Trouble::Full => GuestError::Full(detail),
                Trouble::Failed => GuestError::Failed { call: self.call, detail },
            }),
            heard => Ok(heard),
        }
    }

    /// Waits until the guest has begun.
    pub async fn started(&mut self, limit: Duration) -> Result<(), GuestError> {
        let late = GuestError::Deadline { call: self.call, seconds: limit.as_secs() };
        match tokio::time::timeout(limit, self.hear()).await.unwrap_or(Err(late))? {
            Heard::Started => Ok(()),
            _ => Err(GuestError::Failed { call: self.call, detail: "it answers out of turn".to_owned() }),
        }
    }
}

#[async_trait]
impl SessionOut for Out {
    async fn next(&mut self) -> Result<Said, GuestError> {
        loop {
            match self.hear().await? {
                Heard::Said(said, price) => {
                    self.taken += price;
                    return Ok(said);
                }
                Heard::Started => {}
                Heard::Facts(_) | Heard::Failed(..) => {
                    let detail = "it answers something else".to_owned();
                    return Err(GuestError::Failed { call: self.call, detail });
                }
            }
        }
    }
}

/// What the guest is at for it ends.
impl Drop for Out {
    fn drop(&mut self) {
        let Some(entry) = self.channel.sessions.lock().open.remove(&self.id) else { return };
        entry.credit.close();
        let close = Message::Close { session: self.id }.encode(self.channel.nonce);
        if let Err(mpsc::error::TrySendError::Full(close)) = self.channel.out.try_send(close)
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let out = self.channel.out.clone();
            runtime.spawn(async move { out.send(close).await });
        }
    }
}
