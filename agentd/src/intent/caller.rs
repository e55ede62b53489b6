//! Who asks, and what they are answered.

use bytes::Bytes;

/// Who is at the other end of the connection, as the kernel says (SO_PEERCRED).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    pub uid: u32,
    pub gid: u32,
    pub pid: Option<i32>,
}

impl Principal {
    /// The name under which it stands in events.
    pub fn actor(&self) -> String {
        format!("uid:{}", self.uid)
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
