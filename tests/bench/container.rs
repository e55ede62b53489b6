//! Containers through agentd's API, beside the same done by the engine's own: launch, stop, delete, and a program run in
//! one that is up. A real dockerd and a real agentd, in a namespace of their own.
//!
//! ```text
//!             agentd                                           the engine
//!   launch    POST of the object, until a watch: running       /containers/create, /containers/ID/start
//!   stop      POST of `stop`,     until a watch: stopped       /containers/ID/stop
//!   delete    DELETE,             until a watch: deleted       DELETE /containers/ID
//!   exec      the upgrade,        until its exit status        /containers/ID/exec, /exec/ID/start, /exec/ID/json
//! ```
//! Each side speaks HTTP on its Unix socket, on a connection that stays open; what is upgraded has one of its own on
//! either side. The two take turns, step by step, with the same image and the same program, and both programs of an exec
//! run in the same container. The engine is asked for what it makes by default, but for the network, which is said. The one
//! that is as agentd's is one that was made, where containers have names; on the engine's own bridge they have none.

use std::io::{BufRead, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use agent_tests::host::engine::IMAGE;
use agent_tests::host::{Host, namespace};
use agentd_api::exec::ExecWish;
use agentd_api::frame::{Frame, FrameBuffer};
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::caller::{Caller, Watch, begin, delete, get, post};
use crate::table::{Line, Table, line, median, millis};
use crate::{Bench, inner};

/// Pairs of a launch, a stop and a delete; of execs there are [`EXECS`] times as many.
const TIMES: usize = 20;
const EXECS: usize = 3;
const LAUNCH_GOAL: f64 = 1.05;
const EXEC_GOAL: f64 = 1.1;
const DOCKER: &str = "/run/docker.sock";
/// Says when it can be stopped, and stays until it is.
const STAY: &str = "trap 'exit 0' TERM; echo ready; while :; do sleep 1000 & wait $!; done";
/// No step takes so long.
const LONGEST: Duration = Duration::from_secs(60);
/// How often it is looked whether a program in a container has ended: as agentd itself does.
const LOOK: Duration = Duration::from_millis(5);
/// What one side has still to do after its step is not to be paid by the other.
const SETTLED: Duration = Duration::from_millis(200);

/// A network of the engine's that was made by its API.
const MADE: &str = "made";

/// Where a container is plugged in.
struct Place {
    what: &'static str,
    /// agentd's networks.
    networks: &'static [&'static str],
    /// The engine's NetworkMode.
    mode: &'static str,
    /// How many times as long as the engine a launch may take.
    goal: Option<f64>,
}

const NOWHERE: Place = Place { what: "no network", networks: &[], mode: "none", goal: Some(LAUNCH_GOAL) };
const USUAL: Place =
    Place { what: "on the default network", networks: &["default"], mode: MADE, goal: Some(LAUNCH_GOAL) };
/// On its own bridge the engine does less: no container there has a name.
const NAMELESS: Place =
    Place { what: "on the default network", networks: &["default"], mode: "bridge", goal: None };

/// Seconds of one sort of step, pair by pair.
#[derive(serde::Serialize, serde::Deserialize)]
struct Pairs {
    /// What is asked of agentd, and until when it is waited for.
    work: String,
    /// What is asked of the engine beside it.
    beside: String,
    /// How many times as long as the engine agentd may take, where that is set.
    goal: Option<f64>,
    agentd: Vec<f64>,
    engine: Vec<f64>,
}

impl Pairs {
    fn new(work: String, beside: String, goal: Option<f64>) -> Self {
        Self { work, beside, goal, agentd: Vec::new(), engine: Vec::new() }
    }

    /// The first is not counted: what is done for the first time is not what it costs.
    fn add(&mut self, n: usize, agentd: f64, engine: f64) {
        if n > 0 {
            self.agentd.push(agentd);
            self.engine.push(engine);
        }
    }

