//! What the guest shows, where it was asked to have a screen.

use std::path::Path;

use agentd_api::Timestamp;

use super::element::{Element, el};
use crate::vm::DomainSpec;

/// A screen costs firmware and kernel some time at every boot: none unless it is asked for. VGA, which all guests know
/// from their first moment on; a tablet, so that a viewer's pointer is where the guest's is.
pub(super) fn screen(spec: &DomainSpec) -> Vec<Element> {
    if !spec.graphics {
        return vec![el("video").child(el("model").attr("type", "none"))];
    }
    vec![
        el("input").attr("type", "tablet").attr("bus", "virtio"),
        vnc(None, None),
        el("video").child(el("model").attr("type", "vga").attr("vram", 16384).attr("heads", 1)),
    ]
}

/// On a socket that libvirt makes and names. An empty password is one that lets nobody in.
pub(super) fn vnc(socket: Option<&Path>, ticket: Option<(&str, Timestamp)>) -> Element {
    let listen = el("listen").attr("type", "socket");
    let vnc = el("graphics").attr("type", "vnc");
    let vnc = match ticket {
        None => vnc.attr("passwd", ""),
        // In seconds and without a zone, as libvirt wants it.
        Some((password, until)) => {
            let whole = Timestamp(until.millis() / 1000 * 1000).to_string();
            vnc.attr("passwd", password).attr("passwdValidTo", whole.trim_end_matches('Z'))
        }
    };
    vnc.child(match socket {
        Some(socket) => listen.attr("socket", socket.display()),
        None => listen,
    })
}
