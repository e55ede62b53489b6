//! A container's output, taken apart: the engine says of each piece which of the two streams it is of, in a head of eight
//! bytes, and of a terminal's nothing. A piece is handed on as far as it came, however long it says that it is.

use bytes::{Buf, Bytes, BytesMut};

use crate::vm::guest::Said;

const HEAD: usize = 8;
/// The most that is handed on at once: what one frame of our own carries.
const PIECE: usize = 64 << 10;

#[derive(Debug)]
pub(super) struct Frames {
    kept: BytesMut,
    state: State,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Terminal,
    Head,
    Piece { err: bool, left: usize },
}

impl Frames {
    pub(super) fn new(terminal: bool) -> Self {
        Self { kept: BytesMut::new(), state: if terminal { State::Terminal } else { State::Head } }
    }

    /// What came. To be taken out by [`pop`](Self::pop) before more is put in, so that no more than this is kept.
    pub(super) fn push(&mut self, bytes: &Bytes) {
        self.kept.extend_from_slice(bytes);
    }

    pub(super) fn room(&mut self) -> &mut BytesMut {
        &mut self.kept
    }

    /// The next piece, or nothing until more has come.
    pub(super) fn pop(&mut self) -> Option<Said> {
        loop {
            match self.state {
                State::Terminal => return self.take(usize::MAX).map(Said::Out),
                State::Head => {
                    if self.kept.len() < HEAD {
                        return None;
                    }
                    let mut head = self.kept.split_to(HEAD);
                    let stream = head.get_u8();
                    head.advance(3);
                    self.state = State::Piece { err: stream >= 2, left: head.get_u32() as usize };
                }
                State::Piece { left: 0, .. } => self.state = State::Head,
                State::Piece { err, left } => {
                    let bytes = self.take(left)?;
                    self.state = State::Piece { err, left: left - bytes.len() };
                    return Some(if err { Said::Err(bytes) } else { Said::Out(bytes) });
                }
            }
        }
    }

    fn take(&mut self, most: usize) -> Option<Vec<u8>> {
        let length = self.kept.len().min(most).min(PIECE);
        (length > 0).then(|| self.kept.split_to(length).to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn head(stream: u8, length: u32) -> Vec<u8> {
        [&[stream, 0, 0, 0][..], &length.to_be_bytes()].concat()
    }

    #[test]
    fn a_piece_that_is_not_whole_is_handed_on_as_far_as_it_came() {
        let mut frames = Frames::new(false);
        frames.push(&[head(1, 4_000_000_000), b"a line without end".to_vec()].concat().into());
        assert_eq!(frames.pop(), Some(Said::Out(b"a line without end".to_vec())));
        assert_eq!(frames.pop(), None);
        frames.push(&Bytes::from_static(b" goes on"));
        assert_eq!(frames.pop(), Some(Said::Out(b" goes on".to_vec())));
        assert!(frames.room().is_empty(), "nothing is kept");
    }

    #[test]
    fn a_terminal_says_any_byte() {
        let mut frames = Frames::new(true);
        frames.push(&Bytes::from_static(b"\x01\0\0\0\xff\xff\xff\xffx"));
        assert_eq!(frames.pop(), Some(Said::Out(b"\x01\0\0\0\xff\xff\xff\xffx".to_vec())));
    }

    proptest! {
        #[test]
        fn what_was_said_comes_out_however_it_arrives(
            said in proptest::collection::vec((any::<bool>(), proptest::collection::vec(any::<u8>(), 0..200)), 0..12),
            cut in 1_usize..50,
        ) {
            let mut wire = Vec::new();
            for (err, bytes) in &said {
                wire.extend(head(1 + u8::from(*err), bytes.len() as u32));
                wire.extend(bytes);
            }
            let (mut frames, mut out, mut err) = (Frames::new(false), Vec::new(), Vec::new());
            for piece in wire.chunks(cut) {
                frames.push(&Bytes::copy_from_slice(piece));
                while let Some(said) = frames.pop() {
                    match said {
                        Said::Out(bytes) => out.extend(bytes),
                        Said::Err(bytes) => err.extend(bytes),
                        other => prop_assert!(false, "{other:?}"),
                    }
                }
            }
            let of = |wanted: bool| -> Vec<u8> {
                said.iter().filter(|(err, _)| *err == wanted).flat_map(|(_, bytes)| bytes.clone()).collect()
            };
            prop_assert_eq!((out, err), (of(false), of(true)));
        }
    }
}
