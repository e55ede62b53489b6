//! One file a noun: what can be said about it, and what is done then. What nouns share is in `verb`.

pub mod adopt;
pub mod backup;
pub mod completion;
pub mod container;
pub mod cp;
pub mod delete;
pub mod describe;
pub mod doctor;
pub mod events;
pub mod exec;
mod file;
pub mod flavor;
pub mod get;
pub mod image;
pub mod info;
pub mod network;
pub mod retry;
pub mod shutdown;
pub mod snapshot;
pub mod ssh_key;
pub mod stats;
pub mod top;
pub mod version;
pub mod vm;
pub mod volume;
pub mod watch;
