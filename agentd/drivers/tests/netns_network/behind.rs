//! What is done behind our back: told in under 2 s, seen, and mended; and that nothing is told of what we do ourselves
//! for ever.

use std::time::Duration;

use agentd_drivers::network::{NetworkDriver, NetworkSeen};
use tokio::sync::broadcast::Receiver;
use tokio::time::timeout;

use crate::netns::{self, Peer, ask, ok, serve};
use crate::{contract, driver, guest, instance};

const IN_TIME: Duration = Duration::from_secs(2);

/// Until nothing has been told for a while.
async fn quiet(events: &mut Receiver<()>) {
    let mut told = 0;
    while timeout(Duration::from_millis(1500), events.recv()).await.is_ok() {
        told += 1;
        assert!(told < 10, "the driver tells of its own doings without end");
    }
}

#[test]
#[ignore = "needs the test host: run by tests/run"]
fn netns_a_broken_network_is_told_seen_and_mended() {
    netns::inside(async || {
        let (driver, setup) = (driver("one"), contract::network(1));
        let bridge = driver.bridge(setup.id);
        let mut events = driver.events();
        driver.ensure(&setup).await.expect("made");
        let a = guest(&driver, &setup, 2).await;
        quiet(&mut events).await;
        let pid = format!("/run/one/networks/{}/dnsmasq.pid", setup.id);
        let breaks = [
            (format!("ip link del {bridge}"), "bridge"),
            (format!("ip link set {bridge} down"), "bridge"),
            (format!("ip addr flush dev {bridge}"), "bridge"),
            (format!("kill -9 $(cat {pid})"), "dns"),
        ];
        for (line, gone) in breaks {
            let seen = NetworkSeen { bridge: gone != "bridge", dns: gone != "dns" };
            ok(&line).await;
            timeout(IN_TIME, events.recv())
                .await
                .unwrap_or_else(|_| panic!("told of: {line}"))
                .expect("told");
            assert_eq!(driver.observe(setup.id).await.expect("observed"), seen, "{line}");
            assert_eq!(driver.ensure(&setup).await.expect("mended"), contract::WHOLE, "{line}");
            a.replug(&bridge).await;
            assert_eq!(a.dhcp().await.as_deref(), Some("10.231.1.2"), "served again after: {line}");
            quiet(&mut events).await;
        }
        // Files of dnsmasq that somebody changed or lost.
        ok(&format!("rm -r /run/one/networks/{}", setup.id)).await;
        assert_eq!(driver.ensure(&setup).await.expect("mended"), contract::WHOLE);
        assert_eq!(ok("pgrep -x dnsmasq -r R,S | wc -l").await.trim(), "1", "the lost one was ended");
        assert_eq!(a.dhcp().await.as_deref(), Some("10.231.1.2"));
    });
}

#[test]
#[ignore = "needs the test host: run by tests/run"]
fn netns_rules_removed_by_hand_are_told_and_put_back() {
    netns::inside(async || {
        let outside = Peer::outside().await;
        serve(Some(&outside), "0.0.0.0:80", "outside");
        let (driver, setup) = (driver("one"), contract::network(1));
        driver.ensure(&setup).await.expect("made");
        let wanted = contract::firewall(&[&setup]);
        driver.ensure_firewall(&wanted).await.expect("a firewall");
        let a = guest(&driver, &setup, 2).await;
        let way_out = || ask(Some(&a), "198.51.100.2:80");
        assert_eq!(way_out().as_deref(), Some("outside 198.51.100.1"));
        let table = agentd_drivers::network::ruleset::table_name(&instance("one"));
        let mut events = driver.events();
        quiet(&mut events).await;
        let breaks = [
            "nft flush ruleset".to_owned(),
            format!("nft flush chain inet {table} postrouting"),
            format!("nft insert rule inet {table} forward drop"),
            format!("nft delete table inet {table}"),
        ];
        for line in breaks {
            ok(&line).await;
            assert_ne!(way_out().as_deref(), Some("outside 198.51.100.1"), "{line}");
            timeout(IN_TIME, events.recv())
                .await
                .unwrap_or_else(|_| panic!("told of: {line}"))
                .expect("told");
            driver.ensure_firewall(&wanted).await.expect("mended");
            assert_eq!(way_out().as_deref(), Some("outside 198.51.100.1"), "{line}");
            quiet(&mut events).await;
        }
        // What is right is not touched: the kernel's numbers of the rules stay.
        let handles = ok(&format!("nft -a list table inet {table}")).await;
        driver.ensure_firewall(&wanted).await.expect("already so");
        assert_eq!(ok(&format!("nft -a list table inet {table}")).await, handles);
    });
}

#[test]
#[ignore = "needs the test host: run by tests/run"]
fn netns_watching_costs_next_to_nothing() {
    netns::inside(async || {
        let driver = driver("one");
        let mut setups = Vec::new();
        for third in 1..=10 {
            let setup = contract::network(third);
            driver.ensure(&setup).await.expect("made");
            setups.push(setup);
        }
        let mut events = driver.events();
        quiet(&mut events).await;
        let used = || {
            let usage =
                nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF).expect("usage");
            let micros = |t: nix::sys::time::TimeVal| t.tv_sec() * 1_000_000 + t.tv_usec();
            micros(usage.user_time()) + micros(usage.system_time())
        };
        let before = used();
        // Measured over a stretch of time, which is what must pass here.
        tokio::time::sleep(Duration::from_secs(5)).await;
        let percent = 100.0 * f64::from(i32::try_from(used() - before).expect("small")) / 5_000_000.0;
        println!("watching ten networks costs {percent:.3} % of a core");
        // A machine that is busy with other things makes the same work dearer.
        assert!(percent < 0.5, "{percent} %");
        assert!(events.try_recv().is_err(), "nothing happened, nothing is told");
    });
}