    fn line(mut self) -> Line {
        let mut ratios: Vec<f64> = self.agentd.iter().zip(&self.engine).map(|(a, b)| a / b).collect();
        ratios.sort_by(f64::total_cmp);
        let at = |part: usize| ratios[ratios.len() * part / 4];
        let (agentd, engine) = (median(&mut self.agentd), median(&mut self.engine));
        let (ratio, added) = (agentd / engine, (agentd - engine) * 1e3);
        let goal = match self.goal {
            Some(goal) if ratio <= goal => format!("within {goal} of the engine: met"),
            Some(goal) => format!("within {goal} of the engine: missed"),
            None => "none set".to_owned(),
        };
        let quartiles = format!("{:.2}, {:.2}, {:.2}", at(1), at(2), at(3));
        Line {
            limit: format!("{} ({})", millis(engine), self.beside),
            to_limit: format!("{ratio:.3}"),
            ..line(
                format!("{}; medians of {} pairs by turns", self.work, ratios.len()),
                format!("{}, {added:+.1} ms; pair by pair {quartiles} (quartiles)", millis(agentd)),
                &goal,
            )
        }
    }
}

pub fn rows(bench: &Bench, table: &mut Table) -> Result<()> {
    let all: Vec<Pairs> = inner::run("container-life", if bench.quick { 3 } else { TIMES })?;
    for pairs in all {
        table.add(pairs.line());
    }
    Ok(())
}

/// Inside the namespace: measures, and leaves the figures in the scratch folder.
pub fn inside(times: usize) -> Result<()> {
    let scratch = namespace::inside().context("a namespace of its own")?;
    namespace::furnish(&scratch)?;
    let host = Host::new(scratch.clone());
    // Takes its containers with it, after agentd has ended.
    let dockerd = host.start_docker();
    let agentd = host.bare_agentd("state");
    agentd.wait_ready();
    let measured = measure(agentd.socket(), times)
        .with_context(|| format!("agentd said:\n{}\ndockerd:\n{}", agentd.log_text(), dockerd.log_text()))?;
    inner::leave(&scratch, &measured)
}

fn measure(socket: &Path, times: usize) -> Result<Vec<Pairs>> {
    let mut both = Both { ours: Ours::connect(socket)?, engine: Engine::connect()? };
    let mut all = Vec::new();
    for place in [NOWHERE, USUAL, NAMELESS] {
        all.extend(both.lives(&place, times)?);
    }
    all.push(both.execs(times * EXECS)?);
    Ok(all)
}

struct Both {
    ours: Ours,
    engine: Engine,
}

impl Both {
    fn lives(&mut self, place: &Place, times: usize) -> Result<[Pairs; 3]> {
        let (what, mode) = (place.what, place.mode);
        let mut launch = Pairs::new(
            format!("container launch, {what}: POST until a watch says `running`"),
            format!("`/containers/create` and `/start`, NetworkMode {mode}"),
            place.goal,
        );
        let mut stop = Pairs::new(
            format!("container stop, {what}: POST of `stop` until a watch says `stopped`"),
            format!("`/containers/ID/stop`, NetworkMode {mode}"),
            None,
        );
        let mut delete = Pairs::new(
            format!("container delete, {what}, once stopped: DELETE until a watch says that it is gone"),
            format!("DELETE `/containers/ID`, NetworkMode {mode}"),
            None,
        );
        for n in 0..=times {
            let (ours, engines) = (format!("{mode}-{n}"), format!("engines-{mode}-{n}"));
            let (took, id) = self.ours.launch(&ours, place)?;
            self.engine.ready(&id)?;
            launch.add(n, took, self.engine.launch(&engines, place)?);
            self.engine.ready(&engines)?;
            let took = self.ours.stop(&ours)?;
            stop.add(n, took, self.engine.stop(&engines)?);
            let took = self.ours.delete(&ours)?;
            delete.add(n, took, self.engine.delete(&engines)?);
        }
        Ok([launch, stop, delete])
    }

