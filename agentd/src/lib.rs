//! The daemon: http -> intent -> store -> reconcile -> drivers -> host.

pub mod intent;
