//! Who may call: root, the user that the daemon runs as, and the members of one group. The kernel says who is at the
//! other end (SO_PEERCRED), the user database which groups a user is in.
//!
//! A user that cannot be looked up is a stranger: a broken user database shuts the door, it does not open it.

use std::collections::HashMap;
use std::ffi::CString;
use std::time::{Duration, Instant};

use agentd_api::{ErrorCode, Problem, paths};
use nix::unistd::{Group, Uid, User, getgrouplist};
use parking_lot::Mutex;

use crate::intent::Peer;

/// How long a looked-up membership is believed. Someone put into the group is let in after this at the latest.
const BELIEVED: Duration = Duration::from_secs(5);
/// Strangers are remembered too; past this many the memory is emptied rather than grown.
const REMEMBERED: usize = 1024;

/// Finds out whether a user is a member of a group. Blocks: the user database may be a directory on the network.
pub type Membership = fn(group: &str, uid: u32, gid: u32) -> Result<bool, PeerError>;

#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    #[error("cannot look up the group '{group}'")]
    Group { group: String, source: nix::Error },
    #[error("cannot look up the groups of uid {uid}")]
    User { uid: u32, source: nix::Error },
}

pub struct PeerRules {
    own_uid: u32,
    group: String,
    membership: Membership,
    seen: Mutex<HashMap<(u32, u32), (Instant, bool)>>,
}

impl Default for PeerRules {
    fn default() -> Self {
        Self::new(paths::GROUP)
    }
}

impl PeerRules {
    pub fn new(group: impl Into<String>) -> Self {
        Self::with(nix::unistd::geteuid().as_raw(), group, member)
    }

    /// The same rules with another user database.
    pub fn with(own_uid: u32, group: impl Into<String>, membership: Membership) -> Self {
        Self { own_uid, group: group.into(), membership, seen: Mutex::default() }
    }

    /// The answer where it is known without a look into the user database.
    pub fn known(&self, peer: &Peer) -> Option<bool> {
        if peer.uid == 0 || peer.uid == self.own_uid {
            return Some(true);
        }
        match self.seen.lock().get(&(peer.uid, peer.gid)) {
            Some((at, member)) if at.elapsed() < BELIEVED => Some(*member),
            _ => None,
        }
    }

    /// Whether the peer may call. Blocks where [`Self::known`] does not know.
    pub fn admits(&self, peer: &Peer) -> bool {
        if let Some(known) = self.known(peer) {
            return known;
        }
        let member = (self.membership)(&self.group, peer.uid, peer.gid).unwrap_or_else(|error| {
            let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            tracing::warn!(uid = peer.uid, "refused: {error}: {cause}");
            false
        });
        let mut seen = self.seen.lock();
        if seen.len() >= REMEMBERED {
            seen.clear();
        }
        seen.insert((peer.uid, peer.gid), (Instant::now(), member));
        member
    }

    /// What someone is told who may not call.
    pub fn refusal(&self, peer: &Peer) -> Problem {
        Problem::new(
            ErrorCode::Forbidden,
            format!(
                "uid {} may not use agentd: it is neither root nor in the group '{}'",
                peer.uid, self.group
            ),
        )
        .hint(format!("run as root, or join the group: usermod -aG {} USER, then log in again", self.group))
    }
}

fn member(group: &str, uid: u32, gid: u32) -> Result<bool, PeerError> {
    let found =
        Group::from_name(group).map_err(|source| PeerError::Group { group: group.to_owned(), source })?;
    let Some(wanted) = found.map(|g| g.gid) else { return Ok(false) };
    if wanted.as_raw() == gid {
        return Ok(true);
    }
    let failed = |source| PeerError::User { uid, source };
    let Some(user) = User::from_uid(Uid::from_raw(uid)).map_err(failed)? else { return Ok(false) };
    let name = CString::new(user.name).map_err(|_| failed(nix::Error::EINVAL))?;
    let groups = getgrouplist(&name, user.gid).map_err(failed)?;
    Ok(groups.contains(&wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(uid: u32, gid: u32) -> Peer {
        Peer { uid, gid, pid: None }
    }
    fn even(_: &str, uid: u32, _: u32) -> Result<bool, PeerError> {
        Ok(uid.is_multiple_of(2))
    }
    fn broken(_: &str, uid: u32, _: u32) -> Result<bool, PeerError> {
        Err(PeerError::User { uid, source: nix::Error::EIO })
    }

    #[test]
    fn root_and_the_daemon_s_own_user_need_no_group() {
        let rules = PeerRules::with(77, "agentd", broken);
        assert!(rules.admits(&peer(0, 0)));
        assert!(rules.admits(&peer(77, 77)));
        assert_eq!(rules.known(&peer(0, 5)), Some(true));
    }

    #[test]
    fn members_are_let_in_and_nobody_else_is() {
        let rules = PeerRules::with(0, "agentd", even);
        assert_eq!(rules.known(&peer(1000, 1000)), None);
        assert!(rules.admits(&peer(1000, 1000)));
        assert!(!rules.admits(&peer(1001, 1001)));
        assert_eq!(rules.known(&peer(1001, 1001)), Some(false), "a stranger costs one look-up");
        let told = rules.refusal(&peer(1001, 1001));
        assert_eq!(told.status, 403);
        assert!(told.hint.is_some_and(|h| h.contains("agentd")));
    }

    #[test]
    fn a_broken_user_database_shuts_the_door() {
        assert!(!PeerRules::with(0, "agentd", broken).admits(&peer(1000, 1000)));
    }

    #[test]
    fn the_host_s_own_database_is_asked() {
        assert!(member("root", 12_345, 0).expect("looked up"), "the peer's own group counts");
        assert!(!member("root", 65_534, 65_534).expect("looked up"), "nobody is not in root's group");
        assert!(!member("no-such-group-here", 1000, 0).expect("looked up"));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let rules = PeerRules::with(0, "agentd", even);
        for uid in 1..5000 {
            rules.admits(&peer(uid, uid));
        }
        assert!(rules.seen.lock().len() <= REMEMBERED);
    }
}
