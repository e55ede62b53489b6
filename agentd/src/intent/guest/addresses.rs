//! Addresses and MACs of a guest's interfaces. Each is an allocation row: the store refuses the second that would take it.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use agentd_api::network::Network;
use agentd_api::nic::{NicAddress, NicSpec};
use agentd_api::{Cidr, ErrorCode, MacAddr, ObjectKey, Problem};
use agentd_store::TxError;
use parking_lot::Mutex;
use uuid::Uuid;

use crate::claims::{self, ip_space};
use crate::intent::admission::{Desk, not_found, object, refused};

/// Where the search for a free address of each network begins: behind the last one that was given out. Without this,
/// the n-th guest of a network would look at n addresses. Only a hint: empty after a start, and not taken back when a
/// transaction is.
#[derive(Debug, Default)]
pub(in crate::intent) struct Cursors(Mutex<BTreeMap<Uuid, Ipv4Addr>>);

impl Cursors {
    fn behind(&self, network: Uuid) -> Option<Ipv4Addr> {
        self.0.lock().get(&network).copied()
    }
    fn move_to(&self, network: Uuid, ip: Ipv4Addr) {
        self.0.lock().insert(network, ip);
    }
}

/// What a guest has already.
#[derive(Debug, Default)]
pub(in crate::intent) struct Has<'a> {
    pub addresses: &'a [NicAddress],
    pub leaving: &'a [NicAddress],
    /// It may be using them: what goes is kept for it until it has let go.
    pub in_use: bool,
}

pub(in crate::intent) struct Assigned {
    /// One for each interface, in their order.
    pub addresses: Vec<NicAddress>,
    /// What it has to let go of first.
    pub leaving: Vec<NicAddress>,
}

/// The addresses for `nics`: those that it has and that still fit are kept, the rest is given back, at once or once it has
/// let go of them, and made up anew.
pub(in crate::intent) fn assign(
    desk: &mut Desk<'_>,
    guest: &ObjectKey,
    has: Has<'_>,
    nics: &[NicSpec],
) -> Result<Assigned, Problem> {
    let mut left: Vec<Option<&NicAddress>> = has.addresses.iter().chain(has.leaving).map(Some).collect();
    let mut kept: Vec<Option<NicAddress>> = Vec::with_capacity(nics.len());
    for (n, nic) in nics.iter().enumerate() {
        let fits = |a: &&NicAddress| {
            a.network == nic.network
                && nic.ip.is_none_or(|ip| ip == a.ip)
                && nic.mac.is_none_or(|mac| mac == a.mac)
        };
        // The interface in the same place first, so that what did not move keeps its address.
        let same = n < has.addresses.len() && left[n].as_ref().is_some_and(fits);
        let at = if same { Some(n) } else { left.iter().position(|a| a.as_ref().is_some_and(fits)) };
        kept.push(at.and_then(|at| left[at].take()).cloned());
    }
    let mut leaving: Vec<NicAddress> = left.into_iter().flatten().cloned().collect();
    if !has.in_use {
        // All that goes is given back before anything is taken: two interfaces may swap their addresses.
        for gone in leaving.drain(..) {
            give_back(desk, guest, &gone);
        }
    }
    let mut own = Own { leaving: &leaving, kept: kept.iter().flatten().cloned().collect() };
    let mut addresses = Vec::with_capacity(nics.len());
    for (n, (nic, kept)) in nics.iter().zip(kept).enumerate() {
        addresses.push(match kept {
            Some(address) => address,
            None => {
                own.check(guest, n, nic)?;
                let address = take(desk, guest, n, nic)?;
                own.kept.push(address.clone());
                address
            }
        });
    }
    Ok(Assigned { addresses, leaving })
}

fn give_back(desk: &mut Desk<'_>, guest: &ObjectKey, gone: &NicAddress) {
    let network = ObjectKey::of::<Network>(guest.project.clone(), gone.network.clone());
    let network = desk.tx.get(&network).map_or_else(Uuid::nil, |network| network.id());
    for (space, value) in claims::of_interface(network, gone.ip, gone.mac) {
        desk.tx.release(&space, &value, guest);
    }
}

/// What this guest itself has: the store lets an owner take twice what is its own.
struct Own<'a> {
    leaving: &'a [NicAddress],
    kept: Vec<NicAddress>,
}

impl Own<'_> {
    /// Refuses an address of another interface of the same guest.
    fn check(&self, guest: &ObjectKey, n: usize, nic: &NicSpec) -> Result<(), Problem> {
        let taken = |a: &NicAddress| {
            let ip = a.network == nic.network && nic.ip == Some(a.ip);
            let mac = nic.mac == Some(a.mac);
            ip.then(|| ("ip", a.ip.to_string())).or_else(|| mac.then(|| ("mac", a.mac.to_string())))
        };
        for (list, why) in [
            (self.leaving, "is still on an interface that its guest has not let go of"),
            (&self.kept[..], "is that of another of its interfaces"),
        ] {
            if let Some((field, value)) = list.iter().find_map(taken) {
                let hint = format!("`agentctl {} show {}` shows which it has", guest.kind, guest.name);
                let problem = Problem::new(ErrorCode::Conflict, format!("{value} {why}"));
                return Err(problem.at(format!("spec.networks[{n}].{field}")).hint(hint));
            }
        }
        Ok(())
    }
}

