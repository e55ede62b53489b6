//! The daemon: http -> intent -> store -> reconcile -> drivers -> host.

mod bind;
mod claims;
pub mod config;
pub mod daemon;
pub mod doctor;
pub mod host;
pub mod http;
pub mod intent;
mod program;
pub mod reconcile;
pub mod schedule;
mod shares;
#[cfg(any(test, feature = "sim"))]
pub mod sim;

pub use program::main;

/// What one thread makes and another drops, in all sizes and for weeks: the C library's allocator keeps a quarter more
/// memory after many changes, and took a seventh of the time of creates.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;
