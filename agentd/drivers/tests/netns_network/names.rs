//! Addresses and names: what guests are told by dnsmasq, and that it outlives the daemon.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use agentd_api::MacAddr;
use agentd_drivers::network::host::{HostNetwork, NetworkOptions};
use agentd_drivers::network::{HostEntry, NetworkDriver};

use crate::netns::{self, Peer, ok, resolve, wait_until};
use crate::{contract, driver, guest, instance, network_of_two};

const GATEWAY: &str = "10.231.1.1";

fn ip(fourth: u8) -> Result<std::net::Ipv4Addr, bool> {
    Ok(contract::host(1, fourth).ip)
}

#[test]
#[ignore = "needs the test host: run by tests/run"]
fn netns_a_guest_gets_the_address_of_its_entry_and_names_resolve() {
    netns::inside(async || {
        let outside = Peer::outside().await;
        netns::serve_names(&outside, "203.0.113.7".parse().expect("an address"));
        let upstream = vec!["198.51.100.2".parse().expect("an address")];
        let driver = HostNetwork::new(instance("one"), NetworkOptions { upstream });
        let setup = network_of_two(1);
        driver.ensure(&setup).await.expect("made");
        driver.ensure_firewall(&contract::firewall(&[&setup])).await.expect("a firewall");

        let a = guest(&driver, &setup, 2).await;
        let _b = guest(&driver, &setup, 3).await;
        let told = ok("cat /run/told-10.231.1.2").await;
        assert_eq!(told.trim(), "search net-1.test domain net-1.test dns 10.231.1.1");
        let stranger = Peer::guest("stranger", &driver.bridge(setup.id), "52:54:00:99:99:99").await;
        assert_eq!(stranger.dhcp().await, None, "who is not listed gets no address");

        for from in [Some(&a), None] {
            assert_eq!(resolve(from, GATEWAY, "host-3"), ip(3));
            assert_eq!(resolve(from, GATEWAY, "host-3.net-1.test"), ip(3));
            assert_eq!(resolve(from, GATEWAY, "nobody.net-1.test"), Err(true), "not asked of others");
            assert_eq!(resolve(from, GATEWAY, "example.org"), Ok("203.0.113.7".parse().expect("an address")));
        }
        // Through another network's door there are no names.
        let other = contract::network(2);
        driver.ensure(&other).await.expect("made");
        driver.ensure_firewall(&contract::firewall(&[&setup, &other])).await.expect("a firewall");
        let c = guest(&driver, &other, 2).await;
        assert_eq!(
            resolve(Some(&c), "10.231.2.1", "host-2.net-2.test"),
            Ok("10.231.2.2".parse().expect("ip"))
        );
        assert_eq!(resolve(Some(&c), GATEWAY, "host-3.net-1.test"), Err(false));
    });
}

#[test]
#[ignore = "needs the test host: run by tests/run"]
fn netns_hosts_come_without_a_pause_and_are_really_gone() {
    netns::inside(async || {
        let driver = driver("one");
        let mut setup = contract::network(1);
        driver.ensure(&setup).await.expect("made");
        let pid = ok("pgrep -x dnsmasq").await;
        let a = guest(&driver, &setup, 2).await;

        setup.hosts.push(contract::host(1, 3));
        driver.ensure(&setup).await.expect("a host more");
        assert_eq!(ok("pgrep -x dnsmasq").await, pid, "a host more is no restart");
        wait_until("the new name resolves", Duration::from_secs(1), async || {
            resolve(Some(&a), GATEWAY, "host-3").map_err(|e| e.to_string())
        })
        .await;
        let b = guest(&driver, &setup, 3).await;

        // A host less: gone from DHCP, from DNS and from the leases when `ensure` returns.
        let leases = format!("/run/one/networks/{}/leases", setup.id);
        assert!(ok(&format!("cat {leases}")).await.contains("52:54:00:00:01:03"));
        let gone = setup.hosts.remove(1);
        let begin = Instant::now();
        driver.ensure(&setup).await.expect("a host less");
        let took = begin.elapsed();
        println!("a host less took {took:?}");
        assert!(took < Duration::from_secs(1), "{took:?}");
        assert!(!ok(&format!("cat {leases}")).await.contains("52:54:00:00:01:03"));
        assert_eq!(resolve(Some(&a), GATEWAY, "host-3"), Err(true));
        assert_eq!(b.dhcp().await, None, "its address is not given again");
        assert_eq!(resolve(Some(&a), GATEWAY, "host-2"), ip(2), "the others stay");

        // Its address is another's at once, under another name.
        let next = HostEntry { mac: "52:54:00:aa:bb:cc".parse().expect("a MAC"), ..gone };
        setup.hosts.push(next);
        driver.ensure(&setup).await.expect("the address given anew");
        assert_eq!(b.dhcp().await, None, "the old MAC has no claim");
        let c = Peer::guest("c", &driver.bridge(setup.id), "52:54:00:aa:bb:cc").await;
        assert_eq!(c.dhcp().await.as_deref(), Some("10.231.1.3"));

        // While it runs an address can go from one MAC to another too.
        setup.hosts[1].mac = contract::host(1, 3).mac;
        driver.ensure(&setup).await.expect("given back");
        assert_eq!(b.dhcp().await.as_deref(), Some("10.231.1.3"));
        assert_eq!(c.dhcp().await, None);
    });
}

