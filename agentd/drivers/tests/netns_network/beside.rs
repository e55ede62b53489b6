//! Beside Docker and beside a firewall that drops: their tables made by hand, as they make them.

use std::time::Duration;

use agentd_api::Protocol;
use agentd_drivers::network::{Forward, NetworkDriver};
use tokio::time::timeout;

use crate::netns::{self, Peer, ask, ask_udp, ok, run, serve, serve_udp};
use crate::{contract, driver, guest, network_of_two};

const DOCKER: &str = "iptables -P FORWARD DROP && iptables -N DOCKER && iptables -N DOCKER-USER && \
    iptables -A DOCKER-USER -j RETURN && iptables -I FORWARD -j DOCKER-USER && \
    iptables -A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT && \
    iptables -A FORWARD -o docker0 -j DOCKER && iptables -A FORWARD -i docker0 ! -o docker0 -j ACCEPT";
/// Its networks have nothing to do with one another, and that on the bridge `inner`, `--internal`, with nobody.
const ISOLATION: &str = "iptables -N DOCKER-ISOLATION-STAGE-1 && iptables -N DOCKER-ISOLATION-STAGE-2 && \
    iptables -I FORWARD 2 -j DOCKER-ISOLATION-STAGE-1 && \
    iptables -A DOCKER-ISOLATION-STAGE-1 ! -s 172.18.0.0/16 -o inner -j DROP && \
    iptables -A DOCKER-ISOLATION-STAGE-1 ! -d 172.18.0.0/16 -i inner -j DROP && \
    iptables -t nat -A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE";

/// A bridge of Docker's, 172.<second>.0.1, and a container of its own there, 172.<second>.0.2, which serves its name.
async fn container_of_docker(name: &str, bridge: &str, second: u8) -> Peer {
    ok(&format!(
        "ip link add {bridge} type bridge && ip addr add 172.{second}.0.1/16 dev {bridge} && \
         ip link set {bridge} up"
    ))
    .await;
    let container = Peer::guest(name, bridge, &format!("02:42:ac:{second:02x}:00:02")).await;
    ok(&format!(
        "ip -n {name} addr add 172.{second}.0.2/16 dev eth0 && \
         ip -n {name} route add default via 172.{second}.0.1"
    ))
    .await;
    serve(Some(&container), "0.0.0.0:80", name);
    container
}

/// What Docker up to 27 has for a bridge that it lets out: docker0, and each of ours once a container is on it.
async fn isolate(bridge: &str) {
    ok(&format!(
        "iptables -I DOCKER-ISOLATION-STAGE-1 -i {bridge} ! -o {bridge} -j DOCKER-ISOLATION-STAGE-2 && \
         iptables -I DOCKER-ISOLATION-STAGE-2 -o {bridge} -j DROP"
    ))
    .await;
}

#[test]
#[ignore = "needs the test host: run by tests/run"]
fn netns_beside_docker_guests_talk_and_containers_stay_closed() {
    netns::inside(async || {
        let outside = Peer::outside().await;
        serve(Some(&outside), "0.0.0.0:80", "outside");
        container_of_docker("container", "docker0", 17).await;
        ok(DOCKER).await;
        // As dockerd does where the kernel has it; without it bridged packets are not filtered at all.
        let bridged = run("sysctl -qw net.bridge.bridge-nf-call-iptables=1").await;
        println!("bridged packets are filtered: {}", bridged.is_ok());

        let driver = driver("one");
        let setup = network_of_two(1);
        driver.ensure(&setup).await.expect("made");
        let mut wanted = contract::firewall(&[&setup]);
        wanted.forwards = vec![contract::forward(&setup, &setup.hosts[0], (8080, 80))];
        driver.ensure_firewall(&wanted).await.expect("a firewall");
        let (a, b) = (guest(&driver, &setup, 2).await, guest(&driver, &setup, 3).await);
        serve(Some(&a), "0.0.0.0:80", "a");
        let all_well = || {
            assert_eq!(ask(Some(&a), "198.51.100.2:80").as_deref(), Some("outside 198.51.100.1"));
            assert_eq!(ask(Some(&b), "10.231.1.2:80").as_deref(), Some("a 10.231.1.3"));
            assert!(ask(Some(&outside), "198.51.100.1:8080").is_some());
            assert_eq!(
                ask(Some(&a), "172.17.0.2:80"),
                None,
                "a container's port that Docker did not publish"
            );
        };
        all_well();

        // dockerd starts again and empties its chain.
        let mut events = driver.events();
        ok("iptables -F DOCKER-USER && iptables -A DOCKER-USER -j RETURN").await;
        assert_eq!(
            ask(Some(&a), "198.51.100.2:80"),
            None,
            "this is what Docker does to a bridge it does not know"
        );
        timeout(Duration::from_secs(2), events.recv()).await.expect("told in time").expect("told");
        driver.ensure_firewall(&wanted).await.expect("mended");
        all_well();
        let before = ok("iptables -S").await;
        driver.ensure_firewall(&wanted).await.expect("already so");
        assert_eq!(ok("iptables -S").await, before);

        driver.remove(setup.id).await.expect("removed");
        driver.ensure_firewall(&contract::firewall(&[])).await.expect("no firewall");
        let after = ok("iptables -S").await;
        assert!(!after.contains("AGENTD") && !after.contains("agentd"), "{after}");
        assert!(after.contains("-A DOCKER-USER -j RETURN"), "{after}");
    });
}

