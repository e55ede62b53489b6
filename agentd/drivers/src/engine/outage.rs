//! When the engine was away: what ended then, ended with it.
//!
//! A call that is made while an engine is started again is not refused but waits: that no call failed is no proof that it
//! was there. Its events are followed all the time, and their end is. Before the first connection of this daemon there is
//! the engine's own start to go by.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use agentd_api::Timestamp;
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;

use crate::process;

const DOCKERD: &str = "dockerd";
/// Where dockerd says who it is, unless it is told another place.
const PID_FILE: &str = "/run/docker.pid";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outage {
    pub from: Timestamp,
    /// Absent while it is.
    pub to: Option<Timestamp>,
}

impl Outage {
    /// What is known of the last one, after the engine was found away.
    pub fn begin(last: Option<Self>, now: Timestamp) -> Self {
        last.filter(|outage| outage.to.is_none()).unwrap_or(Self { from: now, to: None })
    }

    /// The same, after it was found there.
    pub fn end(self, now: Timestamp) -> Self {
        Self { to: self.to.or(Some(now)), ..self }
    }
}

/// When the dockerd that answers at that socket was started: it has ended what an earlier one left running. None where that
/// cannot be told.
pub(super) fn dockerd_began(socket: &Path) -> Option<Timestamp> {
    // Whoever listens: of a socket that systemd made, systemd.
    let listener = UnixStream::connect(socket).ok()?;
    let listener = getsockopt(&listener.as_fd(), PeerCredentials).ok()?.pid();
    let of_file = || fs::read_to_string(PID_FILE).ok()?.trim().parse().ok();
    let is_dockerd = |pid: &i32| process::name(*pid).as_deref() == Some(DOCKERD);
    let pid = Some(listener).filter(is_dockerd).or_else(|| of_file().filter(is_dockerd))?;
    process::began(pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_has_a_beginning_and_an_end() {
        let at = Timestamp;
        let away = Outage::begin(None, at(5));
        assert_eq!(away, Outage { from: at(5), to: None });
        assert_eq!(Outage::begin(Some(away), at(6)), away, "it is away still");
        let over = away.end(at(7));
        assert_eq!(over, Outage { from: at(5), to: Some(at(7)) });
        assert_eq!(over.end(at(9)), over, "it is there still");
        assert_eq!(Outage::begin(Some(over), at(10)), Outage { from: at(10), to: None });
    }
}
