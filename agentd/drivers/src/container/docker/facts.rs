//! Figures, processes, changes, and images of containers.

use std::collections::{BTreeMap, HashMap};

use agentd_api::stats::{CpuFigures, DiskFigures, MemoryFigures, NetworkFigures};
use futures_util::{StreamExt, stream};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::Inner;
use super::read;
use crate::container::{Changed, ChangedHow, Commit, ContainerError, ContainerStats, Processes};
use crate::engine::wire::query;
use crate::engine::{ACT, ASK, EngineError};

/// Engines tell the figures of one container at a time.
const AT_ONCE: usize = 16;
/// An image of a large container is written to a disk.
const COMMIT: std::time::Duration = std::time::Duration::from_secs(600);

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Told {
    cpu_stats: Cpu,
    memory_stats: Memory,
    blkio_stats: Blkio,
    pids_stats: Pids,
    networks: Option<HashMap<String, Interface>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Cpu {
    cpu_usage: Usage,
    online_cpus: u32,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Usage {
    total_usage: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Memory {
    usage: u64,
    limit: u64,
    stats: Option<HashMap<String, u64>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Blkio {
    io_service_bytes_recursive: Option<Vec<Io>>,
    io_serviced_recursive: Option<Vec<Io>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Io {
    major: u64,
    minor: u64,
    op: String,
    value: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Pids {
    current: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Interface {
    rx_bytes: u64,
    rx_packets: u64,
    rx_dropped: u64,
    tx_bytes: u64,
    tx_packets: u64,
    tx_dropped: u64,
}

impl Inner {
    pub(super) async fn stats(&self) -> Result<Vec<ContainerStats>, ContainerError> {
        let linked = self.engine.linked().await?;
        let on = self.summaries(None).await?.into_iter().filter(|s| read::listed(s.state).is_on());
        let ours: Vec<(Uuid, String)> = on
            .filter_map(|summary| {
                let engine_id = summary.id?;
                let id =
                    self.attending(&engine_id).or_else(|| self.owner(&summary.labels.unwrap_or_default()))?;
                Some((id, engine_id))
            })
            .collect();
        let asked = stream::iter(ours).map(|(id, engine_id)| {
            let path = query(
                &format!("/containers/{engine_id}/stats"),
                &[("stream", "false"), ("one-shot", "true")],
            );
            let wire = linked.wire.clone();
            async move {
                let told = self.within(STATS, ASK, wire.json::<Told>(STATS, &path)).await;
                (id, told)
            }
        });
        let told: Vec<(Uuid, Result<Told, EngineError>)> = asked.buffer_unordered(AT_ONCE).collect().await;
        let mut all = Vec::with_capacity(told.len());
        for (id, told) in told {
            match told {
                Ok(told) => all.push(figures(id, told)),
                // It ended meanwhile.
                Err(error) if matches!(error.status(), Some(404 | 409)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        all.sort_by_key(|stats| stats.id);
        Ok(all)
    }

    pub(super) async fn top(&self, id: Uuid) -> Result<Processes, ContainerError> {
        if !self.state(id).await?.is_on() {
            return Err(ContainerError::Off(id));
        }
        let engine_id = self.engine_id(id).await?;
        let linked = self.engine.linked().await?;
        let told =
            self.engine.ask("list processes", ASK, linked.docker.top_processes(&engine_id, None)).await;
        let told = told.map_err(|error| self.refused(id, error))?;
        let titles = told.titles.unwrap_or_default();
        let mut rows = told.processes.unwrap_or_default();
        // A line is as long as its head.
        rows.iter_mut().for_each(|row| row.resize(titles.len(), String::new()));
        Ok(Processes { titles, rows })
    }

    pub(super) async fn diff(&self, id: Uuid) -> Result<Vec<Changed>, ContainerError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Told {
            path: String,
            kind: u8,
        }
        const CALL: &str = "tell what a container changed";
        let engine_id = self.engine_id(id).await?;
        let linked = self.engine.linked().await?;
        let path = format!("/containers/{engine_id}/changes");
        let told = self.within(CALL, ACT, linked.wire.json::<Option<Vec<Told>>>(CALL, &path)).await;
        let told = told.map_err(|error| self.refused(id, error))?.unwrap_or_default();
        let changed = |told: Told| {
            let how = match told.kind {
                1 => ChangedHow::Added,
                2 => ChangedHow::Deleted,
                _ => ChangedHow::Modified,
            };
            Changed { path: told.path, how }
        };
        let mut all: Vec<Changed> = told.into_iter().map(changed).collect();
        all.sort();
        Ok(all)
    }

    pub(super) async fn commit(&self, id: Uuid, commit: &Commit) -> Result<String, ContainerError> {
        let engine_id = self.engine_id(id).await?;
        let pairs = [
            ("container", engine_id.as_str()),
            ("repo", &commit.repository),
            ("tag", &commit.tag),
            ("comment", &commit.message),
            ("pause", if commit.pause { "true" } else { "false" }),
        ];
        // Podman takes no empty body.
        let nothing = json!({});
        let made =
            self.post("make an image of a container", COMMIT, &query("/commit", &pairs), &nothing).await;
        let made = made.map_err(|error| self.refused(id, error))?;
        let image = made.get("Id").and_then(Value::as_str).unwrap_or_default();
        Ok(if image.starts_with("sha256:") { image.to_owned() } else { format!("sha256:{image}") })
    }
}

const STATS: &str = "tell a container's figures";

fn figures(id: Uuid, told: Told) -> ContainerStats {
    let memory = told.memory_stats;
    let stats = memory.stats.unwrap_or_default();
    // What is read from disks again is no use of memory: as `docker stats` has it, for either version of cgroups.
    let cache = stats.get("total_inactive_file").or_else(|| stats.get("inactive_file")).copied().unwrap_or(0);
    ContainerStats {
        id,
        cpu: CpuFigures {
            count: told.cpu_stats.online_cpus,
            nanoseconds: told.cpu_stats.cpu_usage.total_usage,
        },
        memory: MemoryFigures {
            limit_bytes: memory.limit,
            given_bytes: memory.limit,
            resident_bytes: Some(memory.usage.saturating_sub(cache)),
            guest: None,
        },
        disks: disks(&told.blkio_stats),
        networks: networks(told.networks.unwrap_or_default()),
        pids: told.pids_stats.current,
    }
}

fn disks(told: &Blkio) -> Vec<DiskFigures> {
    let mut disks: BTreeMap<String, DiskFigures> = BTreeMap::new();
    let all =
        |told: &Option<Vec<Io>>| told.iter().flatten().map(|io| (io.major, io.minor)).collect::<Vec<_>>();
    for (major, minor) in all(&told.io_service_bytes_recursive) {
        let device = format!("{major}:{minor}");
        let sum = |told: &Option<Vec<Io>>, op: &str| {
            let of = |io: &&Io| (io.major, io.minor) == (major, minor) && io.op.eq_ignore_ascii_case(op);
            told.iter().flatten().filter(of).map(|io| io.value).sum()
        };
        let figures = DiskFigures {
            device: device.clone(),
            read_bytes: sum(&told.io_service_bytes_recursive, "read"),
            written_bytes: sum(&told.io_service_bytes_recursive, "write"),
            read_requests: sum(&told.io_serviced_recursive, "read"),
            write_requests: sum(&told.io_serviced_recursive, "write"),
            ..DiskFigures::default()
        };
        disks.insert(device, figures);
    }
    disks.into_values().collect()
}

fn networks(told: HashMap<String, Interface>) -> Vec<NetworkFigures> {
    let figures = |(device, told): (String, Interface)| NetworkFigures {
        device,
        network: None,
        received_bytes: told.rx_bytes,
        received_packets: told.rx_packets,
        sent_bytes: told.tx_bytes,
        sent_packets: told.tx_packets,
        dropped_packets: told.rx_dropped + told.tx_dropped,
    };
    let mut all: Vec<NetworkFigures> = told.into_iter().map(figures).collect();
    all.sort_by(|one, other| one.device.cmp(&other.device));
    all
}
