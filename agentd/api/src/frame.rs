//! Frames: what a connection carries once a console, an exec or a copy has upgraded it. A frame is a tag, the length of
//! its payload (four bytes, big-endian) and the payload.
//!
//! Both sides send frames at any time. A side that is sent what it does not know, or more than [`PAYLOAD_MAX`], ends the
//! stream: what follows cannot be trusted. The last frame of a stream that ended as it should is [`Frame::Exit`] or
//! [`Frame::End`]; a connection that closes without one was cut.

/// The longest payload. Longer data goes into several frames.
pub const PAYLOAD_MAX: usize = 64 << 10;
/// The tag and the length.
pub const HEAD: usize = 5;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// Bytes for the other side's input: what is typed, what a program reads.
    In(Vec<u8>),
    /// Nothing more will be put in.
    InEnd,
    /// Bytes of a console, or of a program's standard output.
    Out(Vec<u8>),
    /// Bytes of a program's standard error.
    Err(Vec<u8>),
    /// The terminal has this many columns and rows now.
    Resize { columns: u16, rows: u16 },
    /// A signal for the program, by its number on Linux.
    Signal(i32),
    /// The program ended with this status; 128 and the signal's number where a signal ended it.
    Exit(i32),
    /// For the person, beside the data.
    Note(String),
    /// It failed: a problem document, as JSON. The stream ends.
    Failed(String),
    /// A JSON document that the two ends agreed on, such as what a copy carries next.
    Json(String),
    /// The stream ends, and it ended as it should.
    End,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("a frame has the unknown tag {0}")]
    Tag(u8),
    #[error("a frame of {length} bytes; at most {PAYLOAD_MAX} are allowed")]
    Long { length: usize },
    #[error("a frame with the tag {tag} has a payload that does not fit it")]
    Payload { tag: u8 },
}

impl Frame {
    const fn tag(&self) -> u8 {
        match self {
            Self::In(_) => 1,
            Self::InEnd => 2,
            Self::Out(_) => 3,
            Self::Err(_) => 4,
            Self::Resize { .. } => 5,
            Self::Signal(_) => 6,
            Self::Exit(_) => 7,
            Self::Note(_) => 8,
            Self::Failed(_) => 9,
            Self::Json(_) => 10,
            Self::End => 11,
        }
    }

    /// Appends the frame, as several where its bytes are more than one may carry. Texts that are too long are cut.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let tag = self.tag();
        match self {
            Self::In(data) | Self::Out(data) | Self::Err(data) => {
                data.chunks(PAYLOAD_MAX).for_each(|piece| put(out, tag, piece));
            }
            Self::InEnd | Self::End => put(out, tag, &[]),
            Self::Resize { columns, rows } => {
                let ([a, b], [c, d]) = (columns.to_be_bytes(), rows.to_be_bytes());
                put(out, tag, &[a, b, c, d]);
            }
            Self::Signal(number) | Self::Exit(number) => put(out, tag, &number.to_be_bytes()),
            Self::Note(text) | Self::Failed(text) | Self::Json(text) => {
                let mut end = text.len().min(PAYLOAD_MAX);
                while !text.is_char_boundary(end) {
                    end -= 1;
                }
                put(out, tag, &text.as_bytes()[..end]);
            }
        }
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode(&mut out);
        out
    }

    /// The first frame of `bytes` and how many bytes it took, or nothing while it is not whole.
    pub fn decode(bytes: &[u8]) -> Result<Option<(Self, usize)>, FrameError> {
        let Some((head, rest)) = bytes.split_first_chunk::<HEAD>() else { return Ok(None) };
        let [tag, length @ ..] = *head;
        if !(1..=11).contains(&tag) {
            return Err(FrameError::Tag(tag));
        }
        let length = u32::from_be_bytes(length) as usize;
        if length > PAYLOAD_MAX {
            return Err(FrameError::Long { length });
        }
        let Some(payload) = rest.get(..length) else { return Ok(None) };
        let frame = Self::of(tag, payload).ok_or(FrameError::Payload { tag })?;
        Ok(Some((frame, HEAD + length)))
    }

    fn of(tag: u8, payload: &[u8]) -> Option<Self> {
        let bytes = || payload.to_vec();
        let text = || String::from_utf8(payload.to_vec()).ok();
        let number = || payload.try_into().ok().map(i32::from_be_bytes);
        Some(match tag {
            1 => Self::In(bytes()),
            2 if payload.is_empty() => Self::InEnd,
            3 => Self::Out(bytes()),
            4 => Self::Err(bytes()),
            5 => {
                let [a, b, c, d]: [u8; 4] = payload.try_into().ok()?;
                Self::Resize { columns: u16::from_be_bytes([a, b]), rows: u16::from_be_bytes([c, d]) }
            }
            6 => Self::Signal(number()?),
            7 => Self::Exit(number()?),
            8 => Self::Note(text()?),
            9 => Self::Failed(text()?),
            10 => Self::Json(text()?),
            11 if payload.is_empty() => Self::End,
            _ => return None,
        })
    }
}

