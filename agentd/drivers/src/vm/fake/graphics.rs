//! The screens of the fake's guests: one picture of six pixels, and a VNC socket that greets as a server does, and then
//! says back what it is told.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use agentd_api::Timestamp;
use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixListener;
use uuid::Uuid;

use super::{FakeVm, Inner};
use crate::vm::graphics::Picture;
use crate::vm::{DomainSpec, GuestGraphics, VmError};

/// Three pixels by two.
const PICTURE: &[u8] = b"P6\n3 2\n255\n\xff\0\0\0\xff\0\0\0\xff\xff\xff\xff\0\0\0\x10\x20\x30";
const GREETING: &[u8] = b"RFB 003.008\n";

#[derive(Debug, Default)]
pub(super) struct Screens {
    /// The password that lets a client in, and until when.
    tickets: Mutex<BTreeMap<Uuid, (String, Timestamp)>>,
    sockets: Mutex<BTreeMap<Uuid, PathBuf>>,
}

impl Inner {
    fn screen(&self, vm: Uuid) -> Result<DomainSpec, VmError> {
        self.run_if_on(vm)?;
        let live = self.domains.live(vm).ok_or(VmError::Off(vm))?;
        if live.graphics {
            Ok(live)
        } else {
            Err(VmError::Unsupported("this guest was started without graphics".to_owned()))
        }
    }
}

impl FakeVm {
    /// The password that lets a VNC client in now.
    pub fn vnc_ticket(&self, vm: Uuid) -> Option<String> {
        let tickets = self.inner.screens.tickets.lock();
        tickets.get(&vm).filter(|(_, until)| *until > Timestamp::now()).map(|(password, _)| password.clone())
    }
}

#[async_trait]
impl GuestGraphics for FakeVm {
    async fn screenshot(&self, vm: Uuid) -> Result<Picture, VmError> {
        self.call("screenshot", move |inner| {
            inner.screen(vm)?;
            Ok(Picture { media_type: "image/x-portable-pixmap".to_owned(), bytes: PICTURE.to_vec() })
        })
        .await
    }

    async fn open_vnc(&self, vm: Uuid, password: &str, time: Duration) -> Result<PathBuf, VmError> {
        let ticket = (password.to_owned(), Timestamp::now().plus(time));
        self.call("open_vnc", move |inner| {
            let spec = inner.screen(vm)?;
            inner.screens.tickets.lock().insert(vm, ticket);
            let mut sockets = inner.screens.sockets.lock();
            if let Some(socket) = sockets.get(&vm) {
                return Ok(socket.clone());
            }
            let socket = spec.console_log.with_file_name("vnc.sock");
            let failed =
                |error: std::io::Error| VmError::Failed { call: "listen", detail: error.to_string() };
            tokio::spawn(serve(UnixListener::bind(&socket).map_err(failed)?));
            sockets.insert(vm, socket.clone());
            Ok(socket)
        })
        .await
    }

    async fn close_vnc(&self, vm: Uuid) -> Result<(), VmError> {
        self.call("close_vnc", move |inner| {
            inner.screen(vm)?;
            inner.screens.tickets.lock().remove(&vm);
            Ok(())
        })
        .await
    }
}

async fn serve(listener: UnixListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            let (mut from, mut to) = stream.split();
            // A client that goes away ends it.
            if to.write_all(GREETING).await.is_ok() {
                let _ = tokio::io::copy(&mut from, &mut to).await;
            }
        });
    }
}