/// The part of the next test that is killed: a daemon that makes a network and goes on.
const VICTIM: &str = "AGENTD_TEST_VICTIM";

#[test]
#[ignore = "needs the test host: run by tests/run"]
fn netns_dnsmasq_outlives_the_daemon_and_is_found_again() {
    if let Ok(id) = std::env::var(VICTIM) {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        return runtime.block_on(async {
            let mut setup = contract::network(1);
            setup.id = id.parse().expect("an id");
            let _driver = driver("one");
            _driver.ensure(&setup).await.expect("made");
            std::fs::write("/run/made", "").expect("written");
            std::future::pending().await
        });
    }
    netns::inside(async || {
        let setup = contract::network(1);
        #[expect(clippy::disallowed_methods, reason = "a test starts itself; the rule is for the daemon")]
        let mut victim = Command::new(std::env::current_exe().expect("the test's own path"))
            .args(["--exact", "names::netns_dnsmasq_outlives_the_daemon_and_is_found_again"])
            .args(["--include-ignored", "--nocapture"])
            .env(VICTIM, setup.id.to_string())
            .stdout(Stdio::null())
            .spawn()
            .expect("started");
        wait_until("the network is made", Duration::from_secs(10), async || {
            std::fs::exists("/run/made").ok().filter(|made| *made).ok_or_else(|| "nothing".to_owned())
        })
        .await;
        let pid = ok("pgrep -x dnsmasq").await;
        victim.kill().expect("SIGKILL");
        victim.wait().expect("dead");

        // It serves with the daemon gone, writes to its log included (a pipe of the dead would end it).
        let driver = driver("one");
        let a = guest(&driver, &setup, 2).await;
        assert_eq!(resolve(Some(&a), GATEWAY, "host-2"), ip(2));
        assert_eq!(driver.ensure(&setup).await.expect("adopted"), contract::WHOLE);
        assert_eq!(ok("pgrep -x dnsmasq").await, pid, "the same one goes on");

        // A pid file that names somebody else: he is left alone, and ours is found without it.
        ok("sleep 300 >/dev/null 2>&1 & echo $! > /run/sleeper").await;
        let file = format!("/run/one/networks/{}/dnsmasq.pid", setup.id);
        ok(&format!("cp /run/sleeper {file}")).await;
        assert!(!driver.observe(setup.id).await.expect("observed").dns);
        assert_eq!(driver.ensure(&setup).await.expect("mended"), contract::WHOLE);
        assert_ne!(ok("pgrep -x dnsmasq -r S").await, pid, "one runs, and not the lost one");
        ok(&format!("cp /run/sleeper {file}")).await;
        driver.remove(setup.id).await.expect("removed");
        ok("kill -0 $(cat /run/sleeper)").await;
        assert_eq!(ok("pgrep -x dnsmasq -r R,S || true").await, "");
    });
}

#[test]
#[ignore = "needs the test host: run by tests/run"]
fn netns_a_closed_folder_above_does_not_close_names() {
    netns::inside(async || {
        ok("umask 077 && mkdir /run/closed").await;
        let driver = driver("closed/one");
        let mut setup = contract::network(1);
        driver.ensure(&setup).await.expect("made");
        setup.hosts.push(contract::host(1, 3));
        driver.ensure(&setup).await.expect("a host more");
        guest(&driver, &setup, 3).await;
        assert_eq!(resolve(None, GATEWAY, "host-3"), ip(3));
        let user = async || ok("ps -o user= -p $(pgrep -x dnsmasq -r S)").await.trim().to_owned();
        assert_eq!(user().await, "root");
        // Open, it becomes who it should be.
        ok("chmod 711 /run/closed").await;
        driver.ensure(&setup).await.expect("again");
        assert_eq!(user().await, "dnsmasq");
        assert_eq!(resolve(None, GATEWAY, "host-3"), ip(3));
    });
}

#[test]
#[ignore = "needs the test host: run by tests/run"]
fn netns_a_host_more_among_thousands_is_quick() {
    netns::inside(async || {
        let driver = driver("one");
        let mut setup = contract::network(0);
        setup.cidr = "10.231.0.0/16".parse().expect("a network");
        setup.hosts = setup
            .cidr
            .guests()
            .filter(|ip| !matches!(ip.octets()[3], 0 | 255))
            .take(3000)
            .map(|ip| {
                let [_, _, third, fourth] = ip.octets();
                let name = format!("host-{third}-{fourth}").parse().expect("a name");
                HostEntry { name, ip, mac: MacAddr([0x52, 0x54, 0, 1, third, fourth]) }
            })
            .collect();
        let more = setup.hosts.split_off(2980);
        driver.ensure(&setup).await.expect("made");
        let begin = Instant::now();
        for host in more {
            setup.hosts.push(host);
            driver.ensure(&setup).await.expect("a host more");
        }
        let each = begin.elapsed() / 20;
        println!("a host more among 3,000 took {each:?}");
        assert!(each < Duration::from_secs(1), "{each:?}");
    });
}
