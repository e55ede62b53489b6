//! The fake under the contract suite, and the files that are rendered against those in `golden/`.
//!
//! A golden file is what a person reviews when a rule changes: `INSTA_UPDATE=always cargo test -p agentd-drivers golden`
//! writes them anew.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use agentd_api::{ObjectName, Protocol};
use uuid::Uuid;

use super::dnsmasq_config::{DnsmasqSetting, prune_leases, render_dnsmasq, render_hosts};
use super::fake::FakeNetwork;
use super::ruleset::{render_ruleset, table_name};
use super::*;
use crate::Instance;

fn instance() -> Instance {
    Instance::new(Path::new("/var/lib/agentd"))
}

/// Always the same, as golden files need it.
fn setup(n: u8, nat: bool) -> NetworkSetup {
    let id = Uuid::from_u128(0x0197_0000_0000_7000_8000_0000_0000_0000 + u128::from(n));
    NetworkSetup { id, nat, ..contract::network(n) }
}

fn golden(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("golden");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

fn golden_ruleset(name: &str, setup: &FirewallSetup) {
    let ruleset = render_ruleset(setup, &instance());
    // One object a line: a changed rule is a changed line.
    let lines: Vec<String> =
        ruleset.objects.iter().map(|object| serde_json::to_string(object).expect("JSON")).collect();
    golden(name, &lines.join("\n"));
}

#[tokio::test]
async fn the_fake_keeps_the_contract() {
    let fake = FakeNetwork::new(instance());
    contract::all(fake.as_ref(), &|id| fake.break_behind_our_back(id)).await;
    let setup = contract::network(7);
    fake.foreign_bridge(setup.id, true);
    contract::foreign_bridge(fake.as_ref(), &setup).await;
    fake.foreign_bridge(setup.id, false);
    fake.ensure(&setup).await.expect("the stranger is gone");
    assert_eq!(fake.network(setup.id), Some(setup));
    contract::listeners(fake.as_ref(), &|there| {
        let listener = |&(protocol, at): &(Protocol, SocketAddr)| Listener {
            protocol,
            address: at.ip(),
            port: at.port(),
            holder: Holder::default(),
        };
        fake.set_listeners(there.iter().map(listener).collect());
        Box::new(())
    })
    .await;
}

#[tokio::test]
async fn the_fake_fails_when_told_to() {
    let fake = FakeNetwork::new(instance());
    let error = || NetworkError::Failed { step: "a test".to_owned(), detail: "as told".to_owned() };
    fake.faults().fail_next("ensure", 1, error);
    let setup = contract::network(1);
    fake.ensure(&setup).await.expect_err("told to fail");
    assert_eq!(fake.networks(), vec![]);
    fake.ensure(&setup).await.expect("once only");
    fake.ensure_firewall(&contract::firewall(&[&setup])).await.expect("a firewall");
    fake.flush_firewall_behind_our_back();
    assert_eq!(fake.firewall(), FirewallSetup::default());
}

#[test]
fn golden_firewalls() {
    let (one, two) = (setup(1, true), setup(2, false));
    golden_ruleset("ruleset_none", &FirewallSetup::default());
    golden_ruleset("ruleset_one_network", &contract::firewall(&[&one]));
    let mut full = contract::firewall(&[&one, &two]);
    let web = contract::forward(&one, &one.hosts[0], (8080, 80));
    full.forwards = vec![
        web.clone(),
        Forward { address: Some(Ipv4Addr::LOCALHOST), host: 5353, protocol: Protocol::Udp, guest: 53, ..web },
        contract::forward(&two, &two.hosts[0], (2222, 22)),
    ];
    golden_ruleset("ruleset_two_networks_published", &full);

    full.networks.reverse();
    full.forwards.reverse();
    let ruleset = render_ruleset(&full, &instance());
    let lines: Vec<String> =
        ruleset.objects.iter().map(|o| serde_json::to_string(o).expect("JSON")).collect();
    golden("ruleset_two_networks_published", &lines.join("\n"));
}

#[test]
fn a_published_port_of_an_unknown_network_leads_nowhere() {
    let (one, two) = (setup(1, true), setup(2, true));
    let mut wanted = contract::firewall(&[&one]);
    let without = render_ruleset(&wanted, &instance());
    wanted.forwards.push(contract::forward(&two, &two.hosts[0], (80, 80)));
    assert_eq!(render_ruleset(&wanted, &instance()), without);
}

#[test]
fn each_daemon_has_a_table_of_its_own() {
    assert_eq!(table_name(&instance()), "agentd");
    let other = Instance::new(Path::new("/srv/agentd"));
    assert_eq!(table_name(&other), format!("agentd_{}", other.tag()));
}

#[test]
fn golden_dnsmasq() {
    let folder = Path::new("/var/lib/agentd/networks/n");
    let upstream = ["192.0.2.53".parse().expect("an address"), "2001:db8::53".parse().expect("an address")];
    let with = |upstream| DnsmasqSetting { bridge: "agb0", index: 7, folder, user: "dnsmasq", upstream };
    let render = |setup: &NetworkSetup, upstream| render_dnsmasq(setup, &with(upstream)).expect("rendered");
    golden("dnsmasq_nat", &render(&setup(1, true), &[]));
    golden("dnsmasq_nat_upstream", &render(&setup(1, true), &upstream));
    golden("dnsmasq_isolated", &render(&setup(2, false), &upstream));

    let mut bad = setup(1, true);
    for domain in ["", "a..b", "a\nuser=root", "a/b", "a b", "a,b"] {
        bad.domain = domain.to_owned();
        assert_eq!(render_dnsmasq(&bad, &with(&[])), None, "{domain:?}");
    }
    let folder = Path::new("/srv/a\nuser=root");
    assert_eq!(render_dnsmasq(&setup(1, true), &DnsmasqSetting { folder, ..with(&[]) }), None);
}

#[test]
fn golden_hosts() {
    let mut setup = setup(1, true);
    setup.hosts.push(contract::host(1, 3));
    let files = render_hosts(&setup);
    let text = |files: std::collections::BTreeMap<String, String>| {
        files.into_iter().map(|(name, text)| format!("{name}: {text}")).collect::<String>()
    };
    golden("hosts", &(text(files.dhcp) + &text(files.dns)));
}

#[test]
fn only_leases_of_the_listed_are_kept() {
    let hosts = [contract::host(1, 2), HostEntry { name: name("web"), ..contract::host(1, 3) }];
    let listed = "1700000000 52:54:00:00:01:02 10.231.1.2 host-2 *\n";
    assert_eq!(prune_leases(listed, &hosts), None);
    assert_eq!(prune_leases("", &hosts), None);
    let stale =
        "1700000000 52:54:00:00:01:09 10.231.1.3 old *\n1700000000 52:54:00:00:01:04 10.231.1.4 gone *\n";
    assert_eq!(prune_leases(&format!("{stale}{listed}duid 00\n"), &hosts), Some(listed.to_owned()));
}

fn name(text: &str) -> ObjectName {
    ObjectName::parse(text).expect("a name")
}
