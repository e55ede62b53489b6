//! Networks of the engine's on our bridges.

use agentd_api::MacAddr;
use uuid::Uuid;

use super::{Bed, Does, gone, see, told};
use crate::container::{
    Change, ContainerDriver, ContainerError, Endpoint, EndpointSeen, EngineNetwork, Wired,
};

/// The n-th endpoint of a network.
fn endpoint(network: &EngineNetwork, number: u8) -> Endpoint {
    let [a, b, c, _] = network.gateway.octets();
    Endpoint {
        network: network.id,
        ip: [a, b, c, number].into(),
        mac: MacAddr([0x52, 0x54, 0, a, c, number]),
    }
}

/// Panics where its addresses are other than these. One that is off has no MACs.
async fn has(driver: &dyn ContainerDriver, id: Uuid, wanted: &[&Endpoint]) {
    let seen = see(driver, id).await;
    let on = seen.state.is_on();
    let there = |e: &EndpointSeen| (e.network.clone(), e.ip, e.mac.filter(|_| on));
    let wanted = wanted.iter().map(|e| (Wired::Ours(e.network), Some(e.ip), on.then_some(e.mac)));
    let mut wanted: Vec<_> = wanted.collect();
    wanted.sort();
    assert_eq!(seen.endpoints.iter().map(there).collect::<Vec<_>>(), wanted);
}

/// One that is made with several has them from each start on. Their MACs it may have to be given anew, but not where the
/// engine is told of all of them as it is made.
async fn several_are_its_own_from_each_start_on(bed: &dyn Bed, [one, two]: [&EngineNetwork; 2]) {
    let driver = bed.driver();
    let engine = driver.probe().await.expect("probed");
    let told_of_all = engine.speaks((1, 44));
    let mut def = bed.def("both", Does::Stays);
    def.endpoints = vec![endpoint(one, 30), endpoint(two, 31)];
    driver.ensure_created(&def).await.expect("made");
    for _ in 0..2 {
        driver.start(def.id).await.expect("started");
        for endpoint in &def.endpoints {
            let change = driver.connect(def.id, endpoint).await.expect("plugged");
            assert!(!told_of_all || change == Change::AlreadySo, "{engine:?}, {}", endpoint.mac);
        }
        has(driver, def.id, &[&def.endpoints[0], &def.endpoints[1]]).await;
        driver.kill(def.id).await.expect("killed");
    }
    gone(driver, def.id).await;
}

pub(super) async fn endpoints_come_and_go(bed: &dyn Bed) {
    let driver = bed.driver();
    let (one, two) = (bed.network(1).await, bed.network(2).await);
    let mut def = bed.def("wired", Does::Stays);
    let first = endpoint(&one, 10);
    def.endpoints = vec![first.clone()];
    let error = driver.ensure_created(&def).await.expect_err("there is no such network yet");
    assert!(matches!(error, ContainerError::NoNetwork(id) if id == one.id), "{error:?}");
    assert_eq!(driver.observe(def.id).await.expect("observed"), None, "nothing is half made");

    for network in [&one, &two] {
        assert_eq!(driver.ensure_network(network).await.expect("made"), Change::Made);
        assert_eq!(driver.ensure_network(network).await.expect("made"), Change::AlreadySo);
    }
    let networks = driver.networks().await.expect("listed");
    assert!(networks.contains(&one.id) && networks.contains(&two.id), "{networks:?}");
    several_are_its_own_from_each_start_on(bed, [&one, &two]).await;

    driver.ensure_created(&def).await.expect("made");
    driver.start(def.id).await.expect("started");
    has(driver, def.id, &[&first]).await;

    let second = endpoint(&two, 20);
    assert_eq!(driver.connect(def.id, &second).await.expect("plugged"), Change::Made);
    assert_eq!(driver.connect(def.id, &second).await.expect("plugged"), Change::AlreadySo);
    has(driver, def.id, &[&first, &second]).await;
    let moved = endpoint(&two, 21);
    assert_eq!(driver.connect(def.id, &moved).await.expect("moved"), Change::Made);
    has(driver, def.id, &[&first, &moved]).await;
    assert!(matches!(driver.remove_network(two.id).await, Err(ContainerError::InUse(id)) if id == two.id));
    assert_eq!(driver.disconnect(def.id, &Wired::Ours(two.id)).await.expect("unplugged"), Change::Made);
    assert_eq!(driver.disconnect(def.id, &Wired::Ours(two.id)).await.expect("unplugged"), Change::AlreadySo);
    has(driver, def.id, &[&first]).await;

    let mut events = driver.events();
    bed.disconnect_behind(&see(driver, def.id).await, one.id).await;
    told(&mut events, def.id).await;
    has(driver, def.id, &[]).await;
    assert_eq!(driver.connect(def.id, &first).await.expect("mended"), Change::Made);
    has(driver, def.id, &[&first]).await;
    a_lost_link_is_seen_and_made_anew(bed, def.id, &first).await;
    // What it is on is kept while it is off.
    driver.kill(def.id).await.expect("killed");
    has(driver, def.id, &[&first]).await;
    driver.start(def.id).await.expect("started");
    // An engine may have made its MAC up again.
    driver.connect(def.id, &first).await.expect("plugged");
    assert_eq!(driver.connect(def.id, &first).await.expect("plugged"), Change::AlreadySo);
    has(driver, def.id, &[&first]).await;

    let nowhere = Endpoint { network: Uuid::now_v7(), ..second };
    assert!(matches!(driver.connect(def.id, &nowhere).await, Err(ContainerError::NoNetwork(_))));
    gone(driver, def.id).await;
    for network in [&one, &two] {
        assert_eq!(driver.remove_network(network.id).await.expect("removed"), Change::Made);
        assert_eq!(driver.remove_network(network.id).await.expect("removed"), Change::AlreadySo);
    }
}

async fn a_lost_link_is_seen_and_made_anew(bed: &dyn Bed, id: Uuid, endpoint: &Endpoint) {
    let driver = bed.driver();
    assert!(see(driver, id).await.endpoint(endpoint.network).is_some_and(|there| there.linked));
    assert_eq!(links(driver, id).await, Some(1));
    let mut events = driver.events();
    bed.unlink_behind(&see(driver, id).await, endpoint.network).await;
    told(&mut events, id).await;
    let seen = see(driver, id).await;
    assert!(seen.endpoint(endpoint.network).is_none_or(|there| !there.linked), "{seen:?}");
    assert_eq!(links(driver, id).await, Some(0));
    assert_eq!(driver.connect(id, endpoint).await.expect("mended"), Change::Made);
    assert_eq!(driver.connect(id, endpoint).await.expect("plugged"), Change::AlreadySo);
    assert!(see(driver, id).await.endpoint(endpoint.network).is_some_and(|there| there.linked));
    has(driver, id, &[endpoint]).await;
    assert_eq!(links(driver, id).await, Some(1));
}

/// How many it has as a list shows it.
async fn links(driver: &dyn ContainerDriver, id: Uuid) -> Option<usize> {
    let listed = driver.list().await.expect("listed");
    listed.iter().find(|listed| listed.id == id).expect("it is listed").links
}
