//! `GET /metrics`: what the daemon counts, as Prometheus text. Others add their own by [`Metrics::register`].
//!
//! Objects are counted when somebody looks, from the store's memory; requests are counted as they are answered.

use std::time::Duration;

use agentd_api::registry;
use agentd_store::{Query, Store};
use http::Method;
use parking_lot::Mutex;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// From 50 microseconds to 10 seconds: a read to a create behind a full disk's queue.
const BUCKETS: [f64; 12] =
    [0.000_05, 0.000_1, 0.000_25, 0.001, 0.002_5, 0.01, 0.025, 0.1, 0.25, 1.0, 2.5, 10.0];

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    route: &'static str,
    method: &'static str,
    status: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Routed {
    route: &'static str,
    method: &'static str,
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
    revision: Gauge,
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
        let revision = Gauge::default();
        registry.register("store_revision", "The store's revision: counts changes", revision.clone());
        Self { registry: Mutex::new(registry), requests, seconds, objects, revision }
    }
}

impl Metrics {
    /// Adds metrics of another part of the daemon.
    pub fn register(&self, add: impl FnOnce(&mut Registry)) {
        add(&mut self.registry.lock());
    }

    pub(super) fn answered(&self, route: &'static str, method: &Method, status: u16, took: Duration) {
        let method = known(method);
        self.requests.get_or_create(&Answered { route, method, status }).inc();
        self.seconds.get_or_create(&Routed { route, method }).observe(took.as_secs_f64());
    }

    pub(super) fn render(&self, store: &Store) -> Result<String, std::fmt::Error> {
        self.revision.set(i64::try_from(store.revision()).unwrap_or(i64::MAX));
        for kind in &registry::ALL {
            let mut query = Query::kind(kind.def.kind);
            for state in kind.def.states {
                let state = state.as_str();
                query.fields = vec![("state".to_owned(), true, state.to_owned())];
                let count = store.list(&query).items.len();
                let labels = Counted { kind: kind.def.kind, state };
                self.objects.get_or_create(&labels).set(i64::try_from(count).unwrap_or(i64::MAX));
            }
        }
        let mut out = String::new();
        text::encode(&mut out, &self.registry.lock())?;
        Ok(out)
    }
}

/// A method as a label: what callers make up does not become one.
fn known(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        _ => "other",
    }
}
