//! What every network driver must do, run against the fake and the real one.

use std::any::Any;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use agentd_api::{MacAddr, ObjectName, PortMap, Protocol};
use uuid::Uuid;

use super::{
    FirewallNetwork, FirewallSetup, Forward, HostEntry, Listener, NetworkDriver, NetworkError, NetworkSeen,
    NetworkSetup,
};

pub const WHOLE: NetworkSeen = NetworkSeen { bridge: true, dns: true };

/// A network of one /24 that nothing on a test's host is in.
pub fn network(third: u8) -> NetworkSetup {
    let name = ObjectName::parse(&format!("net-{third}")).expect("a name");
    NetworkSetup {
        id: Uuid::now_v7(),
        project: ObjectName::parse("default").expect("a name"),
        cidr: format!("10.231.{third}.0/24").parse().expect("a network"),
        nat: true,
        domain: format!("{name}.test"),
        name,
        hosts: vec![host(third, 2)],
    }
}

/// The host `host-<fourth>` of the network of that number.
pub fn host(third: u8, fourth: u8) -> HostEntry {
    HostEntry {
        name: ObjectName::parse(&format!("host-{fourth}")).expect("a name"),
        ip: Ipv4Addr::new(10, 231, third, fourth),
        mac: MacAddr([0x52, 0x54, 0, 0, third, fourth]),
    }
}

/// The firewall of these networks, without published ports.
pub fn firewall(networks: &[&NetworkSetup]) -> FirewallSetup {
    let networks = networks.iter().map(|n| FirewallNetwork { id: n.id, cidr: n.cidr, nat: n.nat });
    FirewallSetup { networks: networks.collect(), forwards: Vec::new() }
}

/// Port `from` of every address of the host leads to port `to` of that host.
pub fn forward(setup: &NetworkSetup, to: &HostEntry, ports: (u16, u16)) -> Forward {
    let (host, guest) = ports;
    Forward { network: setup.id, address: None, host, protocol: Protocol::Tcp, to: to.ip, guest }
}

/// `break_it` does to a network what somebody would behind the driver's back: its bridge and its dnsmasq are gone.
pub async fn all(driver: &dyn NetworkDriver, break_it: &(dyn Fn(Uuid) + Sync)) {
    assert_eq!(driver.missing().await, vec![], "the suite needs a host that lacks nothing");
    let (mut one, two) = (network(1), network(2));
    assert_ne!(driver.bridge(one.id), driver.bridge(two.id));
    assert_eq!(driver.bridge(one.id), driver.bridge(one.id));

    // Nothing is there, and removing it is done already.
    assert_eq!(driver.list().await.expect("listed"), Vec::<Uuid>::new());
    assert_eq!(driver.observe(one.id).await.expect("observed"), NetworkSeen::default());
    driver.remove(one.id).await.expect("nothing to remove");
    driver.ensure_firewall(&FirewallSetup::default()).await.expect("no firewall needed");

    // Once and twice are the same, and each shows when looked for.
    for setup in [&one, &two, &one] {
        assert_eq!(driver.ensure(setup).await.expect("made"), WHOLE);
    }
    for id in [one.id, two.id] {
        assert_eq!(driver.observe(id).await.expect("observed"), WHOLE);
    }
    assert_eq!(driver.list().await.expect("listed"), vec![one.id, two.id]);
    let taken = driver.taken().await.expect("asked");
    assert!(taken.iter().all(|cidr| !cidr.overlaps(one.cidr)), "ours are not among {taken:?}");

    // Hosts come and go.
    one.hosts.push(host(1, 3));
    assert_eq!(driver.ensure(&one).await.expect("a host more"), WHOLE);
    one.hosts.remove(0);
    assert_eq!(driver.ensure(&one).await.expect("a host less"), WHOLE);

    // The firewall, again, changed, and without a network.
    let mut wanted = firewall(&[&one, &two]);
    for _ in 0..2 {
        driver.ensure_firewall(&wanted).await.expect("a firewall");
    }
    wanted.forwards.push(forward(&one, &one.hosts[0], (8080, 80)));
    driver.ensure_firewall(&wanted).await.expect("a published port");

    broken_and_mended(driver, &one, break_it).await;

    driver.remove(one.id).await.expect("removed");
    assert_eq!(driver.observe(one.id).await.expect("observed"), NetworkSeen::default());
    assert_eq!(driver.observe(two.id).await.expect("observed"), WHOLE, "the other stays");
    assert_eq!(driver.list().await.expect("listed"), vec![two.id]);
    for id in [two.id, one.id] {
        driver.remove(id).await.expect("removed");
    }
    driver.ensure_firewall(&FirewallSetup::default()).await.expect("no firewall any more");
    assert_eq!(driver.list().await.expect("listed"), Vec::<Uuid>::new());
}

