//! The paths of the API and of the host that both sides must agree on.

use crate::kind::KindDef;
use crate::object::ObjectKey;
use crate::registry;

pub const SOCKET: &str = "/run/agentd/agentd.sock";
pub const STATE_DIR: &str = "/var/lib/agentd";
pub const CONFIG: &str = "/etc/agentd/agentd.toml";
pub const GROUP: &str = "agentd";

pub const SERVER: &str = "/v1";
pub const KINDS: &str = "/v1/kinds";
pub const EVENTS: &str = "/v1/events";
pub const STATS: &str = "/v1/stats";
/// Takes archives of VMs.
pub const ARCHIVES: &str = "/v1/archives";
/// What the host's engine has that is none of this daemon's.
pub const FOREIGN: &str = "/v1/foreign";
/// Takes one of those over.
pub const ADOPT: &str = "/v1/adopt";
/// All that the daemon knows, as one file.
pub const BACKUP: &str = "/v1/backup";
pub const DOCTOR: &str = "/v1/doctor";
pub const HEALTHZ: &str = "/healthz";
pub const READYZ: &str = "/readyz";
pub const METRICS: &str = "/metrics";
pub const OPENAPI: &str = "/openapi.json";

pub const REQUEST_ID: &str = "x-request-id";
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// `/v1/vms`
pub fn collection(def: &KindDef) -> String {
    format!("/v1/{}", def.plural)
}

/// `/v1/vms/web?project=default`, or nothing for a kind that does not exist. Names need no escaping.
pub fn object(key: &ObjectKey) -> Option<String> {
    let def = registry::by_kind(&key.kind)?;
    Some(format!("/v1/{}/{}?project={}", def.plural, key.name, key.project))
}

/// `/v1/vms/web/start?project=default`
pub fn action(key: &ObjectKey, action: &str) -> Option<String> {
    let def = registry::by_kind(&key.kind)?;
    Some(format!("/v1/{}/{}/{action}?project={}", def.plural, key.name, key.project))
}
