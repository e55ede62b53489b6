//! The daemon: http -> intent -> store -> reconcile -> drivers -> host.

pub mod config;
pub mod daemon;
pub mod doctor;
pub mod host;
pub mod http;
pub mod intent;
pub mod reconcile;
pub mod schedule;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
