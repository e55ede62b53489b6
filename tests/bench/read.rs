//! GET one, list all, and the CLI's list.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::Bench;
use crate::caller::{Caller, get as get_request, load};
use crate::daemon::{Sim, binary};
use crate::limit::Limit;
use crate::table::{Line, Table, bytes, line, millis, multiple, rate, ratio};

pub fn get(bench: &Bench, table: &mut Table) -> Result<()> {
    let n = 2000;
    let (sim, _) = Sim::start(&bench.path("get"), n)?;
    sim.settled(n)?;
    let names = names(&sim)?;
    let (_, one) = first(&sim, &format!("/v1/vms/{}", names[0]))?;
    std::fs::write(bench.path("one.json"), &one)?;
    let _limit = Limit::start(&bench.path("limit.sock"), &bench.path("one.json"))?;
    let span = Duration::from_secs_f64(if bench.quick { 0.5 } else { 5.0 });
    let requests: Vec<Vec<u8>> = names.iter().map(|n| get_request(&format!("/v1/vms/{n}"))).collect();
    for connections in [1usize, 16] {
        let pick = |thread: usize, n: usize| requests[(thread * 131 + n * 7) % requests.len()].clone();
        let limit = load(&bench.path("limit.sock"), connections, span, pick, 200)?;
        let ours = load(&sim.socket, connections, span, pick, 200)?;
        let peer = bench.peer.as_ref().map(|p| p.get_one(connections, span)).transpose()?;
        table.add(Line {
            work: format!("GET one of {n}, {connections} connections"),
            agentd: format!("{}, p50 {:.0} us", rate(ours.per_second), ours.median * 1e6),
            limit: format!("{}, p50 {:.0} us", rate(limit.per_second), limit.median * 1e6),
            to_limit: ratio(ours.per_second, limit.per_second),
            peer: peer.as_ref().map_or("-".to_owned(), |p| rate(p.per_second)),
            to_peer: peer.as_ref().map_or("-".to_owned(), |p| multiple(ours.per_second, p.per_second)),
            goal: "0.7 of the limit, 50x Incus".to_owned(),
        });
    }
    Ok(())
}

pub fn list(bench: &Bench, table: &mut Table) -> Result<()> {
    for n in [500usize, 2000] {
        let (sim, _) = Sim::start(&bench.path(&format!("list{n}")), n)?;
        sim.settled(n)?;
        let (_, all) = first(&sim, "/v1/vms")?;
        std::fs::write(bench.path("all.json"), &all)?;
        let socket = bench.path(&format!("limit-list{n}.sock"));
        let _limit = Limit::start(&socket, &bench.path("all.json"))?;
        let request = get_request("/v1/vms");
        let span = Duration::from_secs_f64(if bench.quick { 0.5 } else { 4.0 });
        let limit = load(&socket, 1, span, |_, _| request.clone(), 200)?;
        let ours = load(&sim.socket, 1, span, |_, _| request.clone(), 200)?;
        let peer = bench.peer.as_ref().map(|p| p.list(span)).transpose()?;
        table.add(Line {
            work: format!("list all with live state, {n} ({})", bytes(all.len() as u64)),
            agentd: millis(ours.median),
            limit: millis(limit.median),
            to_limit: ratio(limit.median, ours.median),
            peer: peer.as_ref().map_or("-".to_owned(), |p| millis(p.median)),
            to_peer: peer.as_ref().map_or("-".to_owned(), |p| multiple(p.median, ours.median)),
            goal: "0.5 of the limit, 100x Incus".to_owned(),
        });
        if n == 2000 {
            let (cpu, lines) = cli_list(&sim, bench.times(20))?;
            ensure!(lines > n, "the CLI printed {lines} lines");
            table.add(line(format!("agentctl vm list of {n}, CPU"), millis(cpu), "under 15 ms"));
        }
    }
    Ok(())
}

/// CPU seconds of one `agentctl vm list`, the mean of several, and how many lines it printed.
#[expect(clippy::disallowed_methods, reason = "the rule is for the daemon")]
fn cli_list(sim: &Sim, times: usize) -> Result<(f64, usize)> {
    let used = || -> Result<f64> {
        let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_CHILDREN)?;
        let seconds = |t: nix::sys::time::TimeVal| t.tv_sec() as f64 + t.tv_usec() as f64 / 1e6;
        Ok(seconds(usage.user_time()) + seconds(usage.system_time()))
    };
    let program = binary("agentctl")?;
    let before = used()?;
    let mut lines = 0;
    for _ in 0..times {
        let output = Command::new(&program)
            .arg("--socket")
            .arg(&sim.socket)
            .args(["vm", "list"])
            .stdin(Stdio::null())
            .output()?;
        ensure!(output.status.success(), "agentctl vm list: {}", String::from_utf8_lossy(&output.stderr));
        lines = output.stdout.iter().filter(|b| **b == b'\n').count();
    }
    Ok(((used()? - before) / times as f64, lines))
}

pub fn first(sim: &Sim, path: &str) -> Result<(f64, Vec<u8>)> {
    let mut caller = Caller::connect(&sim.socket)?;
    let from = Instant::now();
    let (status, body) = caller.call(&get_request(path))?;
    ensure!(status == 200, "{path}: {status}");
    let body = body.to_vec();
    Ok((from.elapsed().as_secs_f64(), body))
}

pub fn names(sim: &Sim) -> Result<Vec<String>> {
    let (_, body) = first(sim, "/v1/vms")?;
    let value: serde_json::Value = serde_json::from_slice(&body)?;
    let items = value["items"].as_array().cloned().unwrap_or_default();
    Ok(items.iter().filter_map(|i| i["name"].as_str().map(str::to_owned)).collect())
}
