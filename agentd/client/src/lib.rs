//! Calls to agentd over its Unix socket, or over TLS where it is another machine's. The only HTTP client of the project: `agentctl`, the tests and the benches go
//! through here.
//!
//! It owns requests, their retries and time limits, the decoding of answers, watches and the informer that keeps a
//! copy of a kind. It does not print, keeps nothing on disk and decides nothing about objects: what the daemon refuses
//! comes back as the daemon's own [`Problem`](agentd_api::Problem) inside [`ClientError`].
//!
//! ```text
//! Client --- typed:   get::<Vm>, list::<Vm>, create::<Vm>, ... -> Object<Vm>
//!        \-- kind(def): the same for any kind, answers as the bytes that were sent
//!        \-- watch, Informer: changes as they come; upload: an image's content; connect, download: what objects have
//!           beside themselves; events, info, doctor, readyz
//! ```
//!
//! A connection that breaks before the answer is tried once more where that is safe: for reads, and for creates, which
//! always carry an `Idempotency-Key`. Everything else is reported as [`ClientError::Transport`], after which the caller
//! does not know whether the daemon did what it was asked.

mod address;
mod archive;
mod client;
mod connect;
mod error;
mod events;
mod identity;
mod informer;
mod object;
mod options;
mod path;
mod resume;
mod server;
mod sub;
mod transport;
mod trouble;
mod typed;
mod untyped;
mod upload;
mod watch;

pub use address::{Address, AddressError, RemoteAddress};
pub use archive::Archive;
pub use client::Client;
pub use error::ClientError;
pub use events::{EventFollow, EventQuery};
pub use identity::{Identity, IdentityError};
pub use informer::{Informer, InformerEvent};
pub use object::{AnyObject, Item};
pub use options::{ListOptions, WriteOptions};
pub use resume::ResumedWatch;
pub use server::StatsQuery;
pub use sub::{Connection, Download, FrameReader, FrameWriter, SubPath, failed};
pub use transport::decode;
pub use trouble::{Distrust, Refusal};
pub use untyped::KindClient;
pub use upload::Upload;
pub use watch::{Watch, WatchLine, WatchLines};
