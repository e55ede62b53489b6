//! Takes messages out of a stream of bytes whose beginning, and whose middle, may be of an older connection.
//!
//! ```text
//!   lost --greeting--> (the owner names the nonce) --> in step --bytes that are no frame--> lost
//! ```
//! Holds at most one frame, and what one push brought.

use crate::message::Message;
use crate::{HEAD, MARKER, TAIL};

/// Who sends the greetings that are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Host,
    Guest,
}

const MAGIC: usize = 16;
const GREETING: usize = MAGIC + 12;

impl Side {
    pub(crate) const fn magic(self) -> [u8; MAGIC] {
        match self {
            Self::Host => *b"\xa9agentd to guest",
            Self::Guest => *b"\xa9guest to agentd",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A connection begins, of that nonce and in that version of what is said.
    Greeting {
        nonce: u32,
        version: u32,
    },
    Message(Message),
    /// What came was no frame of this connection; nothing is found until the next greeting.
    Lost,
}

#[derive(Debug)]
pub struct Parser {
    from: Side,
    nonce: Option<u32>,
    buffer: Vec<u8>,
    /// How much of the buffer is done with.
    done: usize,
}

impl Parser {
    /// Of what `from` sends. Lost at first.
    pub fn new(from: Side) -> Self {
        Self { from, nonce: None, buffer: Vec::new(), done: 0 }
    }

    /// Frames of that nonce count from here on.
    pub fn accept(&mut self, nonce: u32) {
        self.nonce = Some(nonce);
    }

    /// Forgets all: the next thing is a greeting.
    pub fn reset(&mut self) {
        (self.nonce, self.done) = (None, 0);
        self.buffer = Vec::new();
    }

    /// As lost, with what has come kept: the next thing that is found is a greeting.
    pub fn reset_to_greeting(&mut self) {
        self.nonce = None;
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.done);
        self.done = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next thing that is whole. To be called until it gives None.
    #[expect(clippy::should_implement_trait, reason = "it is no iterator: more may come after None")]
    pub fn next(&mut self) -> Option<Found> {
        let Some(nonce) = self.nonce else { return self.search() };
        loop {
            let rest = &self.buffer[self.done..];
            match *rest.first()? {
                // What agentd fills up with.
                0 => self.done += rest.iter().take_while(|b| **b == 0).count(),
                MARKER => return self.frame(nonce),
                b if b == self.from.magic()[0] => {
                    let short = rest.len() < GREETING;
                    if let Some(found) = self.greeting_at(self.done) {
                        return Some(found);
                    }
                    return if short { None } else { Some(self.lost()) };
                }
                _ => return Some(self.lost()),
            }
        }
    }

    fn lost(&mut self) -> Found {
        // What was taken for a frame may hold the greeting.
        self.nonce = None;
        Found::Lost
    }

    fn frame(&mut self, nonce: u32) -> Option<Found> {
        let rest = &self.buffer[self.done..];
        let number = |at: usize| rest.get(at..at + 4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]));
        let (kind, session, length, named) = (*rest.get(1)?, number(2)?, number(6)? as usize, number(10)?);
        let longest = Message::longest(kind);
        if named != nonce || longest == 0 || length > longest {
            return Some(self.lost());
        }
        let tail = number(HEAD + length)?;
        let message = Message::decode(kind, session, &rest[HEAD..HEAD + length]);
        match message {
            Some(message) if tail == !nonce => {
                self.done += HEAD + length + TAIL;
                Some(Found::Message(message))
            }
            _ => Some(self.lost()),
        }
    }

    fn greeting_at(&mut self, at: usize) -> Option<Found> {
        let bytes = self.buffer.get(at..at + GREETING)?;
        let number = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let (nonce, version, inverse) = (number(MAGIC), number(MAGIC + 4), number(MAGIC + 8));
        if bytes[..MAGIC] != self.from.magic() || inverse != !nonce {
            return None;
        }
        self.done = at + GREETING;
        Some(Found::Greeting { nonce, version })
    }

    /// Skips to the next greeting.
    fn search(&mut self) -> Option<Found> {
        let magic = self.from.magic();
        loop {
            let rest = &self.buffer[self.done..];
            let Some(at) = rest.iter().position(|b| *b == magic[0]) else {
                self.done = self.buffer.len();
                return None;
            };
            self.done += at;
            let rest = &self.buffer[self.done..];
            if rest.len() < GREETING && magic.starts_with(&rest[..rest.len().min(MAGIC)]) {
                return None;
            }
            match self.greeting_at(self.done) {
                Some(found) => return Some(found),
                None => self.done += 1,
            }
        }
    }
}
