//! The start of a VM, beside `virsh create` of the XML that agentd defined for it: a real guest, in a namespace of its
//! own with a libvirtd of its own.
//!
//! agentd's time is from the call of `start` on a stopped VM, whose disk and definition are there, until a watch says
//! `running`. The bare one is the whole of `virsh create`. Both start the same definition on copies of the same disk, in
//! turns, and neither guest is waited for: what is measured is what agentd adds.

use std::path::{Path, PathBuf};
use std::time::Instant;

use agent_tests::host::{Agentd, Host, namespace, virsh};
use anyhow::{Context, Result, bail, ensure};

use crate::caller::{Caller, Watch, get, post};
use crate::table::{Line, Table, line, median, millis, ratio};
use crate::{Bench, inner};

const TIMES: usize = 15;

/// Seconds of each start.
#[derive(serde::Serialize, serde::Deserialize)]
struct Took {
    agentd: Vec<f64>,
    virsh: Vec<f64>,
}

pub fn rows(bench: &Bench, table: &mut Table) -> Result<()> {
    let mut took: Took = inner::run("vm-start", if bench.quick { 3 } else { TIMES })?;
    let (agentd, bare) = (median(&mut took.agentd), median(&mut took.virsh));
    let added = (agentd - bare) * 1e3;
    table.add(Line {
        limit: format!("{} (`virsh create`)", millis(bare)),
        to_limit: ratio(agentd, bare),
        ..line(
            format!("start of a VM, median of {}", took.agentd.len()),
            format!("{}, {added:+.0} ms", millis(agentd)),
            "adds under 5 % and under 30 ms",
        )
    });
    Ok(())
}

/// Inside the namespace: measures, and leaves the figures in the scratch folder.
pub fn inside(times: usize) -> Result<()> {
    let scratch = namespace::inside().context("a namespace of its own")?;
    namespace::furnish(&scratch)?;
    let mut host = Host::new(scratch.clone());
    host.start_libvirt();
    let agentd = host.bare_agentd("state");
    agentd.wait_ready();
    agentd.ok(&["image", "build", "micro"]);
    agentd.ok(&["vm", "run", "web", "--image", "micro", "--memory", "192MiB", "--grace", "1s"]);
    agentd.ok(&["vm", "stop", "web"]);
    let bare = bare_definition(&agentd, &scratch)?;
    let bare = bare.to_string_lossy();
    let mut took = Took { agentd: Vec::new(), virsh: Vec::new() };
    // The first of each is not counted: libvirt and the page cache have not seen it yet.
    for n in 0..=times {
        let through_agentd = start(&agentd)?;
        agentd.ok(&["vm", "stop", "web"]);
        let from = Instant::now();
        virsh(&["create", &bare]).map_err(anyhow::Error::msg)?;
        let through_virsh = from.elapsed().as_secs_f64();
        virsh(&["destroy", "bare"]).map_err(anyhow::Error::msg)?;
        if n > 0 {
            took.agentd.push(through_agentd);
            took.virsh.push(through_virsh);
        }
    }
    inner::leave(&scratch, &took)
}

/// From the call until the watch says `running`, in seconds.
fn start(agentd: &Agentd) -> Result<f64> {
    let mut caller = Caller::connect(agentd.socket())?;
    let (_, body) = caller.call(&get("/v1/vms/web"))?;
    let since =
        serde_json::from_slice::<serde_json::Value>(body)?["revision"].as_u64().context("a revision")?;
    let mut watch = Watch::open(agentd.socket(), &format!("/v1/vms?watch=true&since={since}"))?;
    let from = Instant::now();
    let (status, body) = caller.call(&post("/v1/vms/web/start", ""))?;
    ensure!(status == 200 || status == 202, "{status}: {}", String::from_utf8_lossy(body));
    loop {
        let line = watch.line()?;
        if line.contains(r#""state":"running""#) {
            return Ok(from.elapsed().as_secs_f64());
        }
        if line.contains(r#""state":"failed""#) {
            bail!("{line}");
        }
    }
}

/// The definition of `web` for a domain of nobody's beside it: the same but for its name, its place on the bridge and its
/// files, which are copies.
fn bare_definition(agentd: &Agentd, scratch: &Path) -> Result<PathBuf> {
    let domain = virsh(&["list", "--all", "--name"]).map_err(anyhow::Error::msg)?.trim().to_owned();
    let mut xml = virsh(&["dumpxml", "--inactive", &domain]).map_err(anyhow::Error::msg)?;
    let (id, state) = (agentd.vm("web")["id"].as_str().context("an id")?.to_owned(), agentd.state());
    let folder = state.join("vms").join(&id);
    let copy = scratch.join("bare");
    namespace::run("/bin/cp", &["-a", &folder.to_string_lossy(), &copy.to_string_lossy()])?;
    xml = cut(&xml, "<metadata>", "</metadata>")?;
    xml = xml.replace(&*folder.to_string_lossy(), &copy.to_string_lossy());
    xml = xml.replace(&id, "01970000-0000-7000-8000-00000000bace").replace(&domain, "bare");
    let mac = between(&xml, "<mac address='", "'")?.to_owned();
    let tap = between(&xml, "<target dev='agt", "'")?.to_owned();
    xml = xml.replace(&mac, "52:54:00:ba:4e:01").replace(&format!("agt{tap}"), "bare0");
    let file = scratch.join("bare.xml");
    std::fs::write(&file, xml)?;
    Ok(file)
}

fn between<'a>(text: &'a str, begin: &str, end: &str) -> Result<&'a str> {
    let rest = text.split_once(begin).with_context(|| format!("no {begin} in\n{text}"))?.1;
    Ok(rest.split_once(end).with_context(|| format!("no {end}"))?.0)
}

fn cut(text: &str, begin: &str, end: &str) -> Result<String> {
    let (before, rest) = text.split_once(begin).with_context(|| format!("no {begin} in\n{text}"))?;
    let after = rest.split_once(end).with_context(|| format!("no {end}"))?.1;
    Ok(format!("{before}{after}"))
}
