//! Durable creates, by callers and by how many objects there are already.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Result;

use crate::caller::load;
use crate::daemon::{Sim, create};
use crate::limit;
use crate::table::{Line, Table, bytes, line, multiple, rate, ratio};
use crate::{Bench, read};

pub fn rows(bench: &Bench, table: &mut Table) -> Result<()> {
    let span = Duration::from_secs_f64(if bench.quick { 0.5 } else { 4.0 });
    for callers in [1usize, 8, 64] {
        let file = bench.path(&format!("limit-{callers}.db"));
        let bare = limit::commits(&file, callers, 1400, span)?;
        let peer = bench.peer.as_ref().map(|p| p.create(callers, span)).transpose()?;
        for present in [0usize, 2000, 50_000] {
            let present = if bench.quick { present / 10 } else { present };
            let state = bench.path(&format!("create-{callers}-{present}"));
            let (sim, _) = Sim::start(&state, present)?;
            sim.settled(present)?;
            let counter = AtomicUsize::new(0);
            let next = |_: usize, _: usize| create(&format!("c{}", counter.fetch_add(1, Ordering::Relaxed)));
            let ours = load(&sim.socket, callers, span, next, 201)?;
            table.add(Line {
                work: format!("create, durable, {callers} callers, {present} objects there"),
                agentd: rate(ours.per_second),
                limit: rate(bare),
                to_limit: ratio(ours.per_second, bare),
                peer: peer.map_or("-".to_owned(), rate),
                to_peer: peer.map_or("-".to_owned(), |p| multiple(ours.per_second, p)),
                goal: "50x Incus at 8 callers, the same at 50,000 as at none".to_owned(),
            });
            if callers == 64 && present >= 2000 {
                disk(&sim, table)?;
            }
        }
    }
    Ok(())
}

/// What the files take for their objects.
fn disk(sim: &Sim, table: &mut Table) -> Result<()> {
    std::thread::sleep(Duration::from_secs(2));
    let (_, all) = read::first(sim, "/v1/vms")?;
    let count = read::names(sim)?.len();
    let mut on_disk = 0;
    for entry in std::fs::read_dir(&sim.state)?.filter_map(Result::ok) {
        if entry.file_name().to_string_lossy().starts_with("agentd.db") {
            on_disk += entry.metadata()?.len();
        }
    }
    let times = on_disk as f64 / all.len() as f64;
    let said = format!("{} for {} of JSON: {times:.1}x", bytes(on_disk), bytes(all.len() as u64));
    table.add(line(format!("files on disk of {count} objects"), said, "under 4x the bytes"));
    Ok(())
}