/// What is broken behind our back is told in under 2 s, seen, and mended.
async fn broken_and_mended(
    driver: &dyn NetworkDriver,
    setup: &NetworkSetup,
    break_it: &(dyn Fn(Uuid) + Sync),
) {
    let mut events = driver.events();
    break_it(setup.id);
    tokio::time::timeout(Duration::from_secs(2), events.recv()).await.expect("told in time").expect("told");
    assert_eq!(driver.observe(setup.id).await.expect("observed"), NetworkSeen::default());
    assert!(driver.list().await.expect("listed").contains(&setup.id), "a broken network is ours still");
    assert_eq!(driver.ensure(setup).await.expect("mended"), WHOLE);
}

/// A link of the bridge's name that is not ours is a conflict for `ensure`, and `remove` leaves it alone.
pub async fn foreign_bridge(driver: &dyn NetworkDriver, setup: &NetworkSetup) {
    let error = driver.ensure(setup).await.expect_err("a stranger's bridge");
    assert!(matches!(&error, NetworkError::Conflict { what, .. } if what.contains(&driver.bridge(setup.id))));
    assert!(!driver.observe(setup.id).await.expect("observed").bridge);
    driver.remove(setup.id).await.expect("nothing of ours");
}

/// Has a program of the host listen there, and nowhere else, until what it gives is dropped.
pub type Listen<'a> = &'a dyn Fn(&[(Protocol, SocketAddr)]) -> Box<dyn Any>;

/// Who listens where a published port would catch it is told, and nobody else.
pub async fn listeners(driver: &dyn NetworkDriver, listen: Listen<'_>) {
    let at = |protocol, address: &str| (protocol, address.parse::<SocketAddr>().expect("an address"));
    let there = [
        at(Protocol::Tcp, "0.0.0.0:7080"),
        at(Protocol::Tcp, "127.0.0.1:7081"),
        at(Protocol::Udp, "127.0.0.1:7082"),
        at(Protocol::Tcp, "[::]:7083"),
    ];
    let ports = [
        ("7080:80", true),
        ("127.0.0.1:7080:80", true),
        ("7080:80/udp", false),
        ("7081:80", true),
        ("127.0.0.1:7081:80", true),
        ("127.0.0.2:7081:80", false),
        ("7082:80/udp", true),
        ("7082:80", false),
        ("7083:80", true),
        ("127.0.0.1:7083:80", true),
        ("7084:7080", false),
    ];
    let listening = listen(&there);
    for (text, meets) in ports {
        let port: PortMap = text.parse().expect("a port");
        let found = listeners_met(driver, std::slice::from_ref(&port)).await;
        assert_eq!(found.len(), usize::from(meets), "{text}: {found:?}");
        assert!(
            found.iter().all(|l| (l.port, l.protocol) == (port.host, port.protocol)),
            "{text}: {found:?}"
        );
    }
    let all: Vec<PortMap> = ports.iter().map(|(text, _)| text.parse().expect("a port")).collect();
    assert_eq!(listeners_met(driver, &all).await.len(), there.len(), "each is told once");
    assert_eq!(listeners_met(driver, &[]).await, vec![], "nothing was asked for");
    drop(listening);
    drop(listen(&[]));
    assert_eq!(listeners_met(driver, &all).await, vec![], "all of them have ended");
}

async fn listeners_met(driver: &dyn NetworkDriver, ports: &[PortMap]) -> Vec<Listener> {
    driver.listeners(ports).await.expect("told")
}
