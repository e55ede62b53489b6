//! The messages, and how each is a frame.

use crate::bytes::{Put, Take};
use crate::facts::Facts;
use crate::{ARGUMENTS_MAX, DATA_MAX, HEAD, MARKER, PAYLOAD_MAX, TAIL};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// To the guest: a program's input, an archive to unpack.
    In,
    /// From the guest: a program's output, an archive.
    Out,
    Err,
}

/// What a session is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    Exec(ExecWish),
    /// An archive of what is at that path.
    Pack {
        path: String,
    },
    /// Unpacks an archive, which comes as In, to that path.
    Unpack {
        path: String,
    },
    Facts,
    Freeze,
    Thaw,
    ConsoleSize {
        columns: u16,
        rows: u16,
    },
    /// The time now, in nanoseconds since 1970.
    Time {
        nanos: u64,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExecWish {
    /// The program, and its arguments.
    pub argv: Vec<String>,
    pub env: Vec<(String, String)>,
    pub cwd: Option<String>,
    pub user: Option<String>,
    /// A terminal of so many columns and rows; pipes where absent.
    pub terminal: Option<(u16, u16)>,
    /// Whether input comes; it is empty where not.
    pub input: bool,
}

impl ExecWish {
    /// What arguments and environment take, as the kernel counts them.
    pub fn size(&self) -> usize {
        let argv: usize = self.argv.iter().map(|a| a.len() + 1).sum();
        let env: usize = self.env.iter().map(|(key, value)| key.len() + value.len() + 2).sum();
        argv.saturating_add(env)
    }
}

/// Why the guest does not do it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// What was asked for is wrong in itself.
    Invalid,
    /// No such file, folder or user.
    Missing,
    /// The guest's kernel or system cannot.
    Unsupported,
    /// A file system of the guest's has no room.
    Full,
    Failed,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It is under way.
    Started,
    /// It ended with that status: 128 and the signal's number where a signal ended it. The last of its session.
    Exit(i32),
    /// Done, with so many of what it was about. The last of its session.
    Done { count: u64, bytes: u64 },
    /// The last of its session.
    Facts(Facts),
    /// The last of its session.
    Failed { trouble: Trouble, detail: String },
}

impl Answer {
    pub const fn last(&self) -> bool {
        !matches!(self, Self::Started)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    Open {
        session: u32,
        wish: Wish,
    },
    /// At least one byte and at most [`DATA_MAX`].
    Data {
        session: u32,
        stream: Stream,
        bytes: Vec<u8>,
    },
    /// Nothing more comes of that stream.
    End {
        session: u32,
        stream: Stream,
    },
    /// The other end may send so much more of that session.
    Credit {
        session: u32,
        bytes: u32,
    },
    Signal {
        session: u32,
        number: u32,
    },
    Resize {
        session: u32,
        columns: u16,
        rows: u16,
    },
    /// Nobody waits for that session any more: what it does is ended.
    Close {
        session: u32,
    },
    Reply {
        session: u32,
        answer: Answer,
    },
}

impl Message {
    /// The frame that says it, in the connection of that nonce.
    pub fn encode(&self, nonce: u32) -> Vec<u8> {
        let (kind, session) = (self.kind(), self.session());
        let room = if let Self::Data { bytes, .. } = self { bytes.len() + 1 } else { 64 };
        let mut put = Put(Vec::with_capacity(HEAD + room + TAIL));
        put.u8(MARKER);
        put.u8(kind);
        put.u32(session);
        put.u32(0);
        put.u32(nonce);
        self.put(&mut put);
        let length = u32::try_from(put.0.len() - HEAD).unwrap_or(u32::MAX);
        put.0[6..10].copy_from_slice(&length.to_be_bytes());
        put.u32(!nonce);
        put.0
    }

    pub const fn session(&self) -> u32 {
        match self {
            Self::Open { session, .. }
            | Self::Data { session, .. }
            | Self::End { session, .. }
            | Self::Credit { session, .. }
            | Self::Signal { session, .. }
            | Self::Resize { session, .. }
            | Self::Close { session }
            | Self::Reply { session, .. } => *session,
        }
    }

    const fn kind(&self) -> u8 {
        match self {
            Self::Open { .. } => 1,
            Self::Data { .. } => 2,
            Self::End { .. } => 3,
            Self::Credit { .. } => 4,
            Self::Signal { .. } => 5,
            Self::Resize { .. } => 6,
            Self::Close { .. } => 7,
            Self::Reply { .. } => 8,
        }
    }

    /// The longest payload that a frame of that kind may have; 0 for what is no kind.
    pub(crate) const fn longest(kind: u8) -> usize {
        match kind {
            1 | 8 => PAYLOAD_MAX,
            2 => DATA_MAX + 1,
            3..=7 => 8,
            _ => 0,
        }
    }

    fn put(&self, put: &mut Put) {
        match self {
            Self::Open { wish, .. } => put_wish(put, wish),
            Self::Data { stream, bytes, .. } => {
                put.u8(stream_number(*stream));
                put.0.extend_from_slice(bytes);
            }
            Self::End { stream, .. } => put.u8(stream_number(*stream)),
            Self::Credit { bytes: number, .. } | Self::Signal { number, .. } => put.u32(*number),
            Self::Resize { columns, rows, .. } => {
                put.u16(*columns);
                put.u16(*rows);
            }
            Self::Close { .. } => {}
            Self::Reply { answer, .. } => put_answer(put, answer),
        }
    }

