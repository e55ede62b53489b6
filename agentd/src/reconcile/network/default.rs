//! The network `default`, which is there without being asked for.

use std::net::Ipv4Addr;
use std::sync::Arc;

use agentd_api::event::Outcome;
use agentd_api::name::DEFAULT_PROJECT;
use agentd_api::network::{Network, NetworkSpec};
use agentd_api::{Cidr, Kind, ObjectKey, ObjectName};
use agentd_drivers::network::{NetworkDriver, NetworkError};
use agentd_store::{NewEvent, NewObject, Query, Store, Transact, Tx, TxError};

use super::BRIDGE;
use crate::reconcile::runtime::ACTOR;

/// Which of 10.N.0.0/24 is tried first.
const FIRST: u8 = 77;

#[derive(Debug, thiserror::Error)]
pub enum DefaultNetworkError {
    #[error("the host's own networks cannot be read")]
    Host(#[source] NetworkError),
    #[error("none of 10.0.0.0/24 to 10.255.0.0/24 is free on this host; set [network] cidr")]
    NoneFree,
    #[error("[network] cidr = \"{0}\" overlaps {1}, which is in use")]
    Overlaps(Cidr, Cidr),
    #[error("the network 'default' cannot be written down")]
    Store(#[source] Transact<TxError>),
}

/// Creates the network `default` of the project `default` unless there is one. `wanted` is the configured range; where
/// none is configured the first of 10.77.0.0/24, 10.78.0.0/24, ... is taken that neither the host nor another network
/// has. Whether it was created.
pub async fn ensure_default_network(
    store: &Store,
    driver: &Arc<dyn NetworkDriver>,
    wanted: Option<Cidr>,
) -> Result<bool, DefaultNetworkError> {
    let name = || ObjectName::parse(DEFAULT_PROJECT).expect("a valid name");
    let key = ObjectKey::of::<Network>(name(), name());
    if store.get(&key).is_some() {
        return Ok(false);
    }
    let mut taken = driver.taken().await.map_err(DefaultNetworkError::Host)?;
    taken.extend(
        store
            .list(&Query::kind(Network::DEF.kind))
            .items
            .iter()
            .flat_map(|n| n.field("cidr").filter_map(|text| text.parse::<Cidr>().ok()).collect::<Vec<_>>()),
    );
    let cidr = choose(wanted, &taken)?;
    let created = store.transact(move |tx| create(tx, &key, cidr)).await;
    created.map_err(DefaultNetworkError::Store)
}

fn choose(wanted: Option<Cidr>, taken: &[Cidr]) -> Result<Cidr, DefaultNetworkError> {
    // A route as wide as the default one says where all else goes, not that the range is in use.
    let clash = |cidr: Cidr| taken.iter().copied().find(|t| t.prefix() >= 8 && t.overlaps(cidr));
    if let Some(cidr) = wanted {
        return clash(cidr).map_or(Ok(cidr), |other| Err(DefaultNetworkError::Overlaps(cidr, other)));
    }
    let numbers = (FIRST..=u8::MAX).chain(0..FIRST);
    let ranges = numbers.filter_map(|n| Cidr::new(Ipv4Addr::new(10, n, 0, 0), 24).ok());
    ranges.into_iter().find(|cidr| clash(*cidr).is_none()).ok_or(DefaultNetworkError::NoneFree)
}

fn create(tx: &mut dyn Tx, key: &ObjectKey, cidr: Cidr) -> Result<bool, TxError> {
    if tx.get(key).is_some() {
        return Ok(false);
    }
    let spec = serde_json::to_value(NetworkSpec { cidr, nat: true }).expect("a spec is JSON");
    let new = NewObject { finalizers: vec![BRIDGE.to_owned()], ..NewObject::new(key.clone(), spec) };
    let stored = tx.create(new)?;
    tx.allocate("cidr", &cidr.to_string(), key)?;
    tx.record(NewEvent {
        kind: key.kind.clone(),
        project: key.project.to_string(),
        name: key.name.to_string(),
        id: stored.id(),
        actor: ACTOR.to_owned(),
        verb: "created".to_owned(),
        message: format!("the network that VMs are on unless told otherwise, {cidr}"),
        outcome: Outcome::Accepted,
        request_id: None,
    });
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(texts: &[&str]) -> Vec<Cidr> {
        texts.iter().map(|t| t.parse().expect("a network")).collect()
    }

    #[test]
    fn the_next_free_range_is_taken() {
        let of = |taken: &[&str]| choose(None, &nets(taken)).map(|c| c.to_string()).ok();
        assert_eq!(of(&[]).as_deref(), Some("10.77.0.0/24"));
        assert_eq!(of(&["10.77.0.128/25", "10.78.0.0/16"]).as_deref(), Some("10.79.0.0/24"));
        assert_eq!(of(&["10.64.0.0/10", "10.128.0.0/9"]).as_deref(), Some("10.0.0.0/24"));
        assert_eq!(of(&["0.0.0.0/0"]).as_deref(), Some("10.77.0.0/24"), "a default route takes nothing");
        assert!(matches!(choose(None, &nets(&["10.0.0.0/8"])), Err(DefaultNetworkError::NoneFree)));
    }

    #[test]
    fn a_configured_range_is_taken_or_refused_and_never_replaced() {
        let wanted = nets(&["192.168.7.0/24"])[0];
        assert_eq!(choose(Some(wanted), &[]).ok(), Some(wanted));
        let refused = choose(Some(wanted), &nets(&["192.168.0.0/16"])).expect_err("refused").to_string();
        assert!(refused.contains("192.168.7.0/24") && refused.contains("192.168.0.0/16"), "{refused}");
    }
}
