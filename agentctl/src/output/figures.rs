//! Figures of guests as a table: what each uses now, from two looks and the time between them.

use agentd_api::stats::{Figures, StatsList};

use super::quantity;
use super::table::Table;

const HEADINGS: [&str; 8] =
    ["NAME", "CPU", "MEMORY", "GUEST USES", "DISK READ", "DISK WRITTEN", "RECEIVED", "SENT"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    Name,
    /// The busiest first.
    Cpu,
}

/// What one guest did between two looks.
struct Row<'a> {
    now: &'a Figures,
    /// Of one CPU, in percent; None where it was not there at the first look.
    cpu: Option<f64>,
    rates: [Option<f64>; 4],
}

/// `kinds` says whether the kind stands before each name.
pub fn table(before: &StatsList, now: &StatsList, order: Order, kinds: bool) -> Table {
    let seconds = now.at.millis().saturating_sub(before.at.millis()) as f64 / 1000.0;
    let mut rows: Vec<Row<'_>> = now.items.iter().map(|figures| row(before, figures, seconds)).collect();
    if order == Order::Cpu {
        rows.sort_by(|a, b| b.cpu.unwrap_or(0.0).total_cmp(&a.cpu.unwrap_or(0.0)));
    }
    Table::with_headings(HEADINGS.to_vec(), rows.iter().map(|row| row.cells(kinds)).collect())
}

fn row<'a>(before: &StatsList, now: &'a Figures, seconds: f64) -> Row<'a> {
    let earlier = before.items.iter().find(|figures| figures.id == now.id);
    let rate = |of: fn(&Figures) -> u64| {
        // Counters begin anew with each start of the guest; no time may have passed by the clock.
        let gone = of(now).checked_sub(of(earlier?))?;
        (seconds > 0.0).then(|| gone as f64 / seconds)
    };
    let rates = [
        rate(|f| f.disks.iter().map(|disk| disk.read_bytes).sum()),
        rate(|f| f.disks.iter().map(|disk| disk.written_bytes).sum()),
        rate(|f| f.networks.iter().map(|network| network.received_bytes).sum()),
        rate(|f| f.networks.iter().map(|network| network.sent_bytes).sum()),
    ];
    Row { now, cpu: rate(|f| f.cpu.nanoseconds).map(|per_second| per_second / 1e7), rates }
}

impl Row<'_> {
    fn cells(&self, kinds: bool) -> Vec<String> {
        let Figures { kind, name, memory, .. } = self.now;
        let unknown = || "-".to_owned();
        let guest = memory.guest.as_ref().map(|guest| {
            let free = guest.usable_bytes.unwrap_or(guest.free_bytes);
            quantity::bytes(guest.total_bytes.saturating_sub(free))
        });
        let rate =
            |rate: &Option<f64>| rate.map_or_else(unknown, |r| format!("{}/s", quantity::bytes(r as u64)));
        let mut cells = vec![
            if kinds { format!("{kind}/{name}") } else { name.to_string() },
            self.cpu.map_or_else(unknown, |cpu| format!("{cpu:.1} %")),
            format!(
                "{} of {}",
                memory.resident_bytes.map_or_else(unknown, quantity::bytes),
                quantity::bytes(memory.given_bytes)
            ),
            guest.unwrap_or_else(unknown),
        ];
        cells.extend(self.rates.iter().map(rate));
        cells
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use agentd_api::Timestamp;
    use agentd_api::stats::{CpuFigures, DiskFigures, GuestMemory, MemoryFigures};

    fn list(at: u64, guests: &[(&str, u64, u64)]) -> StatsList {
        let items = guests.iter().map(|(name, nanoseconds, read_bytes)| Figures {
            kind: "vm".to_owned(),
            project: "default".parse().expect("a name"),
            name: name.parse().expect("a name"),
            id: uuid::Uuid::from_u128(name.bytes().map(u128::from).sum()),
            cpu: CpuFigures { count: 1, nanoseconds: *nanoseconds },
            memory: MemoryFigures {
                limit_bytes: 1 << 30,
                given_bytes: 1 << 29,
                resident_bytes: Some(1 << 28),
                guest: Some(GuestMemory {
                    total_bytes: 1 << 29,
                    free_bytes: 1 << 28,
                    ..GuestMemory::default()
                }),
            },
            disks: vec![DiskFigures { read_bytes: *read_bytes, ..DiskFigures::default() }],
            networks: Vec::new(),
        });
        StatsList { at: Timestamp(at), items: items.collect(), missing: Vec::new() }
    }

    fn text(before: &StatsList, now: &StatsList, order: Order) -> Vec<String> {
        let mut out = Vec::new();
        table(before, now, order, false).write(&mut out).expect("written");
        String::from_utf8(out).expect("text").lines().map(|line| line.trim_end().to_owned()).collect()
    }

    #[test]
    fn rates_are_differences_over_the_time_between() {
        let before = list(1000, &[("a", 1_000_000_000, 0), ("b", 0, 4096)]);
        let now = list(3000, &[("a", 2_000_000_000, 4096), ("b", 2_000_000_000, 0), ("c", 5, 5)]);
        let lines = text(&before, &now, Order::Cpu);
        assert!(lines[1].starts_with("b     100.0 %  256MiB of 512MiB  256MiB      -"), "{lines:#?}");
        assert!(lines[2].starts_with("a     50.0 %") && lines[2].contains("2.00KiB/s"), "{lines:#?}");
        assert!(lines[3].starts_with("c     -"), "{lines:#?}");
        assert!(text(&before, &now, Order::Name)[1].starts_with("a "));
    }
}
