//! The API over HTTP: verify and convert, nothing else. One generic implementation for all kinds.
//!
//! ```text
//!   accept --> peer (who?) -----+-> service (id, place) --> objects, list, watch, events, server_info, stats,
//!   remote --> trust (who?) ----+                          |  upload, archive, backup, sub
//!                                                          |  reads: the store's memory
//!                                                          |  wishes: the intents
//! ```
//! It owns the connections and their limits, the paths, the wire forms of questions and the HTTP status of every
//! answer. It knows no SQL, no driver and no reconciler, and nothing of any kind but its declaration. The store and the
//! intents are called; what only the assembled daemon knows comes through [`Facts`], [`HostSides`], [`GuestFigures`], [`Upload`], [`Import`], [`Backup`] and [`Subresources`].
//!
//! On failure: whatever goes wrong is a `problem+json` with the request's id. A connection that breaks the limits is
//! answered and closed; no caller can make another wait or the daemon grow without bound.

mod accept;
mod archive;
mod backup;
mod body;
mod doctor;
mod error;
mod events;
mod joined;
mod lines;
mod list;
mod metrics;
mod objects;
pub mod openapi;
mod pace;
mod peer;
mod remote;
mod request;
mod route;
mod select;
mod server_info;
mod service;
mod stats;
mod stream;
mod sub;
mod trust;
mod upload;
mod watch;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use agentd_store::Store;

pub use accept::HttpServer;
pub use archive::{Import, ImportWish};
pub use backup::Backup;
pub use doctor::HostSides;
pub use lines::Lines;
pub use metrics::Metrics;
pub use peer::{Membership, PeerError, PeerRules};
pub use remote::Trusted;
pub use server_info::Facts;
pub use stats::GuestFigures;
pub use sub::{Channel, Duplex, Pieces, Session, SubCall, SubReply, Subresources};
pub use trust::{Pems, Trust, TrustError};
pub use upload::{Content, Upload};

use crate::intent::Intents;

/// What the API stands on.
pub struct App {
    pub store: Store,
    pub intents: Intents,
    pub facts: Arc<dyn Facts>,
    pub sides: Arc<dyn HostSides>,
    pub upload: Arc<dyn Upload>,
    pub import: Arc<dyn Import>,
    pub backup: Arc<dyn Backup>,
    pub subs: Arc<dyn Subresources>,
    pub figures: Arc<dyn GuestFigures>,
    pub metrics: Arc<Metrics>,
    pub lines: Lines,
    pub limits: Limits,
}

/// How much a caller may take of the server, and for how long.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections at a time.
    pub connections: usize,
    /// For the head of a request to arrive whole.
    pub head: Duration,
    /// For a body to arrive whole; of an upload, for its next piece.
    pub body_time: Duration,
    /// Of a body, in bytes. An upload's content has its own, the receiver's.
    pub body: usize,
    /// For a connection to do nothing before it is closed.
    pub idle: Duration,
    /// For a caller not to read what it is answered.
    pub stalled: Duration,
    /// For what is being answered when the server stops.
    pub grace: Duration,
    /// Between the bookmarks of a watch in which nothing happens.
    pub bookmark: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            head: Duration::from_secs(10),
            body_time: Duration::from_secs(30),
            body: 1 << 20,
            idle: Duration::from_secs(600),
            stalled: Duration::from_secs(300),
            grace: Duration::from_secs(1),
            bookmark: Duration::from_secs(10),
        }
    }
}
