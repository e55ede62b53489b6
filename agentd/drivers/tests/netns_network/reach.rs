//! Who reaches whom.

use agentd_drivers::network::NetworkDriver;

use crate::netns::{self, Peer, ask, serve};
use crate::{contract, driver, guest, network_of_two};

#[test]
#[ignore = "needs the test host: run by tests/run"]
fn netns_networks_are_apart_and_nat_leads_out() {
    netns::inside(async || {
        let outside = Peer::outside().await;
        serve(Some(&outside), "0.0.0.0:80", "outside");
        serve(None, "0.0.0.0:90", "host");
        let driver = driver("one");
        let (one, mut two) = (network_of_two(1), contract::network(2));
        two.nat = false;
        for setup in [&one, &two] {
            driver.ensure(setup).await.expect("made");
        }
        driver.ensure_firewall(&contract::firewall(&[&one, &two])).await.expect("a firewall");
        let (a, b) = (guest(&driver, &one, 2).await, guest(&driver, &one, 3).await);
        let c = guest(&driver, &two, 2).await;
        for (peer, name) in [(&b, "b"), (&c, "c")] {
            serve(Some(peer), "0.0.0.0:80", name);
        }

        assert_eq!(ask(Some(&a), "10.231.1.3:80").as_deref(), Some("b 10.231.1.2"), "a neighbour");
        assert_eq!(ask(Some(&a), "10.231.2.2:80"), None, "another network");
        assert_eq!(ask(Some(&c), "10.231.1.3:80"), None, "another network");
        assert_eq!(
            ask(Some(&a), "198.51.100.2:80").as_deref(),
            Some("outside 198.51.100.1"),
            "out, as the host"
        );
        assert_eq!(ask(Some(&c), "198.51.100.2:80"), None, "without NAT there is no way out");
        for (peer, gateway) in [(&a, "10.231.1.1"), (&c, "10.231.2.1")] {
            let seen = ask(Some(peer), &format!("{gateway}:90")).expect("a server on the host");
            assert!(seen.starts_with("host 10.231."), "{seen}: under its own address");
            peer.run(&format!("busybox ping -c 1 -W 2 {gateway}")).await.expect("the gateway answers a ping");
        }
        assert_eq!(
            ask(None, "10.231.2.2:80").as_deref(),
            Some("c 10.231.2.1"),
            "the host reaches its guests"
        );
        outside.run("ip route add 10.231.0.0/16 via 198.51.100.1").await.expect("a route");
        assert_eq!(ask(Some(&outside), "10.231.1.3:80"), None, "nobody comes in unasked");
    });
}
