//! The driver of a host's networks on a host of its own: what guests, packets and the kernel show of it.

#[path = "../netns/mod.rs"]
mod netns;
mod network;

mod behind;
mod beside;
mod names;
mod ports;
mod reach;

use std::path::Path;
use std::sync::Arc;

use agentd_drivers::Instance;
use agentd_drivers::network::host::{HostNetwork, NetworkOptions};
use agentd_drivers::network::{NetworkDriver, NetworkSetup};
use netns::{Peer, ok};
use network::contract;

/// A daemon of this name.
fn instance(name: &str) -> Instance {
    Instance::new(&Path::new("/run").join(name))
}

fn driver(name: &str) -> Arc<HostNetwork> {
    HostNetwork::new(instance(name), NetworkOptions::default())
}

/// Host `fourth` of that network as a guest that has asked for its address.
async fn guest(driver: &HostNetwork, setup: &NetworkSetup, fourth: u8) -> Peer {
    let entry = setup.hosts.iter().find(|h| h.ip.octets()[3] == fourth).expect("a host of the network");
    let name = format!("g{}-{fourth}", entry.ip.octets()[2]);
    let peer = Peer::guest(&name, &driver.bridge(setup.id), &entry.mac.to_string()).await;
    assert_eq!(peer.dhcp().await, Some(entry.ip.to_string()), "{name} has the address of its entry");
    peer
}

/// The network of that number with its hosts 2 and 3.
fn network_of_two(third: u8) -> NetworkSetup {
    let mut setup = contract::network(third);
    setup.hosts.push(contract::host(third, 3));
    setup
}

#[test]
#[ignore = "needs the test host: run by tests/run"]
fn netns_the_real_driver_keeps_the_contract() {
    netns::inside(async || {
        let driver = driver("one");
        let break_it = {
            let driver = driver.clone();
            move |id| {
                // Until it has ended, so that what is seen next is certain.
                let line = format!(
                    "p=$(cat /run/one/networks/{id}/dnsmasq.pid) && ip link del {} && kill $p && \
                     while [ -n \"$(tr -d '\\0' < /proc/$p/cmdline)\" ]; do sleep 0.01; done",
                    driver.bridge(id)
                );
                tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(ok(&line)));
            }
        };
        contract::all(driver.as_ref(), &break_it).await;
        assert_eq!(ok("ip -o link | wc -l").await.trim(), "1", "no link stays");
        assert_eq!(ok("nft list ruleset").await, "", "no rule stays");
        assert_eq!(ok("ls -A /run/one/networks").await, "", "no folder stays");
        assert_eq!(ok("pgrep -x dnsmasq -r R,S || true").await, "", "no dnsmasq stays");
    });
}

#[test]
#[ignore = "needs the test host: run by tests/run"]
fn netns_a_foreign_bridge_is_left_alone() {
    netns::inside(async || {
        let (driver, setup) = (driver("one"), contract::network(1));
        let bridge = driver.bridge(setup.id);
        ok(&format!("ip link add {bridge} type bridge && ip addr add 192.0.2.1/24 dev {bridge}")).await;
        let before = ok(&format!("ip -d addr show dev {bridge}")).await;
        contract::foreign_bridge(driver.as_ref(), &setup).await;
        assert_eq!(ok(&format!("ip -d addr show dev {bridge}")).await, before);

        // One that bears another daemon's mark, and a link that is no bridge.
        ok(&format!("ip link set {bridge} alias 'agentd 00000000 {}'", setup.id)).await;
        contract::foreign_bridge(driver.as_ref(), &setup).await;
        ok(&format!("ip link del {bridge} && ip link add {bridge} type veth peer name other")).await;
        contract::foreign_bridge(driver.as_ref(), &setup).await;
        ok(&format!("ip link del {bridge}")).await;
        driver.ensure(&setup).await.expect("the name is free");

        // A daemon killed between making a bridge and marking it finds its own again.
        let index = ok(&format!("ip -o link show {bridge} | cut -d: -f1")).await;
        ok(&format!(
            "ip link set {bridge} alias '' && ip addr flush dev {bridge} && ip link set {bridge} down"
        ))
        .await;
        driver.ensure(&setup).await.expect("adopted");
        assert_eq!(ok(&format!("ip -o link show {bridge} | cut -d: -f1")).await, index);
        assert_eq!(driver.list().await.expect("listed"), [setup.id]);
    });
}

