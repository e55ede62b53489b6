//! libvirt's figures of all domains, as it tells them in one call: names such as `block.0.rd.bytes`, with numbers and texts.

use std::collections::BTreeMap;

use agentd_api::Timestamp;
use agentd_api::stats::{CpuFigures, DiskFigures, GuestMemory, MemoryFigures, NetworkFigures};
use uuid::Uuid;
use virt::connect::Connect;

use super::fault::Fault;
use super::ffi;
use crate::vm::stats::DomainStats;

/// What libvirt tells of one domain.
#[derive(Debug, Default)]
pub(super) struct Record {
    pub(super) id: Uuid,
    pub(super) name: String,
    pub(super) numbers: BTreeMap<String, u64>,
    pub(super) texts: BTreeMap<String, String>,
}

/// `prefix` is what our domains' names begin with: a look at each one's mark would be a call for each.
pub(super) fn all(connect: &Connect, prefix: &str) -> Result<Vec<DomainStats>, Fault> {
    let records = ffi::domain_stats(connect)?;
    Ok(records.into_iter().filter(|r| r.name.starts_with(prefix)).map(|r| r.stats()).collect())
}

impl Record {
    fn number(&self, name: &str) -> Option<u64> {
        self.numbers.get(name).copied()
    }
    fn count(&self, name: &str) -> u64 {
        self.number(name).unwrap_or(0)
    }
    /// libvirt tells of memory in KiB.
    fn kib(&self, name: &str) -> Option<u64> {
        self.number(name).map(|kib| kib.saturating_mul(1024))
    }

    fn stats(&self) -> DomainStats {
        let disks = (0..self.count("block.count")).map(|n| self.disk(n)).collect();
        let networks = (0..self.count("net.count")).map(|n| self.network(n)).collect();
        let cpu = CpuFigures {
            count: u32::try_from(self.count("vcpu.current")).unwrap_or(u32::MAX),
            nanoseconds: self.count("cpu.time"),
        };
        DomainStats { id: self.id, cpu, memory: self.memory(), disks, networks }
    }

    fn memory(&self) -> MemoryFigures {
        let guest = self.kib("balloon.available").map(|total_bytes| GuestMemory {
            total_bytes,
            free_bytes: self.kib("balloon.unused").unwrap_or(0),
            usable_bytes: self.kib("balloon.usable"),
            cache_bytes: self.kib("balloon.disk_caches"),
            swap_in_bytes: self.kib("balloon.swap_in").unwrap_or(0),
            swap_out_bytes: self.kib("balloon.swap_out").unwrap_or(0),
            // Zero until the guest has said anything.
            at: self.number("balloon.last-update").filter(|s| *s > 0).map(|s| Timestamp(s * 1000)),
        });
        MemoryFigures {
            limit_bytes: self.kib("balloon.maximum").unwrap_or(0),
            given_bytes: self.kib("balloon.current").unwrap_or(0),
            resident_bytes: self.kib("balloon.rss"),
            guest,
        }
    }

    fn disk(&self, n: u64) -> DiskFigures {
        let count = |what: &str| self.count(&format!("block.{n}.{what}"));
        DiskFigures {
            device: self.texts.get(&format!("block.{n}.name")).cloned().unwrap_or_default(),
            read_bytes: count("rd.bytes"),
            read_requests: count("rd.reqs"),
            written_bytes: count("wr.bytes"),
            write_requests: count("wr.reqs"),
            capacity_bytes: count("capacity"),
            allocated_bytes: count("physical"),
        }
    }

    fn network(&self, n: u64) -> NetworkFigures {
        let count = |what: &str| self.count(&format!("net.{n}.{what}"));
        NetworkFigures {
            device: self.texts.get(&format!("net.{n}.name")).cloned().unwrap_or_default(),
            network: None,
            received_bytes: count("rx.bytes"),
            received_packets: count("rx.pkts"),
            sent_bytes: count("tx.bytes"),
            sent_packets: count("tx.pkts"),
            dropped_packets: count("rx.drop").saturating_add(count("tx.drop")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libvirts_names_become_figures() {
        let numbers = [
            ("cpu.time", 5_000),
            ("vcpu.current", 2),
            ("balloon.maximum", 2048),
            ("balloon.current", 1024),
            ("balloon.rss", 512),
            ("balloon.available", 1000),
            ("balloon.unused", 400),
            ("balloon.usable", 700),
            ("balloon.last-update", 60),
            ("block.count", 2),
            ("block.1.rd.bytes", 7),
            ("block.1.wr.reqs", 9),
            ("net.count", 1),
            ("net.0.rx.bytes", 11),
            ("net.0.rx.drop", 1),
            ("net.0.tx.drop", 2),
        ];
        let texts = [("block.0.name", "vda"), ("block.1.name", "vdb"), ("net.0.name", "tap0")];
        let record = Record {
            numbers: numbers.map(|(name, n)| (name.to_owned(), n)).into(),
            texts: texts.map(|(name, text)| (name.to_owned(), text.to_owned())).into(),
            ..Record::default()
        };
        let stats = record.stats();
        assert_eq!(stats.cpu, CpuFigures { count: 2, nanoseconds: 5_000 });
        assert_eq!((stats.memory.limit_bytes, stats.memory.given_bytes), (2 << 20, 1 << 20));
        let guest = stats.memory.guest.expect("the balloon's view");
        assert_eq!((guest.total_bytes, guest.free_bytes), (1000 << 10, 400 << 10));
        assert_eq!((guest.usable_bytes, guest.cache_bytes), (Some(700 << 10), None));
        assert_eq!(guest.at, Some(Timestamp(60_000)));
        assert_eq!((stats.disks[0].device.as_str(), stats.disks[0].read_bytes), ("vda", 0));
        assert_eq!((stats.disks[1].read_bytes, stats.disks[1].write_requests), (7, 9));
        assert_eq!((stats.networks[0].received_bytes, stats.networks[0].dropped_packets), (11, 3));
        assert_eq!(Record::default().stats().memory.guest, None, "no balloon driver, no view of the guest's");
    }
}
