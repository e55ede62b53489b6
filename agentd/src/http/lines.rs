//! The lines of watches, made once for all who are told of a change in the same way: a thousand watchers of one change
//! share one piece of memory. Only the newest are kept; what a slower watcher needs is made again for it.

use agentd_api::list::WatchKind;
use agentd_store::Change;
use bytes::{BufMut, Bytes, BytesMut};
use parking_lot::Mutex;

use super::stream::{Framing, text};

/// By the last digits of their revisions.
const KEPT: usize = 64;

pub struct Lines {
    kept: Vec<Mutex<Option<Line>>>,
}

struct Line {
    revision: u64,
    kind: WatchKind,
    framing: Framing,
    bytes: Bytes,
}

impl Default for Lines {
    fn default() -> Self {
        Self { kept: (0..KEPT).map(|_| Mutex::default()).collect() }
    }
}

impl Lines {
    /// How a watcher who sees this change as `kind` is told of it.
    pub(super) fn of(&self, change: &Change, kind: WatchKind, framing: Framing) -> Bytes {
        let place = usize::try_from(change.revision % KEPT as u64).unwrap_or(0);
        let mut kept = self.kept[place].lock();
        if let Some(line) = &*kept
            && (line.revision, line.kind, line.framing) == (change.revision, kind, framing)
        {
            return line.bytes.clone();
        }
        let mut out = BytesMut::new();
        put(framing, &mut out, kind, change.revision, Some(&change.object.json()));
        let bytes = out.freeze();
        // A watcher of the past does not take the place of what the others are at.
        if kept.as_ref().is_none_or(|line| line.revision <= change.revision) {
            *kept = Some(Line { revision: change.revision, kind, framing, bytes: bytes.clone() });
        }
        bytes
    }
}

/// One message of a watch.
pub(super) fn put(
    framing: Framing,
    out: &mut BytesMut,
    kind: WatchKind,
    revision: u64,
    object: Option<&Bytes>,
) {
    let name = kind.as_str();
    out.reserve(object.map_or(0, Bytes::len) + 128);
    framing.begin(out, name, revision);
    text(out, format_args!("{{\"event\":\"{name}\",\"revision\":{revision}"));
    if let Some(json) = object {
        out.put_slice(b",\"object\":");
        out.put_slice(json);
    }
    out.put_u8(b'}');
    framing.end(out);
}

/// What goes out at once. One line alone goes as it is, without being copied.
#[derive(Default)]
pub(super) struct Piece {
    alone: Bytes,
    joined: BytesMut,
}

impl Piece {
    pub fn push(&mut self, line: Bytes) {
        if self.len() == 0 {
            self.alone = line;
        } else {
            self.joined().extend_from_slice(&line);
        }
    }
    /// To write to the end of.
    pub fn joined(&mut self) -> &mut BytesMut {
        let alone = std::mem::take(&mut self.alone);
        self.joined.extend_from_slice(&alone);
        &mut self.joined
    }
    pub fn len(&self) -> usize {
        self.alone.len() + self.joined.len()
    }
    pub fn finish(self) -> Bytes {
        if self.joined.is_empty() { self.alone } else { self.joined.freeze() }
    }
}