    fn execs(&mut self, times: usize) -> Result<Pairs> {
        let mut pairs = Pairs::new(
            "container exec, `true` in one that runs: the upgrade until its exit status has come".to_owned(),
            "`/containers/ID/exec`, `/exec/ID/start` to its end, `/exec/ID/json`".to_owned(),
            Some(EXEC_GOAL),
        );
        let (_, id) = self.ours.launch("web", &USUAL)?;
        self.engine.ready(&id)?;
        for n in 0..=times {
            let took = self.ours.exec("web")?;
            pairs.add(n, took, self.engine.exec(&id)?);
        }
        self.ours.stop("web")?;
        self.ours.delete("web")?;
        Ok(pairs)
    }
}

/// Now, once what was done before has settled.
fn settled() -> Instant {
    std::thread::sleep(SETTLED);
    Instant::now()
}

/// agentd: what is asked of it, and what a watch says of that.
struct Ours {
    socket: PathBuf,
    caller: Caller,
    watch: Watch,
}

impl Ours {
    fn connect(socket: &Path) -> Result<Self> {
        let mut caller = Caller::connect(socket)?;
        let since = caller.json(&get("/v1/containers"))?["revision"].as_u64().context("a revision")?;
        let watch = Watch::open(socket, &format!("/v1/containers?watch=true&since={since}"))?;
        Ok(Self { socket: socket.to_owned(), caller, watch })
    }

    /// Seconds, and what the engine calls it.
    fn launch(&mut self, name: &str, place: &Place) -> Result<(f64, String)> {
        let networks: Vec<Value> = place.networks.iter().map(|name| json!({ "network": name })).collect();
        let wish = json!({
            "name": name,
            "spec": {
                "image": IMAGE,
                "command": ["sh", "-c", STAY],
                "networks": networks,
                "desired": "running",
            },
        });
        let request = post("/v1/containers", &wish.to_string());
        let from = settled();
        self.caller.json(&request)?;
        let object = self.until(name, "running")?;
        let took = from.elapsed().as_secs_f64();
        let id = object["status"]["engine_id"].as_str().context("an engine's id")?;
        Ok((took, id.to_owned()))
    }

    fn stop(&mut self, name: &str) -> Result<f64> {
        let request = post(&format!("/v1/containers/{name}/stop"), "");
        let from = settled();
        self.caller.json(&request)?;
        self.until(name, "stopped")?;
        Ok(from.elapsed().as_secs_f64())
    }

    fn delete(&mut self, name: &str) -> Result<f64> {
        let request = delete(&format!("/v1/containers/{name}"));
        let from = settled();
        self.caller.json(&request)?;
        self.until(name, "deleted")?;
        Ok(from.elapsed().as_secs_f64())
    }

    fn exec(&self, name: &str) -> Result<f64> {
        let request = format!(
            "GET /v1/containers/{name}/exec HTTP/1.1\r\nhost: agentd\r\nconnection: Upgrade\r\n\
             upgrade: agentd-frames\r\n\r\n"
        );
        let wish = ExecWish { argv: vec!["true".to_owned()], ..ExecWish::default() };
        let mut frames = Frame::In(serde_json::to_vec(&wish)?).to_bytes();
        Frame::InEnd.encode(&mut frames);
        let from = settled();
        let mut stream = begin(&self.socket, request.as_bytes(), 101)?;
        stream.get_mut().write_all(&frames)?;
        let mut came = FrameBuffer::default();
        loop {
            match came.pop()? {
                Some(Frame::Exit(0)) => return Ok(from.elapsed().as_secs_f64()),
                Some(other) => bail!("`true` came to {other:?}"),
                None => {}
            }
            let bytes = stream.fill_buf()?;
            let count = bytes.len();
            ensure!(count > 0, "the stream was cut");
            came.room().extend_from_slice(bytes);
            stream.consume(count);
        }
    }

