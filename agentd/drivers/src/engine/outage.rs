//! When the engine was away: what ended then, ended with it.
//!
//! A call that is made while an engine is started again is not refused but waits: that no call failed is no proof that it
//! was there. Its events are followed all the time, and their end is. Before the first connection of this daemon there is
//! the engine's own start to go by.

use std::fs;
use std::path::Path;

use agentd_api::Timestamp;
use tokio::net::UnixStream;

use crate::process;

const DOCKERD: &[u8] = b"dockerd";
const INIT: i32 = 1;
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
pub(super) async fn dockerd_began(socket: &Path) -> Option<Timestamp> {
    let listener = UnixStream::connect(socket).await.ok()?.peer_cred().ok()?.pid()?;
    // Of a socket that systemd made, systemd is the one who listens.
    let pid = match listener {
        INIT => fs::read_to_string(PID_FILE).ok()?.trim().parse().ok()?,
        other => other,
    };
    process::name(pid).filter(|name| name == DOCKERD).and_then(|_| process::began(pid))
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