    /// The message of a frame. None where it is none, or where something is left over.
    pub(crate) fn decode(kind: u8, session: u32, payload: &[u8]) -> Option<Self> {
        let mut take = Take(payload);
        let message = match kind {
            1 => Self::Open { session, wish: take_wish(&mut take)? },
            2 => {
                let stream = take_stream(&mut take)?;
                let bytes = take.rest();
                if bytes.is_empty() {
                    return None;
                }
                Self::Data { session, stream, bytes }
            }
            3 => Self::End { session, stream: take_stream(&mut take)? },
            4 => Self::Credit { session, bytes: take.u32()? },
            5 => Self::Signal { session, number: take.u32()? },
            6 => Self::Resize { session, columns: take.u16()?, rows: take.u16()? },
            7 => Self::Close { session },
            8 => Self::Reply { session, answer: take_answer(&mut take)? },
            _ => return None,
        };
        take.0.is_empty().then_some(message)
    }
}

const fn stream_number(stream: Stream) -> u8 {
    match stream {
        Stream::In => 0,
        Stream::Out => 1,
        Stream::Err => 2,
    }
}

fn take_stream(take: &mut Take<'_>) -> Option<Stream> {
    Some(match take.u8()? {
        0 => Stream::In,
        1 => Stream::Out,
        2 => Stream::Err,
        _ => return None,
    })
}

fn put_wish(put: &mut Put, wish: &Wish) {
    match wish {
        Wish::Exec(exec) => {
            put.u8(1);
            put.list(&exec.argv, |put, text| put.text(text));
            put.list(&exec.env, |put, (key, value)| {
                put.text(key);
                put.text(value);
            });
            put.maybe(exec.cwd.as_deref());
            put.maybe(exec.user.as_deref());
            put.u8(u8::from(exec.terminal.is_some()));
            if let Some((columns, rows)) = exec.terminal {
                put.u16(columns);
                put.u16(rows);
            }
            put.u8(u8::from(exec.input));
        }
        Wish::Pack { path } => {
            put.u8(2);
            put.text(path);
        }
        Wish::Unpack { path } => {
            put.u8(3);
            put.text(path);
        }
        Wish::Facts => put.u8(4),
        Wish::Freeze => put.u8(5),
        Wish::Thaw => put.u8(6),
        Wish::ConsoleSize { columns, rows } => {
            put.u8(7);
            put.u16(*columns);
            put.u16(*rows);
        }
        Wish::Time { nanos } => {
            put.u8(8);
            put.u64(*nanos);
        }
    }
}

fn take_wish(take: &mut Take<'_>) -> Option<Wish> {
    Some(match take.u8()? {
        1 => Wish::Exec(ExecWish {
            argv: take.list(ARGUMENTS_MAX, Take::text)?,
            env: take.list(ARGUMENTS_MAX, |take| Some((take.text()?, take.text()?)))?,
            cwd: take.maybe()?,
            user: take.maybe()?,
            terminal: if take.flag()? { Some((take.u16()?, take.u16()?)) } else { None },
            input: take.flag()?,
        }),
        2 => Wish::Pack { path: take.text()? },
        3 => Wish::Unpack { path: take.text()? },
        4 => Wish::Facts,
        5 => Wish::Freeze,
        6 => Wish::Thaw,
        7 => Wish::ConsoleSize { columns: take.u16()?, rows: take.u16()? },
        8 => Wish::Time { nanos: take.u64()? },
        _ => return None,
    })
}

fn put_answer(put: &mut Put, answer: &Answer) {
    match answer {
        Answer::Started => put.u8(1),
        Answer::Exit(status) => {
            put.u8(2);
            put.u32(status.cast_unsigned());
        }
        Answer::Done { count, bytes } => {
            put.u8(3);
            put.u64(*count);
            put.u64(*bytes);
        }
        Answer::Facts(facts) => {
            put.u8(4);
            facts.put(put);
        }
        Answer::Failed { trouble, detail } => {
            put.u8(5);
            put.u8(match trouble {
                Trouble::Invalid => 0,
                Trouble::Missing => 1,
                Trouble::Unsupported => 2,
                Trouble::Failed => 3,
                Trouble::Full => 4,
            });
            put.text(detail);
        }
    }
}

/// The longest reason that is taken.
const DETAIL_MAX: usize = 4096;

fn take_answer(take: &mut Take<'_>) -> Option<Answer> {
    Some(match take.u8()? {
        1 => Answer::Started,
        2 => Answer::Exit(take.u32()?.cast_signed()),
        3 => Answer::Done { count: take.u64()?, bytes: take.u64()? },
        4 => Answer::Facts(Facts::take(take)?),
        5 => {
            let trouble = match take.u8()? {
                0 => Trouble::Invalid,
                1 => Trouble::Missing,
                2 => Trouble::Unsupported,
                3 => Trouble::Failed,
                4 => Trouble::Full,
                _ => return None,
            };
            let detail = take.text().filter(|text| text.len() <= DETAIL_MAX)?;
            // For people: nothing that a terminal would obey.
            Answer::Failed { trouble, detail: detail.replace(char::is_control, " ") }
        }
        _ => return None,
    })
}
