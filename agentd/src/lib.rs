//! The daemon: http -> intent -> store -> reconcile -> drivers -> host.

pub mod config;
pub mod host;
pub mod intent;
pub mod reconcile;
