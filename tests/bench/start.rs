//! Start to the first full list, memory at rest, stop.

use anyhow::Result;

use crate::daemon::Sim;
use crate::table::{Table, bytes, line, millis};
use crate::{Bench, read};

pub fn rows(bench: &Bench, table: &mut Table) -> Result<()> {
    for n in [0usize, 500, 2000, 50_000] {
        let n = if bench.quick { n / 10 } else { n };
        let state = bench.path(&format!("start-{n}"));
        let (sim, _) = Sim::start(&state, n)?;
        sim.settled(n)?;
        sim.stop()?;
        // The fakes forget their guests when they end, and the next start finds them gone: what follows from that is not
        // what a start costs.
        let (sim, _) = Sim::start(&state, 0)?;
        sim.settled(n)?;
        sim.stop()?;
        let mut took = Vec::new();
        let mut stopped = Vec::new();
        for _ in 0..5 {
            let (sim, start) = Sim::start(&state, 0)?;
            took.push(start);
            std::thread::sleep(std::time::Duration::from_secs(1));
            stopped.push(sim.stop()?);
        }
        took.sort_by(f64::total_cmp);
        stopped.sort_by(f64::total_cmp);
        let goal = "50x Incus (1.05 s at 0, 3.5 s at 2,000)";
        table.add(line(format!("start to first full list, {n} objects"), millis(took[2]), goal));
        table.add(line(format!("stop, {n} objects, nothing in flight"), millis(stopped[2]), "under 200 ms"));

        let (sim, _) = Sim::start(&state, 0)?;
        sim.settled(n)?;
        std::thread::sleep(std::time::Duration::from_secs(3));
        let memory = sim.memory()?;
        let (_, all) = read::first(&sim, "/v1/vms")?;
        let said = if n == 0 {
            bytes(memory)
        } else {
            format!(
                "{} for {} of JSON: {:.1}x",
                bytes(memory),
                bytes(all.len() as u64),
                memory as f64 / all.len() as f64
            )
        };
        table.add(line(
            format!("memory at rest, {n} objects"),
            said,
            "10x less than Incus at 2,000 (368 MB), under 3x the bytes at 50,000",
        ));
    }
    Ok(())
}
