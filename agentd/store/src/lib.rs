//! What exists, durably: objects with revisions, transactions over many of them, allocations of what must be unique, a
//! watch that resumes, events, and the answers to requests that may be repeated.
//!
//! ```text
//!   readers  ------------------------------>  memory  <---publish---  writer  --commit-->  engine (SQLite)
//!   watchers <------------------------------  history <-'               ^
//!   callers of transact  --queue----------------------------------------'
//! ```
//!
//! Reads are served from memory. Writes go through one thread, which takes all transactions that wait, makes them
//! durable together, shows them to everyone, and only then answers. When a commit fails nobody is answered with
//! success, memory is as before, and reading goes on.
//!
//! It knows no kind's rules, no driver and no HTTP. What it cannot read back as it wrote it, it refuses to serve.

mod backup;
mod batch;
pub mod engine;
mod error;
mod events;
mod history;
mod json;
mod load;
mod memory;
mod past;
mod query;
mod restore;
mod scan;
mod shared;
mod stage;
mod store;
mod stored;
mod tx;
mod wire;
mod writer;

pub use agentd_api::list::WatchKind;
pub use backup::{BackupError, Snapshot};
pub use engine::sqlite::SCHEMA;
pub use error::{DecodeError, OpenError, StoreError, Transact};
pub use events::EventQuery;
pub use history::{Change, Compacted, Watch};
pub use json::ObjectJson;
pub use query::{LabelSelector, Listing, Query};
pub use restore::{RestoreError, Vacancy};
pub use store::{Options, Stats, Store};
pub use stored::Stored;
pub use tx::{Expect, NewEvent, NewObject, Remembered, Tx, TxError, Update};
