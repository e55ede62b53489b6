//! A guest's serial console, as the emulator offers it. What is said there is in the log that the domain was defined with.

use std::path::PathBuf;

use async_trait::async_trait;
use uuid::Uuid;

use super::VmError;

#[async_trait]
pub trait GuestConsole {
    /// The terminal whose other end is the running guest's serial port: what is written to it is typed. Its name may be
    /// another guest's after this one has ended, so it is to be asked for again once it is open. Off where the guest does
    /// not run, Missing where there is none, Unsupported where it has no such port.
    async fn console_terminal(&self, id: Uuid) -> Result<PathBuf, VmError>;
}
