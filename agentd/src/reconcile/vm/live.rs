//! What of a running guest is not as its spec says: what can be changed now, what the guest has to let go of, and what
//! waits for a restart. Pure.

use std::collections::BTreeMap;

use agentd_api::vm::{VmSeeded, VmSpec, WatchdogAction};
use agentd_api::{ByteSize, MacAddr};
use agentd_drivers::vm::{HardwareSeen, LiveSeen};

/// A change of a running guest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    Cpus(u32),
    Memory(ByteSize),
    Disk(ByteSize),
    /// Plugs in the n-th interface.
    Attach(usize),
    Detach(MacAddr),
}

/// What is wanted beside the spec.
#[derive(Debug)]
pub struct Wanted<'a> {
    pub spec: &'a VmSpec,
    /// Of what cannot be changed while it runs.
    pub fixed: &'a str,
    /// How large its disk is.
    pub disk: Option<ByteSize>,
    /// The MAC address of each interface, in the spec's order, with the network that it is on.
    pub nics: &'a [(MacAddr, String)],
    /// What the names of this VM's taps begin with. What others plugged in is left alone.
    pub taps: &'a str,
}

/// Something that is not as wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// A sentence that begins with the field, as "cpus 2 -> 1".
    pub what: String,
    pub cure: Cure,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cure {
    /// It can be changed now.
    Change(Change),
    /// The guest has to let go of something.
    Guest(Change),
    /// A restart, and why.
    Restart(String),
}

/// All that differs, each with what would mend it.
pub fn differences(wanted: &Wanted, seen: &LiveSeen) -> Vec<Difference> {
    let mut all = Vec::new();
    let spec = wanted.spec;
    let mut differ = |what: String, cure: Cure| all.push(Difference { what, cure });
    let room = |room: String| Cure::Restart(format!("it was started with room for {room}"));
    if spec.cpus != seen.cpus {
        let cure = match spec.cpus {
            cpus if cpus > seen.cpus_max => room(seen.cpus_max.to_string()),
            cpus if cpus > seen.cpus => Cure::Change(Change::Cpus(cpus)),
            cpus => Cure::Guest(Change::Cpus(cpus)),
        };
        differ(format!("cpus {} -> {}", seen.cpus, spec.cpus), cure);
    }
    if let Some(max) = spec.cpus_max.filter(|max| *max != seen.cpus_max) {
        differ(format!("cpus_max {} -> {max}", seen.cpus_max), Cure::Restart(String::new()));
    }
    if !same(spec.memory, seen.memory) {
        let cure = if spec.memory > seen.memory_max {
            room(seen.memory_max.to_string())
        } else {
            Cure::Guest(Change::Memory(spec.memory))
        };
        differ(format!("memory {} -> {}", seen.memory, spec.memory), cure);
    }
    if let Some(max) = spec.memory_max.filter(|max| !same(*max, seen.memory_max)) {
        differ(format!("memory_max {} -> {max}", seen.memory_max), Cure::Restart(String::new()));
    }
    if let (Some(size), Some(is)) = (spec.disk, wanted.disk)
        && size > is
    {
        differ(format!("disk {is} -> {size}"), Cure::Change(Change::Disk(size)));
    }
    all.extend(interfaces(wanted, seen));
    all.extend(hardware(spec, &seen.hardware));
    let restart = |d: &Difference| matches!(d.cure, Cure::Restart(_));
    if seen.fixed.as_deref() != Some(wanted.fixed) && !all.iter().any(restart) {
        let what = "its definition, which has changed since it was started,".to_owned();
        all.push(Difference { what, cure: Cure::Restart(String::new()) });
    }
    all
}

/// What a machine has from its start on.
fn hardware(spec: &VmSpec, seen: &HardwareSeen) -> impl Iterator<Item = Difference> {
    fn action(watchdog: Option<WatchdogAction>) -> String {
        let name = watchdog.and_then(|action| serde_json::to_value(action).ok());
        name.as_ref().and_then(|name| name.as_str()).unwrap_or("off").to_owned()
    }
    let yes = |is: bool| is.to_string();
    let all = [
        ("huge_pages", yes(seen.huge_pages), yes(spec.huge_pages)),
        ("nested", yes(seen.nested), yes(spec.nested)),
        ("watchdog", action(seen.watchdog), action(spec.watchdog)),
        ("graphics", yes(seen.graphics), yes(spec.graphics)),
    ];
    all.into_iter().filter(|(_, is, wanted)| is != wanted).map(|(field, is, wanted)| Difference {
        what: format!("{field} {is} -> {wanted}"),
        cure: Cure::Restart(String::new()),
    })
}

/// What of the guest's seed has changed since it was started with it.
pub fn seed(wanted: &VmSeeded, was: &VmSeeded) -> Vec<Difference> {
    let why = "its seed brings it from then on, and cloud-init takes it up in a guest's first boot only, or in the one \
               after `cloud-init clean`";
    let all = [
        ("user_data", wanted.user_data == was.user_data),
        ("network_config", wanted.network_config == was.network_config),
        ("ssh_keys", wanted.ssh_keys == was.ssh_keys),
    ];
    let changed = all.into_iter().filter(|(_, same)| !same);
    changed
        .map(|(field, _)| Difference { what: field.to_owned(), cure: Cure::Restart(why.to_owned()) })
        .collect()
}

fn interfaces(wanted: &Wanted, seen: &LiveSeen) -> Vec<Difference> {
    let missing =
        wanted.nics.iter().enumerate().filter(|(_, (mac, _))| seen.nics.iter().all(|n| n.mac != *mac));
    let attach = missing.map(|(n, (mac, network))| Difference {
        what: format!("networks[{n}] ({mac} on {network})"),
        cure: Cure::Change(Change::Attach(n)),
    });
    let ours = seen.nics.iter().filter(|nic| nic.tap.starts_with(wanted.taps));
    let over = ours.filter(|nic| wanted.nics.iter().all(|(mac, _)| *mac != nic.mac));
    let detach = over.map(|nic| Difference {
        what: format!("networks without {}", nic.mac),
        cure: Cure::Guest(Change::Detach(nic.mac)),
    });
    // What goes makes room for what comes.
    detach.chain(attach).collect()
}

/// What is left after all was tried, as the conditions say it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// The guest was asked and may still comply.
    pub guest: Vec<String>,
    pub restart: Vec<String>,
}

/// `refused` is what a driver said to a change. `patience` is whether the guest has time left.
pub fn left(differences: &[Difference], refused: &BTreeMap<Change, String>, patience: bool) -> Left {
    let mut left = Left::default();
    for Difference { what, cure } in differences {
        match cure {
            Cure::Restart(why) => left.restart.push(waits(what, why)),
            Cure::Change(change) | Cure::Guest(change) if refused.contains_key(change) => {
                left.restart.push(waits(what, &refused[change]));
            }
            Cure::Guest(_) if !patience => left.restart.push(waits(what, "the guest did not comply")),
            Cure::Guest(_) | Cure::Change(_) => left.guest.push(what.clone()),
        }
    }
    left
}

fn waits(what: &str, why: &str) -> String {
    let why = if why.is_empty() { String::new() } else { format!(": {why}") };
    format!("{what} waits for a restart{why}")
}

/// libvirt counts in KiB.
pub fn same(a: ByteSize, b: ByteSize) -> bool {
    a.bytes() >> 10 == b.bytes() >> 10
}
