//! A guest's screen through libvirt. VNC is on a socket that libvirt makes, and lets nobody in but while a ticket holds:
//! the definition's password is empty, which QEMU takes for one that has expired.

use std::path::PathBuf;
use std::time::Duration;

use agentd_api::Timestamp;
use async_trait::async_trait;
use quick_xml::events::Event;
use uuid::Uuid;
use virt::connect::Connect;
use virt::domain::Domain;
use virt::stream::Stream;
use virt::sys;

use super::console::{attribute, running};
use super::fault::Fault;
use super::{ASK, LibvirtVm, TELL};
use crate::vm::graphics::Picture;
use crate::vm::{GuestGraphics, VmError, xml};

/// A screen of 8,000 by 8,000 takes less.
const PICTURE_MAX: usize = 256 << 20;

#[async_trait]
impl GuestGraphics for LibvirtVm {
    async fn screenshot(&self, id: Uuid) -> Result<Picture, VmError> {
        self.run("take a picture of a guest's screen", TELL, move |c, tag| screenshot(c, tag, id)).await
    }

    async fn open_vnc(&self, id: Uuid, password: &str, time: Duration) -> Result<PathBuf, VmError> {
        let ticket = Some((password.to_owned(), Timestamp::now().plus(time)));
        self.run("open a guest's VNC", ASK, move |c, tag| set_ticket(c, tag, id, ticket)).await
    }

    async fn close_vnc(&self, id: Uuid) -> Result<(), VmError> {
        self.run("close a guest's VNC", ASK, move |c, tag| set_ticket(c, tag, id, None)).await.map(drop)
    }
}

/// The guest, and the socket of its VNC.
fn with_graphics(connect: &Connect, tag: &str, id: Uuid) -> Result<(Domain, PathBuf), Fault> {
    let domain = running(connect, tag, id)?;
    let socket = socket_in(&domain.get_xml_desc(0)?)
        .ok_or_else(|| VmError::Unsupported("this guest was started without graphics".to_owned()))?;
    Ok((domain, socket))
}

fn screenshot(connect: &Connect, tag: &str, id: Uuid) -> Result<Picture, Fault> {
    let (domain, _) = with_graphics(connect, tag, id)?;
    let stream = Stream::new(connect, 0)?;
    let media_type = domain.screenshot(&stream, 0, 0)?;
    let (mut bytes, mut buffer) = (Vec::new(), vec![0; 256 << 10]);
    loop {
        let read = stream.recv(&mut buffer)?;
        if read == 0 {
            break;
        }
        bytes.extend_from_slice(buffer.get(..read).unwrap_or_default());
        if bytes.len() > PICTURE_MAX {
            // The stream is aborted as it is dropped.
            return Err(VmError::Refused("its screen is too large for a picture".to_owned()).into());
        }
    }
    stream.finish()?;
    Ok(Picture { media_type, bytes })
}

fn set_ticket(
    connect: &Connect,
    tag: &str,
    id: Uuid,
    ticket: Option<(String, Timestamp)>,
) -> Result<PathBuf, Fault> {
    let (domain, socket) = with_graphics(connect, tag, id)?;
    let device =
        xml::render_vnc(&socket, ticket.as_ref().map(|(password, until)| (password.as_str(), *until)));
    domain.update_device_flags(&device, sys::VIR_DOMAIN_AFFECT_LIVE)?;
    Ok(socket)
}

/// The socket on which the domain speaks VNC, where it does on one.
fn socket_in(xml: &str) -> Option<PathBuf> {
    let mut reader = quick_xml::Reader::from_str(xml);
    loop {
        match reader.read_event().ok()? {
            Event::Start(tag) | Event::Empty(tag)
                if tag.name().as_ref() == "graphics"
                    && attribute(&tag, "type").is_some_and(|kind| kind == "vnc") =>
            {
                return attribute(&tag, "socket").map(PathBuf::from);
            }
            Event::Eof => return None,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_is_found() {
        let xml = "<domain><devices><graphics type='spice'/><graphics type='vnc' socket='/run/a &amp; b'>\
                   <listen type='socket' socket='/run/a &amp; b'/></graphics></devices></domain>";
        assert_eq!(socket_in(xml), Some(PathBuf::from("/run/a & b")));
        for other in ["<domain/>", "<domain><graphics type='vnc' port='5900' listen='127.0.0.1'/></domain>"] {
            assert_eq!(socket_in(other), None, "{other}");
        }
    }
}
