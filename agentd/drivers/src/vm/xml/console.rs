//! How the guest and the host talk: the serial console and the guest agent's channel.

use super::element::{Element, el};
use crate::vm::DomainSpec;

/// The serial port, which is the console, with all that it says in a log.
pub(super) fn console(spec: &DomainSpec) -> [Element; 2] {
    let log = el("log").attr("file", spec.console_log.display()).attr("append", "on");
    let serial = el("serial").attr("type", "pty").child(log);
    [
        serial.child(el("target").attr("type", "isa-serial").attr("port", 0)),
        el("console").attr("type", "pty").child(el("target").attr("type", "serial").attr("port", 0)),
    ]
}

/// Where QEMU's guest agent is reached, if the guest runs it, and where agentd's own is.
pub(super) fn agent_channels(spec: &DomainSpec) -> impl Iterator<Item = Element> {
    let target = |name: &str| el("target").attr("type", "virtio").attr("name", name);
    let channel = || el("channel").attr("type", "unix");
    let ours = spec.agent.as_ref().map(|socket| {
        let source = el("source").attr("mode", "bind").attr("path", socket.display());
        channel().child(source).child(target(agentd_guest_wire::PORT))
    });
    [channel().child(target("org.qemu.guest_agent.0"))].into_iter().chain(ours)
}
