//! Tells when something of ours on the host may have changed.
//!
//! Links, addresses and nftables tell by netlink; whether each dnsmasq still runs is looked up once a second (one read
//! below /proc each). What comes in a burst is told once. Where a netlink socket cannot be had, or was overrun, the log
//! or an event says so, and the slow resync finds what was missed. Changes of legacy iptables tell nobody.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use parking_lot::Mutex;
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use rtnetlink::{MulticastGroup, new_multicast_connection};
use tokio::sync::broadcast;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::dnsmasq;
use super::rules::{concerns, datagram_of, open_rules};

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long a burst is gathered before it is told.
pub const GATHER: Duration = Duration::from_millis(100);

/// What of one network is there to be watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watched {
    pub bridge: String,
    pub index: u32,
    pub alias: String,
    pub folder: PathBuf,
    pub pid: i32,
}

type Networks = Arc<Mutex<BTreeMap<Uuid, Watched>>>;

#[derive(Debug)]
pub struct Watch {
    networks: Networks,
    events: broadcast::Sender<()>,
    stop: CancellationToken,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Watch {
    /// Must be called within a tokio runtime. `table` is our nftables table.
    pub fn start(table: String) -> Self {
        let watch = Self {
            networks: Networks::default(),
            events: broadcast::Sender::new(64),
            stop: CancellationToken::new(),
        };
        let task = Task { table, networks: watch.networks.clone(), events: watch.events.clone() };
        let stop = watch.stop.clone();
        tokio::spawn(async move { stop.run_until_cancelled(task.run()).await });
        watch
    }
    pub fn note(&self, id: Uuid, watched: Watched) {
        self.networks.lock().insert(id, watched);
    }
    pub fn forget(&self, id: Uuid) {
        self.networks.lock().remove(&id);
    }
    pub fn subscribe(&self) -> broadcast::Receiver<()> {
        self.events.subscribe()
    }
    pub fn stop(&self) {
        self.stop.cancel();
    }
}

struct Task {
    table: String,
    networks: Networks,
    events: broadcast::Sender<()>,
}

impl Task {
    async fn run(self) {
        let mut routes = open_routes();
        let mut rules = open_rules();
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut due: Option<Instant> = None;
        loop {
            let told = async {
                match due {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            // Cancel safety: a stream's `next`, a tick and a timer lose nothing when another arm is taken; a datagram is
            // taken off its socket in the very poll that yields it.
            let changed = tokio::select! {
                () = told => {
                    due = None;
                    // Nobody listening is no error.
                    let _ = self.events.send(());
                    false
                }
                message = next_of(&mut routes) => message.is_none_or(|m| self.link_changed(&m)),
                datagram = datagram_of(&mut rules) => datagram.is_none_or(|d| concerns(&d, &self.table)),
                _ = look.tick() => self.dnsmasq_ended(),
            };
            if changed && due.is_none() {
                due = Some(Instant::now() + GATHER);
            }
        }
    }

    fn link_changed(&self, message: &NetlinkMessage<RouteNetlinkMessage>) -> bool {
        let networks = self.networks.lock();
        match &message.payload {
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(link)) => {
                networks.values().any(|n| n.index == link.header.index)
            }
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => {
                networks.values().any(|n| n.index == link.header.index && !as_left(link, n))
            }
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelAddress(address)) => {
                networks.values().any(|n| n.index == address.header.index)
            }
            NetlinkPayload::Overrun(_) => true,
            _ => false,
        }
    }

    /// Whether one ended since it was last noted. Each is told once: the next `note` watches its successor.
    fn dnsmasq_ended(&self) -> bool {
        let mut ended = false;
        for network in self.networks.lock().values_mut().filter(|n| n.pid > 0) {
            if !dnsmasq::is_ours(network.pid, &network.folder) {
                network.pid = 0;
                ended = true;
            }
        }
        ended
    }
}

/// Whether a link is as `ensure` left it. Guests that come and go change other things of it all the time.
fn as_left(link: &LinkMessage, network: &Watched) -> bool {
    let mut marked = false;
    let mut named = true;
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::IfAlias(alias) => marked = *alias == network.alias,
            LinkAttribute::IfName(name) => named = *name == network.bridge,
            _ => {}
        }
    }
    marked && named && link.header.flags.contains(LinkFlags::Up)
}

type Routes = Box<dyn Stream<Item = NetlinkMessage<RouteNetlinkMessage>> + Send + Unpin>;

fn open_routes() -> Option<Routes> {
    match new_multicast_connection(&[MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr]) {
        Ok((connection, handle, messages)) => {
            tokio::spawn(connection);
            // The connection ends with its last handle.
            Some(Box::new(messages.map(move |(message, _)| {
                let _ = &handle;
                message
            })))
        }
        Err(error) => {
            tracing::warn!(%error, "changes of links are not told by this kernel; they are found more slowly");
            None
        }
    }
}

/// None where it was ended by the kernel, once; never again after.
async fn next_of(routes: &mut Option<Routes>) -> Option<NetlinkMessage<RouteNetlinkMessage>> {
    match routes {
        Some(stream) => {
            let message = stream.next().await;
            if message.is_none() {
                tracing::warn!("the kernel stopped telling of links; changes are found more slowly");
                *routes = None;
            }
            message
        }
        None => std::future::pending().await,
    }
}
