//! Where the serial port of a running guest is, as libvirt says.

use std::path::PathBuf;

use async_trait::async_trait;
use quick_xml::events::{BytesStart, Event};
use uuid::Uuid;
use virt::connect::Connect;
use virt::domain::Domain;

use super::LibvirtVm;
use super::domains::find;
use super::fault::Fault;
use crate::vm::{GuestConsole, VmError};

#[async_trait]
impl GuestConsole for LibvirtVm {
    async fn console_terminal(&self, id: Uuid) -> Result<PathBuf, VmError> {
        self.look("find a guest's console", move |c, tag| terminal(c, tag, id)).await
    }
}

fn terminal(connect: &Connect, tag: &str, id: Uuid) -> Result<PathBuf, Fault> {
    let xml = running(connect, tag, id)?.get_xml_desc(0)?;
    terminal_in(&xml).ok_or_else(|| {
        VmError::Unsupported("this guest was started without a serial port that can be typed into".to_owned())
            .into()
    })
}

/// Our domain of that id, if it runs.
pub(super) fn running(connect: &Connect, tag: &str, id: Uuid) -> Result<Domain, Fault> {
    let (domain, _) = find(connect, tag, id)?.ok_or(VmError::Missing(id))?;
    if !domain.is_active()? {
        return Err(VmError::Off(id).into());
    }
    Ok(domain)
}

pub(super) fn attribute(tag: &BytesStart<'_>, key: &str) -> Option<String> {
    let found = tag.try_get_attribute(key).ok()??;
    quick_xml::escape::unescape(&found.value).ok().map(std::borrow::Cow::into_owned)
}

/// The terminal of the first serial port, where it is one.
fn terminal_in(xml: &str) -> Option<PathBuf> {
    let mut reader = quick_xml::Reader::from_str(xml);
    let mut inside = false;
    loop {
        match reader.read_event().ok()? {
            // A disk's serial number is an element of that name too, without a type.
            Event::Start(tag) if tag.name().as_ref() == "serial" => match attribute(&tag, "type") {
                Some(kind) if kind != "pty" => return None,
                kind => inside = kind.is_some(),
            },
            Event::End(tag) if inside && tag.name().as_ref() == "serial" => return None,
            Event::Empty(tag) | Event::Start(tag) if inside && tag.name().as_ref() == "source" => {
                return attribute(&tag, "path").map(PathBuf::from);
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
    fn the_first_serial_port_is_found() {
        let xml = "<domain><devices><disk><serial>root</serial></disk><channel type='pty'><source path='/dev/pts/9'/></channel>\
                   <serial type='pty'><source path='/dev/pts/3'/><log file='/l'/><target port='0'/></serial>\
                   <console type='pty' tty='/dev/pts/3'><source path='/dev/pts/3'/></console></devices></domain>";
        assert_eq!(terminal_in(xml), Some(PathBuf::from("/dev/pts/3")));
        for other in [
            "<domain><devices/></domain>",
            "<domain><serial type='unix'><source mode='bind' path='/s'/></serial></domain>",
            "<domain><serial type='pty'><target port='0'/></serial><x><source path='/dev/pts/1'/></x></domain>",
            "<domain><serial type='pty'>",
        ] {
            assert_eq!(terminal_in(other), None, "{other}");
        }
    }
}