    /// Waits until the watch says that it is in that state, or `deleted`, and gives the object.
    fn until(&mut self, name: &str, wanted: &str) -> Result<Value> {
        let from = Instant::now();
        loop {
            let line = self.watch.line()?;
            ensure!(from.elapsed() < LONGEST, "{name} is not {wanted}: {line}");
            // Between changes there are the lengths of chunks.
            if !line.starts_with(r#"{"event":"#) {
                continue;
            }
            let told: Value = serde_json::from_str(line)?;
            let object = &told["object"];
            if object["name"] != name {
                continue;
            }
            let state = object["status"]["state"].as_str().unwrap_or_default();
            let state = if told["event"] == "deleted" { "deleted" } else { state };
            if state == wanted {
                return Ok(object.clone());
            }
            ensure!(state != "failed", "{object}");
        }
    }
}

/// The engine's own API.
struct Engine {
    caller: Caller,
}

impl Engine {
    fn connect() -> Result<Self> {
        let mut caller = Caller::connect(Path::new(DOCKER))?;
        caller.json(&post("/networks/create", &json!({ "Name": MADE, "Driver": "bridge" }).to_string()))?;
        Ok(Self { caller })
    }

    fn launch(&mut self, name: &str, place: &Place) -> Result<f64> {
        let wish = json!({
            "Image": IMAGE,
            "Cmd": ["sh", "-c", STAY],
            "HostConfig": { "NetworkMode": place.mode },
        });
        let create = post(&format!("/containers/create?name={name}"), &wish.to_string());
        let start = post(&format!("/containers/{name}/start"), "");
        let from = settled();
        self.caller.json(&create)?;
        self.caller.json(&start)?;
        Ok(from.elapsed().as_secs_f64())
    }

    /// With the grace that agentd's containers have too.
    fn stop(&mut self, name: &str) -> Result<f64> {
        let request = post(&format!("/containers/{name}/stop?t=10"), "");
        let from = settled();
        self.caller.json(&request)?;
        Ok(from.elapsed().as_secs_f64())
    }

    fn delete(&mut self, name: &str) -> Result<f64> {
        let request = delete(&format!("/containers/{name}?force=true&v=true"));
        let from = settled();
        self.caller.json(&request)?;
        Ok(from.elapsed().as_secs_f64())
    }

    fn exec(&mut self, container: &str) -> Result<f64> {
        let wish = json!({ "AttachStdout": true, "AttachStderr": true, "Cmd": ["true"] });
        let create = post(&format!("/containers/{container}/exec"), &wish.to_string());
        let body = json!({ "Detach": false, "Tty": false }).to_string();
        let from = settled();
        let made = self.caller.json(&create)?;
        let id = made["Id"].as_str().context("an exec's id")?;
        let start = format!(
            "POST /exec/{id}/start HTTP/1.1\r\nhost: docker\r\nconnection: Upgrade\r\nupgrade: tcp\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut said = Vec::new();
        begin(Path::new(DOCKER), start.as_bytes(), 101)?.read_to_end(&mut said)?;
        ensure!(said.is_empty(), "`true` says {}", String::from_utf8_lossy(&said));
        let look = get(&format!("/exec/{id}/json"));
        loop {
            let seen = self.caller.json(&look)?;
            if let (Some(false), Some(code)) = (seen["Running"].as_bool(), seen["ExitCode"].as_i64()) {
                ensure!(code == 0, "`true` came to {code}");
                return Ok(from.elapsed().as_secs_f64());
            }
            ensure!(from.elapsed() < LONGEST, "`true` does not end: {seen}");
            std::thread::sleep(LOOK);
        }
    }

    /// Waits until its program has said that it can be stopped.
    fn ready(&mut self, container: &str) -> Result<()> {
        let logs = get(&format!("/containers/{container}/logs?stdout=true"));
        let from = Instant::now();
        loop {
            let (status, said) = self.caller.call(&logs)?;
            ensure!(status == 200, "{status}: {}", String::from_utf8_lossy(said));
            if said.ends_with(b"ready\n") {
                return Ok(());
            }
            ensure!(from.elapsed() < LONGEST, "{container} is not ready");
            std::thread::sleep(LOOK);
        }
    }
}
