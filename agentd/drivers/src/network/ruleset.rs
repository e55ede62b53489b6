//! The text of agentd's nftables table, from what the firewall should be. Pure.
//!
//! One table of the family inet holds all of a daemon's rules; it is replaced in one transaction, so that there is no
//! moment without it. The chains, in the order in which a packet meets them:
//!
//! ```text
//! guard        before conntrack: a guest's packet for 127.0.0.0/8 is dropped (see below)
//! prerouting   a new connection to an address of the host: published ports lead to their guests
//! output       the same for connections of the host itself
//! input        a network's DNS answers its own guests and the host, nobody else
//! forward      isolation: a guest reaches its own network and, with NAT, what lies beyond the host; other networks
//!              of ours never, but by a published port
//! postrouting  guests beyond the host, and who would otherwise be answered past us, bear an address of the host
//! ```
//!
//! `guard` is there because `127.0.0.1:port` of the host can only lead to a guest when the bridge may carry loopback
//! addresses (`route_localnet`), which would open the host's own loopback services to guests.
//! An accept here ends this table's chain only: a drop of another table (Docker's) still holds, and is seen to in
//! `host/beside.rs`.

mod words;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;

use agentd_api::{Cidr, Protocol};
use nftables::batch::Batch;
use nftables::expr::{Expression, MetaKey, NamedExpression};
use nftables::schema::{Chain, NfListObject, Nftables, Rule, Table};
use nftables::stmt::{JumpTarget, NAT, NATFamily, Statement};
use nftables::types::{NfChainPolicy, NfChainType, NfFamily, NfHook};
use uuid::Uuid;

use self::words::{ct, drop, equal, field, local_address, meta, prefix, set, text, unequal, within};
use super::{FirewallNetwork, FirewallSetup, Forward};
use crate::Instance;

const FAMILY: NfFamily = NfFamily::INet;
const PUBLISHED: &str = "published";

/// The name of this daemon's table: plain `agentd` for the one in the usual place, so that `nft list table inet agentd`
/// is what a person can be told to type.
pub fn table_name(instance: &Instance) -> String {
    if instance.state_dir() == Path::new("/var/lib/agentd") {
        "agentd".to_owned()
    } else {
        format!("agentd_{}", instance.tag())
    }
}

/// The transaction that makes this daemon's table what `setup` says: gone where there are no networks.
/// A published port of a network that is not listed leads nowhere and is left out.
pub fn render_ruleset(setup: &FirewallSetup, instance: &Instance) -> Nftables<'static> {
    let mut ruleset = Ruleset { table: table_name(instance), batch: Batch::new() };
    ruleset.batch.add(ruleset.table_object());
    ruleset.batch.delete(ruleset.table_object());
    let nets = Networks::of(setup, instance);
    if !nets.all.is_empty() {
        ruleset.batch.add(ruleset.table_object());
        ruleset.chains();
        ruleset.guard(&nets);
        ruleset.published(&nets);
        ruleset.input(&nets);
        ruleset.forward(&nets);
        ruleset.postrouting(&nets);
    }
    ruleset.batch.to_nftables()
}

/// What the rules are about, sorted, so that equal setups give equal text whatever their order.
struct Networks {
    all: Vec<(String, Cidr)>,
    nat: Vec<(String, Cidr)>,
    /// With the bridge that leads to each. Those of one address come first: they win over "every address".
    forwards: Vec<(String, Forward)>,
}

impl Networks {
    fn of(setup: &FirewallSetup, instance: &Instance) -> Self {
        let by_id: BTreeMap<Uuid, &FirewallNetwork> = setup.networks.iter().map(|n| (n.id, n)).collect();
        let named = |n: &&FirewallNetwork| (instance.bridge(n.id), n.cidr);
        let mut forwards: Vec<(String, Forward)> = setup
            .forwards
            .iter()
            .filter(|f| by_id.contains_key(&f.network))
            .map(|f| (instance.bridge(f.network), f.clone()))
            .collect();
        forwards.sort_by_key(|(_, f)| (f.address.is_none(), f.protocol, f.host, f.address));
        Self {
            all: by_id.values().map(named).collect(),
            nat: by_id.values().filter(|n| n.nat).map(named).collect(),
            forwards,
        }
    }
    fn bridges(&self) -> Expression<'static> {
        set(self.all.iter().map(|(bridge, _)| text(bridge)))
    }
}