/// What has arrived of a stream of frames, whole or not. It does no I/O: a reader appends to [`room`](Self::room).
#[derive(Debug, Default)]
pub struct FrameBuffer {
    bytes: Vec<u8>,
    /// So many of them were given out.
    taken: usize,
}

impl FrameBuffer {
    /// Where what arrives next is appended.
    pub fn room(&mut self) -> &mut Vec<u8> {
        self.bytes.drain(..self.taken);
        self.taken = 0;
        self.bytes.reserve(HEAD);
        &mut self.bytes
    }

    /// The next frame, or nothing while it is not whole.
    pub fn pop(&mut self) -> Result<Option<Frame>, FrameError> {
        let found = Frame::decode(&self.bytes[self.taken..])?;
        Ok(found.map(|(frame, length)| {
            self.taken += length;
            frame
        }))
    }

    /// Whether the stream, should it end now, ended between two frames.
    pub fn is_between(&self) -> bool {
        self.taken == self.bytes.len()
    }
}

fn put(out: &mut Vec<u8>, tag: u8, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    out.push(tag);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_frame() -> impl Strategy<Value = Frame> {
        let data = proptest::collection::vec(any::<u8>(), 1..300);
        prop_oneof![
            data.clone().prop_map(Frame::In),
            Just(Frame::InEnd),
            data.clone().prop_map(Frame::Out),
            data.prop_map(Frame::Err),
            any::<(u16, u16)>().prop_map(|(columns, rows)| Frame::Resize { columns, rows }),
            any::<i32>().prop_map(Frame::Signal),
            any::<i32>().prop_map(Frame::Exit),
            ".*".prop_map(Frame::Note),
            ".*".prop_map(Frame::Failed),
            ".*".prop_map(Frame::Json),
            Just(Frame::End),
        ]
    }

    proptest! {
        #[test]
        fn what_is_put_in_comes_out(frames in proptest::collection::vec(any_frame(), 0..8), cut in 0_usize..64) {
            let mut bytes = Vec::new();
            frames.iter().for_each(|frame| frame.encode(&mut bytes));
            let mut rest = &bytes[..];
            for frame in &frames {
                let (found, taken) = Frame::decode(rest).expect("a frame").expect("a whole one");
                prop_assert_eq!(&found, frame);
                prop_assert_eq!(Frame::decode(&rest[..taken.saturating_sub(1 + cut)]).map(|f| f.is_none()), Ok(true));
                rest = &rest[taken..];
            }
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn they_come_out_however_they_arrive(
            frames in proptest::collection::vec(any_frame(), 0..8),
            pieces in proptest::collection::vec(1_usize..40, 1..8),
        ) {
            let mut bytes = Vec::new();
            frames.iter().for_each(|frame| frame.encode(&mut bytes));
            let (mut buffer, mut found, mut rest) = (FrameBuffer::default(), Vec::new(), &bytes[..]);
            for length in pieces.iter().cycle() {
                while let Some(frame) = buffer.pop().expect("frames") {
                    found.push(frame);
                }
                if rest.is_empty() {
                    break;
                }
                let (now, later) = rest.split_at((*length).min(rest.len()));
                buffer.room().extend_from_slice(now);
                rest = later;
            }
            prop_assert!(buffer.is_between());
            prop_assert_eq!(found, frames);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Frame::decode(&bytes);
        }
    }

    #[test]
    fn what_is_too_long_is_parted_or_cut() {
        let bytes = Frame::Out(vec![7; PAYLOAD_MAX + 1]).to_bytes();
        let (first, taken) = Frame::decode(&bytes).expect("a frame").expect("whole");
        assert_eq!(first, Frame::Out(vec![7; PAYLOAD_MAX]));
        assert_eq!(Frame::decode(&bytes[taken..]), Ok(Some((Frame::Out(vec![7]), HEAD + 1))));
        let text = Frame::Note("ä".repeat(PAYLOAD_MAX)).to_bytes();
        assert!(matches!(Frame::decode(&text), Ok(Some((Frame::Note(t), _))) if t.len() <= PAYLOAD_MAX));
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        assert_eq!(Frame::decode(&[0, 0, 0, 0, 0]), Err(FrameError::Tag(0)));
        assert_eq!(Frame::decode(&[3, 0, 1, 0, 1]), Err(FrameError::Long { length: 65_537 }));
        assert_eq!(Frame::decode(&[5, 0, 0, 0, 1, 9]), Err(FrameError::Payload { tag: 5 }));
        assert_eq!(Frame::decode(&[8, 0, 0, 0, 1, 0xff]), Err(FrameError::Payload { tag: 8 }));
    }
}
