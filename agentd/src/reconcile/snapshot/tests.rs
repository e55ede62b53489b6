//! Snapshots on fakes.
