//! `GET /metrics`: what the daemon counts, as Prometheus text. Others add their own by [`Metrics::register`].
//!
//! Objects are counted when somebody looks, from the store's memory; requests are counted as they are answered.

mod guests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use agentd_api::registry;
use agentd_api::stats::StatsList;
use agentd_store::{Query, Stats, Store};
use http::Method;
use parking_lot::Mutex;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::route::Place;
use guests::{Guests, GuestsCollector};

pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// From 50 microseconds to 10 seconds: a read to a create behind a full disk's queue.
const BUCKETS: [f64; 12] =
    [0.000_05, 0.000_1, 0.000_25, 0.001, 0.002_5, 0.01, 0.025, 0.1, 0.25, 1.0, 2.5, 10.0];

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    route: Place,
    method: Verb,
    status: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Routed {
    route: Place,
    method: Verb,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Counted {
    kind: &'static str,
    state: &'static str,
}

pub struct Metrics {
    registry: Mutex<Registry>,
    requests: Family<Answered, Counter>,
    seconds: Family<Routed, Histogram, fn() -> Histogram>,
    objects: Family<Counted, Gauge>,
    store: StoreMetrics,
    guests: Arc<Guests>,
}

/// What the store counts of itself, copied when somebody looks.
#[derive(Default)]
struct StoreMetrics {
    revision: Gauge,
    watchers: Gauge,
    waiting: Gauge,
    transactions: Counter,
    commits: Counter,
    failed_commits: Counter,
    commit_seconds: Counter<f64, AtomicU64>,
}

impl StoreMetrics {
    fn register(&self, registry: &mut Registry) {
        registry.register("store_revision", "The store's revision: counts changes", self.revision.clone());
        registry.register("store_watchers", "Who watches changes", self.watchers.clone());
        registry.register("store_waiting", "Transactions that wait for the writer", self.waiting.clone());
        registry.register("store_transactions", "Transactions run", self.transactions.clone());
        registry.register("store_commits", "Commits to the disk", self.commits.clone());
        registry.register("store_failed_commits", "Commits that failed", self.failed_commits.clone());
        registry.register("store_commit_seconds", "Time spent in commits", self.commit_seconds.clone());
    }

    fn copy(&self, stats: &Stats) {
        self.revision.set(whole(stats.revision));
        self.watchers.set(whole(stats.watchers));
        self.waiting.set(whole(stats.waiting));
        self.transactions.inner().store(stats.transactions, Ordering::Relaxed);
        self.commits.inner().store(stats.commits, Ordering::Relaxed);
        self.failed_commits.inner().store(stats.failed_commits, Ordering::Relaxed);
        self.commit_seconds.inner().store(stats.commit_time.as_secs_f64().to_bits(), Ordering::Relaxed);
    }
}

fn whole(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("agentd");
        let requests = Family::default();
        registry.register("http_requests", "Requests answered", requests.clone());
        let seconds: Family<Routed, Histogram, fn() -> Histogram> =
            Family::new_with_constructor(|| Histogram::new(BUCKETS));
        registry.register(
            "http_request_seconds",
            "Time from a request's head to its answer's, in seconds",
            seconds.clone(),
        );
        let objects = Family::default();
        registry.register("objects", "Objects that exist", objects.clone());
        let store = StoreMetrics::default();
        store.register(&mut registry);
        let guests = Arc::new(Guests::default());
        registry.register_collector(Box::new(GuestsCollector(guests.clone())));
        Self { registry: Mutex::new(registry), requests, seconds, objects, store, guests }
    }
}

impl Metrics {
    /// Adds metrics of another part of the daemon.
    pub fn register(&self, add: impl FnOnce(&mut Registry)) {
        add(&mut self.registry.lock());
    }

    pub(super) fn answered(&self, route: Place, method: &Method, status: u16, took: Duration) {
        let method = Verb::of(method);
        self.requests.get_or_create(&Answered { route, method, status }).inc();
        self.seconds.get_or_create(&Routed { route, method }).observe(took.as_secs_f64());
    }

    /// `figures` are the guests', where they can be had.
    pub(super) fn render(
        &self,
        store: &Store,
        figures: Option<Arc<StatsList>>,
    ) -> Result<String, std::fmt::Error> {
        self.store.copy(&store.stats());
        *self.guests.0.lock() = figures;
        for kind in &registry::ALL {
            let mut query = Query::kind(kind.def.kind);
            for state in kind.def.states {
                let state = state.as_str();
                query.fields = vec![("state".to_owned(), true, state.to_owned())];
                let count = store.list(&query).items.len();
                let labels = Counted { kind: kind.def.kind, state };
                self.objects.get_or_create(&labels).set(whole(count));
            }
        }
        let mut out = String::new();
        text::encode(&mut out, &self.registry.lock())?;
        Ok(out)
    }
}

/// A method as a label: what callers make up does not become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Verb {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Other,
}

impl Verb {
    fn of(method: &Method) -> Self {
        match *method {
            Method::GET => Self::Get,
            Method::HEAD => Self::Head,
            Method::POST => Self::Post,
            Method::PUT => Self::Put,
            Method::PATCH => Self::Patch,
            Method::DELETE => Self::Delete,
            _ => Self::Other,
        }
    }
}

impl EncodeLabelValue for Verb {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        let text = match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Other => "other",
        };
        text.encode(encoder)
    }
}

impl EncodeLabelValue for Place {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.template().encode(encoder)
    }
}
