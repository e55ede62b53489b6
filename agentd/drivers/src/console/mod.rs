//! What guests say on their serial consoles, and what is typed into them.
//!
//! ```text
//!   guest --> QEMU --pipe--> virtlogd --> console.log, and once that is full console.log.0, .1, ...
//!                                              |
//!                         snapshot: all that is kept, by position
//!                         reader: from a position on, over the files' changes of name
//!                         watch: told when there is more; marks: when it was said
//!   guest <-- QEMU <--terminal-- input
//! ```
//! libvirt's logger writes and rotates the log, and bounds it (`max_size` times `max_backups` + 1 of virtlogd.conf, 8 MiB
//! as it comes), whether or not agentd runs. agentd only reads it, and keeps its marks beside it.

mod input;
mod marks;
mod reader;
mod snapshot;
#[cfg(test)]
mod tests;
mod watch;

pub use input::{Input, InputError};
pub use marks::Marks;
pub use reader::{Piece, Reader};
pub use snapshot::Snapshot;
pub use watch::{Watched, Watches};
