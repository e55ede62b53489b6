//! What agentd and its program in a guest say to each other, over a virtio-serial port that carries bytes and nothing
//! else. No I/O here.
//!
//! ```text
//!   agentd                                guest
//!     greeting(nonce), zeros      ---->                    a new connection: all sessions of earlier ones end
//!                                 <----   greeting(nonce)  from here on only frames of this nonce count
//!     Open(1, Exec)               ---->
//!                                 <----   Started(1), Data(1, Out) ..., Exit(1)
//! ```
//! The port outlives both ends, so either may find the middle of something old in it. A frame names its connection's nonce
//! at both of its ends: one that was cut and went on as something else is known by that, and what follows is skipped up
//! to the next greeting. Many sessions share the port; each may send only as much data as the other end has granted it
//! ([`WINDOW`], then credits), so that a session whose reader is slow stops alone, and costs bounded memory.

mod bytes;
mod facts;
mod message;
mod parser;
#[cfg(test)]
mod tests;

pub use facts::{Facts, Filesystem, Interface, Os};
pub use message::{Answer, ExecWish, Message, Stream, Trouble, Wish};
pub use parser::{Found, Parser, Side};

/// The name of the port, as the guest's kernel shows it.
pub const PORT: &str = "org.agentd.guest.0";
/// Goes up when an end must know that the other speaks otherwise.
pub const VERSION: u32 = 1;

/// The longest payload of a frame: a wish, or facts. Longer is no frame.
pub const PAYLOAD_MAX: usize = 256 << 10;
/// The most data that one frame carries: with its head and tail it is one write to the port.
pub const DATA_MAX: usize = (32 << 10) - HEAD - TAIL;
/// What each end may have sent of a session before it is granted more: see [`cost`].
pub const WINDOW: u32 = 256 << 10;
/// What arguments and environment of a program may take together.
pub const ARGUMENTS_MAX: usize = 128 << 10;
/// How many sessions there may be at once.
pub const SESSIONS_MAX: usize = 64;

const MARKER: u8 = 0xa7;
/// Marker, kind, session, length, nonce.
pub const HEAD: usize = 1 + 1 + 4 + 4 + 4;
/// The nonce, inverted.
pub const TAIL: usize = 4;

/// What so much data costs of a window: its bytes, and what keeping a piece costs, so that many small pieces are not
/// cheaper than they are.
pub const fn cost(bytes: usize) -> u32 {
    // A piece of data is at most DATA_MAX long.
    bytes as u32 + 64
}

/// What a connection begins with, from either end. A guest that has just started greets with nonce 0, which asks to be
/// greeted.
pub fn greeting(side: Side, nonce: u32) -> Vec<u8> {
    let mut out = side.magic().to_vec();
    out.extend_from_slice(&nonce.to_be_bytes());
    out.extend_from_slice(&VERSION.to_be_bytes());
    out.extend_from_slice(&(!nonce).to_be_bytes());
    out
}

/// What agentd sends after its greeting: enough of nothing to end any frame that an earlier connection cut, whose
/// receiver would wait for its rest.
pub fn flush() -> Vec<u8> {
    vec![0; PAYLOAD_MAX + HEAD + TAIL]
}