#[test]
#[ignore = "needs the test host: run by tests/run"]
fn netns_containers_of_docker_are_answered_by_published_ports_alone() {
    netns::inside(async || {
        let _outside = Peer::outside().await;
        let stranger = container_of_docker("stranger", "docker0", 17).await;
        let shut = container_of_docker("shut", "inner", 18).await;
        ok(DOCKER).await;
        ok(ISOLATION).await;
        isolate("docker0").await;

        let driver = driver("one");
        let setup = network_of_two(1);
        driver.ensure(&setup).await.expect("made");
        let mut wanted = contract::firewall(&[&setup]);
        let web = contract::forward(&setup, &setup.hosts[0], (8080, 80));
        let echo = Forward { protocol: Protocol::Udp, host: 7000, guest: 7, ..web.clone() };
        wanted.forwards = vec![web, echo];
        driver.ensure_firewall(&wanted).await.expect("a firewall");
        let a = guest(&driver, &setup, 2).await;
        serve(Some(&a), "0.0.0.0:80", "a");
        serve_udp(Some(&a), "0.0.0.0:7", "a");
        let all_well = |when: &str| {
            let is = |said: Option<String>, what: &str| assert_eq!(said.as_deref(), Some(what), "{when}");
            is(ask(Some(&stranger), "198.51.100.1:8080"), "a 10.231.1.1");
            is(ask_udp(Some(&stranger), "198.51.100.1:7000"), "a 10.231.1.1");
            // As a program of the host's would: it is on that bridge too.
            is(ask(Some(&shut), "172.18.0.1:8080"), "a 172.18.0.2");
            let closed = [(&stranger, "10.231.1.2:80"), (&shut, "10.231.1.2:80"), (&a, "172.17.0.2:80")];
            for (from, to) in closed.into_iter().chain([(&a, "172.18.0.2:80")]) {
                assert_eq!(ask(Some(from), to), None, "{} asks {to}, not published, {when}", from.name);
            }
        };
        all_well("while Docker does not know our bridge");

        isolate(&driver.bridge(setup.id)).await;
        all_well("once Docker knows it");
        let before = ok("iptables -S").await;
        driver.ensure_firewall(&wanted).await.expect("already so");
        assert_eq!(ok("iptables -S").await, before, "nothing was to be done");

        driver.ensure_firewall(&contract::firewall(&[])).await.expect("no firewall");
        driver.ensure_firewall(&wanted).await.expect("a firewall");
        all_well("where Docker knew it before");
    });
}

#[test]
#[ignore = "needs the test host: run by tests/run"]
fn netns_a_host_that_drops_lets_guests_through_and_be_served() {
    netns::inside(async || {
        let outside = Peer::outside().await;
        serve(Some(&outside), "0.0.0.0:80", "outside");
        serve(None, "0.0.0.0:90", "host");
        ok("iptables -P FORWARD DROP && iptables -P INPUT DROP && iptables -A INPUT -i lo -j ACCEPT").await;
        let (driver, setup) = (driver("one"), contract::network(1));
        driver.ensure(&setup).await.expect("made");
        driver.ensure_firewall(&contract::firewall(&[&setup])).await.expect("a firewall");
        let a = guest(&driver, &setup, 2).await;
        assert_eq!(netns::resolve(Some(&a), "10.231.1.1", "host-2"), Ok(setup.hosts[0].ip));
        assert_eq!(ask(Some(&a), "198.51.100.2:80").as_deref(), Some("outside 198.51.100.1"));
        assert_eq!(
            ask(Some(&a), "10.231.1.1:90"),
            None,
            "what the host drops for others it drops for guests"
        );

        // Docker comes later: our rule moves to its chain.
        ok("iptables -N DOCKER-USER && iptables -A DOCKER-USER -j RETURN && iptables -I FORWARD -j DOCKER-USER").await;
        driver.ensure_firewall(&contract::firewall(&[&setup])).await.expect("moved");
        let rules = ok("iptables -S").await;
        let jumps: Vec<&str> = rules.lines().filter(|l| l.contains("--comment \"agentd")).collect();
        assert!(jumps.iter().any(|l| l.starts_with("-A DOCKER-USER ")), "{rules}");
        assert!(!jumps.iter().any(|l| l.starts_with("-A FORWARD ")), "{rules}");
        assert!(ask(Some(&a), "198.51.100.2:80").is_some());
    });
}
