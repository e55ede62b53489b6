//! Published ports, tried from everywhere that a packet can come from.

use std::any::Any;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

use agentd_api::{PortMap, Protocol};
use agentd_drivers::network::{Forward, Holder, NetworkDriver};

use crate::netns::{self, Peer, arrives, ask, ask_udp, serve, serve_udp};
use crate::{contract, driver, guest, network_of_two};

#[test]
#[ignore = "needs the test host: run by tests/run"]
fn netns_a_published_port_is_reached_from_everywhere() {
    netns::inside(async || {
        let outside = Peer::outside().await;
        netns::ok("sysctl -qwe net.bridge.bridge-nf-call-iptables=1").await;
        let driver = driver("one");
        let (one, two) = (network_of_two(1), contract::network(2));
        for setup in [&one, &two] {
            driver.ensure(setup).await.expect("made");
        }
        let mut wanted = contract::firewall(&[&one, &two]);
        let web = contract::forward(&one, &one.hosts[0], (8080, 80));
        let echo = Forward { protocol: Protocol::Udp, host: 7000, guest: 7, ..web.clone() };
        wanted.forwards = vec![web, echo];
        driver.ensure_firewall(&wanted).await.expect("a firewall");
        let (a, b) = (guest(&driver, &one, 2).await, guest(&driver, &one, 3).await);
        let c = guest(&driver, &two, 2).await;
        serve(Some(&a), "0.0.0.0:80", "a");
        serve_udp(Some(&a), "0.0.0.0:7", "a");

        assert_eq!(
            ask(Some(&outside), "198.51.100.1:8080").as_deref(),
            Some("a 198.51.100.2"),
            "by its own address"
        );
        assert_eq!(ask_udp(Some(&outside), "198.51.100.1:7000").as_deref(), Some("a 198.51.100.2"));
        assert_eq!(ask(None, "127.0.0.1:8080").as_deref(), Some("a 10.231.1.1"), "the host's loopback");
        assert_eq!(ask_udp(None, "127.0.0.1:7000").as_deref(), Some("a 10.231.1.1"));
        assert_eq!(ask(None, "198.51.100.1:8080").as_deref(), Some("a 198.51.100.1"), "the host's address");
        assert!(ask(None, "10.231.1.1:8080").is_some(), "the gateway's address");
        assert_eq!(ask(Some(&b), "198.51.100.1:8080").as_deref(), Some("a 10.231.1.1"), "a neighbour");
        assert_eq!(
            ask(Some(&c), "198.51.100.1:8080").as_deref(),
            Some("a 10.231.2.2"),
            "another network's guest"
        );
        assert_eq!(ask(Some(&c), "10.231.1.2:80"), None, "but not past the published port");

        // Where bridged packets are filtered (as Docker has it) the kernel turns a guest's packet to itself round within
        // the bridge, and a bridge gives nothing back to the port that it came from.
        netns::ok("sysctl -qwe net.bridge.bridge-nf-call-iptables=0").await;
        for (peer, why) in [(&a, "the guest itself"), (&b, "a neighbour")] {
            assert_eq!(ask(Some(peer), "198.51.100.1:8080").as_deref(), Some("a 10.231.1.1"), "{why}");
        }

        // A rule that is no longer wanted is really gone, and the other stays.
        wanted.forwards.remove(0);
        driver.ensure_firewall(&wanted).await.expect("a port less");
        for (from, address) in [(Some(&outside), "198.51.100.1:8080"), (None, "127.0.0.1:8080")] {
            assert_eq!(ask(from, address), None, "{address}");
        }
        assert!(ask_udp(Some(&outside), "198.51.100.1:7000").is_some());
    });
}

#[test]
#[ignore = "needs the test host: run by tests/run"]
fn netns_a_port_of_one_address_is_published_there_alone() {
    netns::inside(async || {
        let outside = Peer::outside().await;
        netns::ok("ip addr add 198.51.100.9/24 dev uplink").await;
        let (driver, setup) = (driver("one"), contract::network(1));
        driver.ensure(&setup).await.expect("made");
        let mut wanted = contract::firewall(&[&setup]);
        let web = contract::forward(&setup, &setup.hosts[0], (8080, 80));
        let at =
            |address: [u8; 4], host| Forward { address: Some(Ipv4Addr::from(address)), host, ..web.clone() };
        wanted.forwards = vec![at([198, 51, 100, 9], 8080), at([127, 0, 0, 1], 8081)];
        driver.ensure_firewall(&wanted).await.expect("a firewall");
        let a = guest(&driver, &setup, 2).await;
        serve(Some(&a), "0.0.0.0:80", "a");
        assert!(ask(Some(&outside), "198.51.100.9:8080").is_some());
        assert_eq!(ask(Some(&outside), "198.51.100.1:8080"), None);
        assert_eq!(ask(None, "127.0.0.1:8080"), None);
        assert!(ask(None, "127.0.0.1:8081").is_some());
        assert_eq!(ask(Some(&outside), "198.51.100.9:8081"), None);
    });
}