fn take(desk: &mut Desk<'_>, guest: &ObjectKey, n: usize, nic: &NicSpec) -> Result<NicAddress, Problem> {
    let key = ObjectKey::of::<Network>(guest.project.clone(), nic.network.clone());
    let stored = desk.tx.get(&key).ok_or_else(|| not_found(&key))?;
    let cidr = object::<Network>(&stored)?.spec.cidr;
    let ip = match nic.ip {
        Some(ip) => fixed(desk, guest, (n, &nic.network), (stored.id(), cidr), ip)?,
        None => free(desk, guest, (stored.id(), cidr))
            .ok_or_else(|| full(&key, cidr).at(format!("spec.networks[{n}]")))?,
    };
    let mac = match nic.mac {
        Some(mac) => match desk.tx.allocate(claims::MAC, &mac.to_string(), guest) {
            Ok(()) => mac,
            Err(e) => return Err(taken(&mac.to_string(), e).at(format!("spec.networks[{n}].mac"))),
        },
        None => fresh_mac(desk, guest)?,
    };
    Ok(NicAddress { network: nic.network.clone(), ip, mac })
}

fn fixed(
    desk: &mut Desk<'_>,
    guest: &ObjectKey,
    (n, name): (usize, &agentd_api::ObjectName),
    (network, cidr): (Uuid, Cidr),
    ip: Ipv4Addr,
) -> Result<Ipv4Addr, Problem> {
    let field = format!("spec.networks[{n}].ip");
    let wrong = |message: String| Err(Problem::field(field.clone(), message));
    if !cidr.contains(ip) {
        return wrong(format!("{ip} is not in {cidr}, the addresses of network '{name}'"));
    }
    if ip == cidr.gateway() {
        return wrong(format!("{ip} is the gateway of network '{name}'"));
    }
    if ip == cidr.address() || ip == cidr.broadcast() {
        return wrong(format!("{ip} is the first or last address of {cidr}, which no guest can have"));
    }
    desk.tx
        .allocate(&ip_space(network), &ip.to_string(), guest)
        .map_err(|e| taken(&ip.to_string(), e).at(field))?;
    Ok(ip)
}

/// The next free address behind the one that was last given out, or from the beginning once the end is reached.
fn free(desk: &mut Desk<'_>, guest: &ObjectKey, (network, cidr): (Uuid, Cidr)) -> Option<Ipv4Addr> {
    let space = ip_space(network);
    // A search would look at each address in turn, on the store's only writer. What is taken are guests' addresses only.
    if desk.tx.taken_of(&space) as u64 >= cidr.guest_count() {
        return None;
    }
    let behind = desk.known.cursors.behind(network).unwrap_or(cidr.gateway());
    let later = cidr.guests().skip(skipped(cidr, behind));
    let ip = later.chain(cidr.guests()).find(|ip| {
        let value = ip.to_string();
        desk.tx.owner_of(&space, &value).is_none() && desk.tx.allocate(&space, &value, guest).is_ok()
    })?;
    // The address that a dry run shows is the one that the same request would then get.
    if !desk.caller.dry_run {
        desk.known.cursors.move_to(network, ip);
    }
    Some(ip)
}

/// How many of the network's guest addresses lie at or before that one.
fn skipped(cidr: Cidr, behind: Ipv4Addr) -> usize {
    let passed = u32::from(behind).saturating_sub(u32::from(cidr.gateway()));
    usize::try_from(passed).unwrap_or(0)
}

fn full(key: &ObjectKey, cidr: Cidr) -> Problem {
    let detail = format!("{key} has no free address left in {cidr}");
    Problem::new(ErrorCode::InsufficientCapacity, detail)
}

fn taken(value: &str, error: TxError) -> Problem {
    match error {
        TxError::Taken { owner, .. } => {
            Problem::new(ErrorCode::Conflict, format!("{value} is taken by {owner}"))
        }
        other => refused(other),
    }
}

/// QEMU's prefix and three random bytes. With 50,000 interfaces one draw in 335 meets a MAC that is taken.
fn fresh_mac(desk: &mut Desk<'_>, guest: &ObjectKey) -> Result<MacAddr, Problem> {
    for _ in 0..64 {
        let random = Uuid::new_v4().into_bytes();
        let mac = MacAddr([0x52, 0x54, 0x00, random[0], random[1], random[2]]);
        let text = mac.to_string();
        if desk.tx.owner_of(claims::MAC, &text).is_none() {
            desk.tx.allocate(claims::MAC, &text, guest).map_err(refused)?;
            return Ok(mac);
        }
    }
    Err(Problem::new(ErrorCode::InsufficientCapacity, "no MAC address is free"))
}