/// After a boot of the host an engine makes the bridge before us, of the network that it was given on it.
#[test]
#[ignore = "needs the test host: run by tests/run"]
fn netns_a_bridge_that_the_engine_made_for_us_is_taken_over() {
    netns::inside(async || {
        let (driver, setup) = (driver("one"), contract::network(1));
        let bridge = driver.bridge(setup.id);
        let address = format!("{}/{}", setup.cidr.gateway(), setup.cidr.prefix());
        ok(&format!("ip link add {bridge} type bridge && ip addr add {address} dev {bridge}")).await;
        let index = ok(&format!("ip -o link show {bridge} | cut -d: -f1")).await;
        driver.ensure(&setup).await.expect("taken over");
        assert_eq!(ok(&format!("ip -o link show {bridge} | cut -d: -f1")).await, index);
        assert_eq!(driver.list().await.expect("listed"), [setup.id]);
        assert_eq!(driver.observe(setup.id).await.expect("observed"), contract::WHOLE);
        driver.remove(setup.id).await.expect("removed");
        let left = ok("ip -o link show type bridge").await;
        assert!(!left.contains(&bridge), "it was ours to remove: {left}");
    });
}

#[test]
#[ignore = "needs the test host: run by tests/run"]
fn netns_two_daemons_do_not_see_each_other() {
    netns::inside(async || {
        let (one, two) = (driver("one"), driver("two"));
        let (first, second) = (contract::network(1), contract::network(2));
        one.ensure(&first).await.expect("made");
        two.ensure(&second).await.expect("made");
        one.ensure_firewall(&contract::firewall(&[&first])).await.expect("a firewall");
        two.ensure_firewall(&contract::firewall(&[&second])).await.expect("a firewall");
        assert_eq!(one.list().await.expect("listed"), [first.id]);
        assert_eq!(two.list().await.expect("listed"), [second.id]);
        let taken = one.taken().await.expect("asked");
        assert!(taken.contains(&second.cidr) && !taken.contains(&first.cidr), "{taken:?}");

        let (a, b) = (guest(&one, &first, 2).await, guest(&two, &second, 2).await);
        netns::serve(Some(&b), "0.0.0.0:80", "b");
        assert_eq!(netns::ask(Some(&a), "10.231.2.2:80"), None, "guests of two daemons are apart");

        one.remove(first.id).await.expect("removed");
        one.ensure_firewall(&contract::firewall(&[])).await.expect("no firewall");
        assert_eq!(two.observe(second.id).await.expect("observed"), contract::WHOLE);
        assert_eq!(netns::ask(None, "10.231.2.2:80").as_deref(), Some("b 10.231.2.1"));
        assert!(ok("nft list tables").await.contains(&format!("agentd_{}", instance("two").tag())));
    });
}

#[test]
#[ignore = "needs the test host: run by tests/run"]
fn netns_what_the_host_is_in_is_taken() {
    netns::inside(async || {
        Peer::outside().await;
        ok("ip route add 10.99.0.0/16 via 198.51.100.2 && ip route add 10.98.7.0/24 via 198.51.100.2 table 77").await;
        let (driver, setup) = (driver("one"), contract::network(1));
        driver.ensure(&setup).await.expect("made");
        let taken: Vec<String> =
            driver.taken().await.expect("asked").iter().map(ToString::to_string).collect();
        assert_eq!(taken, ["10.98.7.0/24", "10.99.0.0/16", "127.0.0.0/8", "198.51.100.0/24"]);
    });
}
