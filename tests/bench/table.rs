//! The table that is printed, in Markdown, with the machine that it was taken on.

use crate::Bench;

pub struct Line {
    pub work: String,
    pub agentd: String,
    pub limit: String,
    /// agentd's share of the limit, or the limit's multiple: as the row's goal is put.
    pub to_limit: String,
    pub peer: String,
    pub to_peer: String,
    pub goal: String,
}

#[derive(Default)]
pub struct Table {
    lines: Vec<Line>,
}

impl Table {
    pub fn new() -> Self {
        Self::default()
    }
    pub fn add(&mut self, line: Line) {
        eprintln!("  {}: {} (limit {}, peer {})", line.work, line.agentd, line.limit, line.peer);
        self.lines.push(line);
    }
    pub fn print(&self, bench: &Bench) {
        if bench.quick {
            println!("QUICK RUN: these figures are worth nothing.\n");
        }
        println!("{}\n", machine());
        println!("| work | agentd | bare limit | of the limit | Incus | against Incus | goal |");
        println!("|---|---|---|---|---|---|---|");
        for l in &self.lines {
            println!(
                "| {} | {} | {} | {} | {} | {} | {} |",
                l.work, l.agentd, l.limit, l.to_limit, l.peer, l.to_peer, l.goal
            );
        }
    }
}

/// A line of figures without a limit or a peer of its own.
pub fn line(work: impl Into<String>, agentd: impl Into<String>, goal: &str) -> Line {
    let none = || "-".to_owned();
    Line {
        work: work.into(),
        agentd: agentd.into(),
        limit: none(),
        to_limit: none(),
        peer: none(),
        to_peer: none(),
        goal: goal.to_owned(),
    }
}

/// The middle one. There is at least one.
pub fn median(all: &mut [f64]) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

pub fn rate(per_second: f64) -> String {
    if per_second >= 1000.0 { format!("{:.0}k/s", per_second / 1000.0) } else { format!("{per_second:.0}/s") }
}

pub fn millis(seconds: f64) -> String {
    if seconds < 0.01 { format!("{:.2} ms", seconds * 1e3) } else { format!("{:.0} ms", seconds * 1e3) }
}

pub fn bytes(n: u64) -> String {
    format!("{:.1} MB", n as f64 / 1e6)
}

pub fn ratio(a: f64, b: f64) -> String {
    if b == 0.0 { "-".to_owned() } else { format!("{:.2}", a / b) }
}

pub fn multiple(a: f64, b: f64) -> String {
    if b == 0.0 { "-".to_owned() } else { format!("{:.0}x", a / b) }
}

fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu.lines().find_map(|l| l.strip_prefix("model name\t: ")).unwrap_or("unknown").to_owned();
    let cores = cpu.lines().filter(|l| l.starts_with("processor")).count();
    let kernel = read("/proc/sys/kernel/osrelease");
    let system = read("/etc/os-release");
    let system = system
        .lines()
        .find_map(|l| l.strip_prefix("PRETTY_NAME="))
        .unwrap_or("unknown")
        .trim_matches('"')
        .to_owned();
    format!("{model}, {cores} cores, {system}, Linux {}, agentd {}", kernel.trim(), env!("CARGO_PKG_VERSION"))
}
