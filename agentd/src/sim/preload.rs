//! Many VMs at once, made the way callers make them: through the intents, many at a time, so that they share commits.

use std::net::Ipv4Addr;

use agentd_api::{Cidr, ErrorCode, KindDef, ObjectName, Problem, registry};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};

use crate::intent::{Caller, Intents, Principal};

/// How many VMs share a network: a host has many small networks rather than one of 50,000 guests.
const NETWORK_VMS: usize = 1000;
const AT_ONCE: usize = 512;

/// Creates the VMs vm-00000, vm-00001, ... of the image `micro`, and the networks bench-0, bench-1, ... that they are
/// on. What is there already is left as it is.
pub async fn preload(intents: &Intents, count: usize) -> Result<(), Problem> {
    for n in 0..count.div_ceil(NETWORK_VMS) {
        let cidr = network_cidr(n)?;
        create(intents, "network", json!({"name": format!("bench-{n}"), "spec": {"cidr": cidr}})).await?;
    }
    stream::iter((0..count).map(|n| {
        let networks = json!([{"network": format!("bench-{}", n / NETWORK_VMS)}]);
        let spec = json!({"image": "micro", "memory": "64MiB", "networks": networks});
        let labels = json!({"tier": format!("t{}", n % 10)});
        create(intents, "vm", json!({"name": format!("vm-{n:05}"), "labels": labels, "spec": spec}))
    }))
    .map(Ok)
    .try_for_each_concurrent(AT_ONCE, |made| made)
    .await
}

/// 10.128.0.0/22, 10.128.4.0/22, ...: 1021 guests each.
fn network_cidr(n: usize) -> Result<Cidr, Problem> {
    let base = u32::from(Ipv4Addr::new(10, 128, 0, 0));
    let offset = u32::try_from(n).ok().and_then(|n| n.checked_mul(1 << 10)).filter(|o| *o < 1 << 23);
    let offset =
        offset.ok_or_else(|| Problem::new(ErrorCode::Invalid, "more VMs than 10.128.0.0/9 has room for"))?;
    Cidr::new(Ipv4Addr::from(base + offset), 22).map_err(|e| Problem::new(ErrorCode::Internal, e.to_string()))
}

async fn create(intents: &Intents, kind: &str, draft: Value) -> Result<(), Problem> {
    let def: &'static KindDef = registry::by_kind(kind)
        .ok_or_else(|| Problem::new(ErrorCode::Internal, format!("there is no kind {kind}")))?;
    let project =
        ObjectName::parse("default").map_err(|e| Problem::new(ErrorCode::Internal, e.to_string()))?;
    let principal = Principal::local(0, 0);
    let caller = Caller {
        principal,
        request_id: "preload".to_owned(),
        dry_run: false,
        cascade: false,
        idempotency_key: None,
    };
    match intents.create(&caller, def, &project, draft).await {
        Err(problem) if problem.code != ErrorCode::AlreadyExists => Err(problem),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_lie_side_by_side_until_there_is_no_room() {
        let cidr = |n| network_cidr(n).map(|c| c.to_string()).ok();
        assert_eq!(cidr(0).as_deref(), Some("10.128.0.0/22"));
        assert_eq!(cidr(1).as_deref(), Some("10.128.4.0/22"));
        assert_eq!(cidr(8191).as_deref(), Some("10.255.252.0/22"));
        assert_eq!(cidr(8192), None);
    }
}
