//! A guest's screen: a picture of it, and VNC on a Unix socket behind a ticket.

mod picture;

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use super::VmError;
pub use picture::{Picture, PictureError};

/// Off where the guest does not run, Missing where there is none, Unsupported where it was started without graphics.
#[async_trait]
pub trait GuestGraphics {
    async fn screenshot(&self, id: Uuid) -> Result<Picture, VmError>;
    /// Sets the password that a VNC client must know, at most eight characters, for that long from now, and gives the
    /// socket on which VNC is spoken. One that was set before holds no more.
    async fn open_vnc(&self, id: Uuid, password: &str, time: Duration) -> Result<PathBuf, VmError>;
    /// From now on no client is let in. Those that are stay.
    async fn close_vnc(&self, id: Uuid) -> Result<(), VmError>;
}