struct Ruleset {
    table: String,
    batch: Batch<'static>,
}

impl Ruleset {
    fn table_object(&self) -> NfListObject<'static> {
        NfListObject::Table(Table { family: FAMILY, name: self.table.clone().into(), handle: None })
    }

    fn chains(&mut self) {
        use NfChainType::{Filter, NAT};
        self.chain(PUBLISHED, None);
        self.chain("guard", Some((Filter, NfHook::Prerouting, -300)));
        self.chain("prerouting", Some((NAT, NfHook::Prerouting, -100)));
        self.chain("output", Some((NAT, NfHook::Output, -100)));
        self.chain("input", Some((Filter, NfHook::Input, 0)));
        self.chain("forward", Some((Filter, NfHook::Forward, 0)));
        self.chain("postrouting", Some((NAT, NfHook::Postrouting, 100)));
    }

    /// A base chain lets pass what no rule of it decides.
    fn chain(&mut self, name: &'static str, base: Option<(NfChainType, NfHook, i32)>) {
        let mut chain =
            Chain { family: FAMILY, table: self.table.clone().into(), name: name.into(), ..Chain::default() };
        if let Some((kind, hook, priority)) = base {
            chain._type = Some(kind);
            chain.hook = Some(hook);
            chain.prio = Some(priority);
            chain.policy = Some(NfChainPolicy::Accept);
        }
        self.batch.add(NfListObject::Chain(chain));
    }

    fn rule(&mut self, chain: &'static str, why: impl Into<String>, statements: Vec<Statement<'static>>) {
        self.batch.add(NfListObject::Rule(Rule {
            family: FAMILY,
            table: self.table.clone().into(),
            chain: chain.into(),
            expr: statements.into(),
            comment: Some(why.into().into()),
            ..Rule::default()
        }));
    }

    fn guard(&mut self, nets: &Networks) {
        let loopback = prefix(Ipv4Addr::new(127, 0, 0, 0), 8);
        let statements = vec![
            equal(meta(MetaKey::Iifname), nets.bridges()),
            equal(field("ip", "daddr"), loopback),
            drop(),
        ];
        self.rule("guard", "no guest reaches the loopback of the host", statements);
    }

    fn published(&mut self, nets: &Networks) {
        if nets.forwards.is_empty() {
            return;
        }
        for chain in ["prerouting", "output"] {
            let statements = vec![
                equal(meta(MetaKey::Nfproto), text("ipv4")),
                equal(local_address(), text("local")),
                Statement::Jump(JumpTarget { target: PUBLISHED.into() }),
            ];
            self.rule(chain, "to an address of the host", statements);
        }
        for (_, forward) in &nets.forwards {
            let mut statements = Vec::new();
            if let Some(address) = forward.address {
                statements.push(equal(field("ip", "daddr"), text(&address.to_string())));
            }
            let protocol = match forward.protocol {
                Protocol::Tcp => "tcp",
                Protocol::Udp => "udp",
            };
            statements.push(equal(field(protocol, "dport"), Expression::Number(forward.host.into())));
            statements.push(Statement::DNAT(Some(NAT {
                addr: Some(text(&forward.to.to_string())),
                family: Some(NATFamily::IP),
                port: Some(Expression::Number(forward.guest.into())),
                flags: None,
            })));
            self.rule(PUBLISHED, format!("network {}", forward.network), statements);
        }
    }

    fn input(&mut self, nets: &Networks) {
        let dns = || {
            let both = set([text("tcp"), text("udp")]);
            let port = equal(field("th", "dport"), Expression::Number(53));
            vec![equal(meta(MetaKey::Nfproto), text("ipv4")), equal(meta(MetaKey::L4proto), both), port]
        };
        let asked =
            Expression::Named(NamedExpression::Concat(vec![meta(MetaKey::Iifname), field("ip", "daddr")]));
        let own = set(nets.all.iter().map(|(bridge, cidr)| {
            Expression::Named(NamedExpression::Concat(vec![text(bridge), text(&cidr.gateway().to_string())]))
        }));
        let mut accept = dns();
        accept.extend([equal(asked, own), Statement::Accept(None)]);
        self.rule("input", "DNS of the guest's own network", accept);
        let gateways = set(nets.all.iter().map(|(_, cidr)| text(&cidr.gateway().to_string())));
        let mut refuse = dns();
        refuse.extend([
            unequal(meta(MetaKey::Iifname), text("lo")),
            equal(field("ip", "daddr"), gateways),
            drop(),
        ]);
        self.rule("input", "DNS of another network", refuse);
    }

    fn forward(&mut self, nets: &Networks) {
        let (from, to) = (|| meta(MetaKey::Iifname), || meta(MetaKey::Oifname));
        let accept = || Statement::Accept(None);
        let foreign = vec![unequal(from(), nets.bridges()), unequal(to(), nets.bridges()), accept()];
        self.rule("forward", "nothing of ours", foreign);
        let answers = set([text("established"), text("related")]);
        self.rule("forward", "answers", vec![equal(ct("state"), answers), accept()]);
        // Bridged packets come by here where br_netfilter is on, as Docker turns it on.
        let pair = Expression::Named(NamedExpression::Concat(vec![from(), to()]));
        let same = set(nets
            .all
            .iter()
            .map(|(bridge, _)| Expression::Named(NamedExpression::Concat(vec![text(bridge), text(bridge)]))));
        self.rule("forward", "within a network", vec![equal(pair, same), accept()]);
        let dnat = within(ct("status"), text("dnat"));
        self.rule("forward", "published ports", vec![equal(to(), nets.bridges()), dnat, accept()]);
        if !nets.nat.is_empty() {
            let statements = vec![
                equal(meta(MetaKey::Nfproto), text("ipv4")),
                equal(from(), set(nets.nat.iter().map(|(bridge, _)| text(bridge)))),
                unequal(to(), nets.bridges()),
                accept(),
            ];
            self.rule("forward", "beyond the host", statements);
        }
        self.rule("forward", "everything else of ours", vec![drop()]);
    }

    fn postrouting(&mut self, nets: &Networks) {
        let to = || meta(MetaKey::Oifname);
        let masquerade = || Statement::Masquerade(None);
        if !nets.forwards.is_empty() {
            let loopback = prefix(Ipv4Addr::new(127, 0, 0, 0), 8);
            let statements =
                vec![equal(to(), nets.bridges()), equal(field("ip", "saddr"), loopback), masquerade()];
            self.rule("postrouting", "published ports from the host's loopback", statements);
        }
        let published: BTreeMap<&String, Uuid> =
            nets.forwards.iter().map(|(bridge, f)| (bridge, f.network)).collect();
        for (bridge, cidr) in nets.all.iter().filter(|(bridge, _)| published.contains_key(bridge)) {
            // Without it the guest would answer its neighbour directly, under an address that was not asked.
            let statements = vec![
                equal(to(), text(bridge)),
                equal(field("ip", "saddr"), prefix(cidr.address(), cidr.prefix())),
                within(ct("status"), text("dnat")),
                masquerade(),
            ];
            self.rule("postrouting", "published ports from the guest's own network", statements);
        }
        if !nets.nat.is_empty() {
            let sources = set(nets.nat.iter().map(|(_, cidr)| prefix(cidr.address(), cidr.prefix())));
            let statements =
                vec![equal(field("ip", "saddr"), sources), unequal(to(), nets.bridges()), masquerade()];
            self.rule("postrouting", "beyond the host", statements);
        }
    }
}
