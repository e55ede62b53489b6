//! What ten thousand settled objects cost when nothing happens.

use std::time::Duration;

use anyhow::Result;

use crate::Bench;
use crate::daemon::Sim;
use crate::table::{Table, line};

pub fn rows(bench: &Bench, table: &mut Table) -> Result<()> {
    let n = bench.times(10_000);
    let (sim, _) = Sim::start(&bench.path("idle"), n)?;
    sim.settled(n)?;
    std::thread::sleep(Duration::from_secs(10));
    let span = if bench.quick { 5.0 } else { 130.0 };
    // What followed the last change may have its end in the first of them.
    for when in ["at first", "later"] {
        let (cpu, written) = (sim.cpu()?, sim.written()?);
        std::thread::sleep(Duration::from_secs_f64(span));
        let (cpu, written) = ((sim.cpu()? - cpu) / span * 100.0, sim.written()? - written);
        let said = format!("{cpu:.2} % of a core, {written} bytes written in {span:.0} s");
        table.add(line(format!("idle, {n} settled objects, {when}"), said, "under 1 % of a core, no write"));
    }
    Ok(())
}
