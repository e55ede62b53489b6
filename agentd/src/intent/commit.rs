//! One wish, one transaction: the idempotency key, the wish itself, the answer that is remembered, or the roll back of a
//! dry run.

use agentd_api::{ErrorCode, ObjectKey, Problem};
use agentd_store::{Remembered, Stored, Transact, Tx};
use bytes::Bytes;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::admission::{Desk, Known};
use super::{Caller, Intents, Reply};

const IDEMPOTENCY_KEY_MAX: usize = 255;

/// What tells one request from another under the same idempotency key.
pub(super) struct Request<'a> {
    pub verb: &'a str,
    pub key: &'a ObjectKey,
    pub if_match: Option<u64>,
    pub body: &'a Value,
}

impl Request<'_> {
    fn fingerprint(&self) -> String {
        let text = format!("{}\n{}\n{:?}\n{}", self.verb, self.key, self.if_match, self.body);
        hex::encode(Sha256::digest(text.as_bytes()))
    }
}

/// How a transaction ends without being written.
enum Undone {
    /// It was a dry run: this would be the answer.
    Dry(Reply),
    Refused(Problem),
}

pub(super) fn reply(status: u16, object: &Stored) -> Reply {
    Reply { status, json: object.json(), revision: object.revision() }
}

impl Intents {
    /// Runs `wish` in a transaction of its own and answers once it is on disk. `wish` may be run more than once.
    pub(super) async fn commit(
        &self,
        caller: &Caller,
        request: Request<'_>,
        known: Known,
        mut wish: impl FnMut(&mut Desk<'_>) -> Result<Reply, Problem> + Send + 'static,
    ) -> Result<Reply, Problem> {
        let remembered = match &caller.idempotency_key {
            Some(key) if !caller.dry_run => Some((scoped(caller, key)?, request.fingerprint())),
            _ => None,
        };
        let who = caller.clone();
        let transaction = move |tx: &mut dyn Tx| -> Result<Reply, Undone> {
            if let Some((key, fingerprint)) = &remembered
                && let Some(earlier) = tx.recall(key)
            {
                return replay(earlier, fingerprint).map_err(Undone::Refused);
            }
            let mut desk = Desk { tx: &mut *tx, known: &known, caller: &who };
            let reply = wish(&mut desk).map_err(Undone::Refused)?;
            if who.dry_run {
                return Err(Undone::Dry(reply));
            }
            if let Some((key, fingerprint)) = &remembered {
                let (fingerprint, body) = (fingerprint.clone(), reply.json.clone());
                tx.remember(key, Remembered { fingerprint, status: reply.status, body });
            }
            Ok(reply)
        };
        match self.store.transact(transaction).await {
            Ok(reply) | Err(Transact::Refused(Undone::Dry(reply))) => Ok(reply),
            Err(Transact::Refused(Undone::Refused(problem))) => {
                Err(Problem { request_id: caller.request_id.clone(), ..problem })
            }
            Err(Transact::Failed(error)) => {
                // The cause names files and SQLite's codes: it is for the log, not for the caller.
                tracing::error!(request_id = caller.request_id, error = %cause(&error), "the store cannot write");
                let problem = Problem::new(ErrorCode::StoreUnavailable, error.to_string())
                    .hint("`agentctl doctor` shows the state of the store");
                Err(Problem { request_id: caller.request_id.clone(), ..problem })
            }
        }
    }
}

/// Keys of different users do not meet.
fn scoped(caller: &Caller, key: &str) -> Result<String, Problem> {
    if key.is_empty() || key.len() > IDEMPOTENCY_KEY_MAX || !key.bytes().all(|b| b.is_ascii_graphic()) {
        let message = format!("must be 1 to {IDEMPOTENCY_KEY_MAX} printable ASCII characters without spaces");
        return Err(Problem::field("Idempotency-Key", message));
    }
    Ok(format!("{}/{key}", caller.principal.actor()))
}

fn replay(earlier: Remembered, fingerprint: &str) -> Result<Reply, Problem> {
    if earlier.fingerprint != fingerprint {
        let detail = "the Idempotency-Key was used for another request";
        return Err(Problem::new(ErrorCode::Conflict, detail).hint("take a new key for a new request"));
    }
    let revision = revision_of(&earlier.body);
    Ok(Reply { status: earlier.status, json: earlier.body, revision })
}

fn revision_of(body: &Bytes) -> u64 {
    #[derive(serde::Deserialize)]
    struct Revision {
        revision: u64,
    }
    serde_json::from_slice::<Revision>(body).map_or(0, |r| r.revision)
}

fn cause(error: &dyn std::error::Error) -> String {
    agentd_drivers::fault::chain(error)
}
