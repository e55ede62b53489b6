//! Guests' figures as metrics: of those that run at the time of the question, with project and name as labels.

use std::sync::Arc;

use agentd_api::stats::{Figures, StatsList};
use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// What was taken last. Empty where no figures can be had: they are then not told, rather than told anew.
#[derive(Debug, Default)]
pub(super) struct Guests(pub Mutex<Option<Arc<StatsList>>>);

#[derive(Debug)]
pub(super) struct GuestsCollector(pub Arc<Guests>);

type Labels<'a> = Vec<(&'a str, &'a str)>;

/// One metric: what it is of, and the figures of one guest under it.
struct Row {
    name: &'static str,
    help: &'static str,
    counts: bool,
    of: fn(&Figures) -> Vec<(Labels<'_>, f64)>,
}

impl Collector for GuestsCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let taken = self.0.0.lock().clone();
        let up = ConstGauge::new(i64::from(taken.is_some()));
        let told = encoder.encode_descriptor(
            "guest_figures_available",
            "Whether guests' figures could be had",
            None,
            up.metric_type(),
        )?;
        up.encode(told)?;
        let items = taken.as_ref().map_or(&[][..], |list| &list.items);
        for row in &ROWS {
            let (counter, gauge) = (ConstCounter::new(0.0), ConstGauge::new(0.0));
            let kind = if row.counts { counter.metric_type() } else { gauge.metric_type() };
            let mut family = encoder.encode_descriptor(row.name, row.help, None, kind)?;
            for figures in items {
                for (labels, value) in (row.of)(figures) {
                    let labels = labelled(figures, labels);
                    let one = family.encode_family(&labels)?;
                    if row.counts {
                        ConstCounter::new(value).encode(one)?;
                    } else {
                        ConstGauge::new(value).encode(one)?;
                    }
                }
            }
        }
        Ok(())
    }
}

fn labelled<'a>(figures: &'a Figures, more: Labels<'a>) -> Labels<'a> {
    let mut labels = vec![
        ("kind", figures.kind.as_str()),
        ("project", figures.project.as_str()),
        ("name", figures.name.as_str()),
    ];
    labels.extend(more);
    labels
}

/// A float holds whole numbers up to 2^53 as they are: eight petabytes.
#[expect(clippy::cast_precision_loss, reason = "metrics are floats")]
fn float(number: u64) -> f64 {
    number as f64
}

fn one(number: u64) -> Vec<(Labels<'static>, f64)> {
    vec![(Vec::new(), float(number))]
}

fn some(number: Option<u64>) -> Vec<(Labels<'static>, f64)> {
    number.map_or_else(Vec::new, one)
}

macro_rules! disks {
    ($field:ident) => {
        |f| f.disks.iter().map(|d| (vec![("device", d.device.as_str())], float(d.$field))).collect()
    };
}

macro_rules! networks {
    ($field:ident) => {
        |f| f.networks.iter().map(|n| (vec![("device", n.device.as_str())], float(n.$field))).collect()
    };
}

const fn counter(name: &'static str, help: &'static str, of: fn(&Figures) -> Vec<(Labels<'_>, f64)>) -> Row {
    Row { name, help, counts: true, of }
}

const fn gauge(name: &'static str, help: &'static str, of: fn(&Figures) -> Vec<(Labels<'_>, f64)>) -> Row {
    Row { name, help, counts: false, of }
}

static ROWS: [Row; 14] = [
    gauge("guest_cpus", "How many CPUs a guest has", |f| one(u64::from(f.cpu.count))),
    counter("guest_cpu_seconds", "Time of the host's CPUs that a guest used", |f| {
        vec![(Vec::new(), float(f.cpu.nanoseconds) / 1e9)]
    }),
    gauge("guest_memory_limit_bytes", "Memory that a guest may have", |f| one(f.memory.limit_bytes)),
    gauge("guest_memory_given_bytes", "Memory that its balloon leaves a guest", |f| {
        one(f.memory.given_bytes)
    }),
    gauge("guest_memory_resident_bytes", "Memory of the host that a guest fills", |f| {
        some(f.memory.resident_bytes)
    }),
    gauge("guest_memory_free_bytes", "Memory that is free, as the guest sees it", |f| {
        some(f.memory.guest.as_ref().map(|g| g.free_bytes))
    }),
    gauge("guest_memory_usable_bytes", "Memory that can be used, as the guest sees it", |f| {
        some(f.memory.guest.as_ref().and_then(|g| g.usable_bytes))
    }),
    counter("guest_disk_read_bytes", "Bytes that a guest read", disks!(read_bytes)),
    counter("guest_disk_written_bytes", "Bytes that a guest wrote", disks!(written_bytes)),
    gauge(
        "guest_disk_allocated_bytes",
        "Bytes of the host's disk that a disk takes",
        disks!(allocated_bytes),
    ),
    gauge("guest_disk_capacity_bytes", "How large a guest sees its disk", disks!(capacity_bytes)),
    counter("guest_network_received_bytes", "Bytes that a guest received", networks!(received_bytes)),
    counter("guest_network_sent_bytes", "Bytes that a guest sent", networks!(sent_bytes)),
    counter(
        "guest_network_dropped_packets",
        "Packets to and from a guest that were lost",
        networks!(dropped_packets),
    ),
];