#[test]
#[ignore = "needs the test host: run by tests/run"]
fn netns_the_loopback_of_the_host_stays_closed_to_guests() {
    netns::inside(async || {
        let (driver, setup) = (driver("one"), contract::network(1));
        driver.ensure(&setup).await.expect("made");
        let mut wanted = contract::firewall(&[&setup]);
        wanted.forwards = vec![contract::forward(&setup, &setup.hosts[0], (8080, 80))];
        driver.ensure_firewall(&wanted).await.expect("a firewall");
        let a = guest(&driver, &setup, 2).await;
        // A guest that sends what is for 127.0.0.1 to its gateway, as an attacker would.
        for own in ["127.0.0.1", "127.0.0.0/8"] {
            a.run(&format!("ip route del local {own} dev lo table local")).await.expect("removed");
        }
        a.run("ip route replace 127.0.0.1/32 via 10.231.1.1 dev eth0 src 10.231.1.2").await.expect("routed");
        let switch = format!("/proc/sys/net/ipv4/conf/{}/route_localnet", driver.bridge(setup.id));
        assert_eq!(netns::ok(&format!("cat {switch}")).await.trim(), "1", "only the guard keeps it out");
        assert!(!arrives(&a, "127.0.0.1:6000"));
        // To show that the way is open but for the guard.
        let table = agentd_drivers::network::ruleset::table_name(&crate::instance("one"));
        netns::ok(&format!("nft flush chain inet {table} guard")).await;
        assert!(arrives(&a, "127.0.0.1:6000"), "without the guard this test would see nothing");
        driver.ensure_firewall(&wanted).await.expect("mended");
        assert!(!arrives(&a, "127.0.0.1:6000"));
        // Without a published port the switch is closed too.
        driver.ensure_firewall(&contract::firewall(&[&setup])).await.expect("no port");
        assert_eq!(netns::ok(&format!("cat {switch}")).await.trim(), "0");
    });
}

fn bound(&(protocol, at): &(Protocol, SocketAddr)) -> Box<dyn Any> {
    match protocol {
        Protocol::Tcp => Box::new(TcpListener::bind(at).expect("a listener")),
        Protocol::Udp => Box::new(UdpSocket::bind(at).expect("a socket")),
    }
}

#[test]
#[ignore = "needs the test host: run by tests/run"]
fn netns_who_listens_where_a_port_would_be_published_is_told_by_name() {
    netns::inside(async || {
        let (driver, setup) = (driver("one"), contract::network(1));
        contract::listeners(driver.as_ref(), &|there| {
            Box::new(there.iter().map(bound).collect::<Vec<Box<dyn Any>>>())
        })
        .await;

        let met = async |text: &str| {
            let port: PortMap = text.parse().expect("a port");
            driver.listeners(&[port]).await.expect("told")
        };
        let name = std::fs::read_to_string("/proc/self/comm").expect("a name").trim_end().to_owned();
        let listener = TcpListener::bind("127.0.0.1:7080").expect("a listener");
        let found = met("7080:80").await;
        assert_eq!(found[0].holder, Holder::Program { name, pid: std::process::id() }, "{found:?}");
        // Who is connected, from there and to there, is nobody who listens.
        let caller = std::net::TcpStream::connect("127.0.0.1:7080").expect("connected");
        let called = listener.accept().expect("connected").0;
        assert_eq!(met("7080:80").await, found);
        drop(listener);
        assert_eq!(met("7080:80").await, vec![]);
        drop((caller, called));

        // A network's own name server is in the way only of what would catch what is for the bridge.
        driver.ensure(&setup).await.expect("made");
        for (text, meets) in
            [("53:53/udp", true), ("10.231.1.1:53:53/udp", true), ("127.0.0.1:53:53/udp", false)]
        {
            let found = met(text).await;
            let dnsmasq =
                |holder: &Holder| matches!(holder, Holder::Program { name, .. } if name == "dnsmasq");
            assert_eq!(!found.is_empty(), meets, "{text}: {found:?}");
            assert!(found.iter().all(|listener| dnsmasq(&listener.holder)), "{text}: {found:?}");
        }
    });
}
