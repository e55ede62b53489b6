//! Who asks, and what they are answered.

use bytes::Bytes;

/// Who is at the other end of the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Principal {
    /// A process of this host, on the Unix socket.
    Local(Peer),
    /// Another machine, over TLS: the common name of the certificate that it proved to have.
    Remote { name: String },
}

/// A process as the kernel knows it (SO_PEERCRED).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    pub uid: u32,
    pub gid: u32,
    pub pid: Option<i32>,
}

impl Principal {
    /// A process of this host, whichever of its user's.
    pub const fn local(uid: u32, gid: u32) -> Self {
        Self::Local(Peer { uid, gid, pid: None })
    }

    /// The name under which it stands in events. A key of idempotency is one caller's, by this name.
    pub fn actor(&self) -> String {
        match self {
            Self::Local(peer) => format!("uid:{}", peer.uid),
            Self::Remote { name } => format!("remote:{name}"),
        }
    }
}

/// One request's caller. Every intent takes one; there is no anonymous way in.
#[derive(Debug, Clone)]
pub struct Caller {
    pub principal: Principal,
    pub request_id: String,
    /// Check and answer as if it were done, and change nothing.
    pub dry_run: bool,
    /// What is deleted takes with it what is of it alone, such as a VM its snapshots.
    pub cascade: bool,
    /// The same key with the same request is answered once and for all with the same answer.
    pub idempotency_key: Option<String>,
}

/// What an intent answers: the object as it now stands in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// 201 created, 200 as it is, 202 under way.
    pub status: u16,
    pub json: Bytes,
    pub revision: u64,
}
