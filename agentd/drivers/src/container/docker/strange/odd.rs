//! What of a foreign container no definition can say, a field of the engine's at a time.

use bollard::models::HostConfig;
use serde_json::{Map, Value};

use crate::container::{Beyond, ContainerSeen};
use crate::engine::Flavor;

/// What this file looks at itself, and what does nothing to a container.
const LOOKED_AT: [&str; 32] = [
    "AutoRemove",
    "Binds",
    "CapAdd",
    "CapDrop",
    "Cgroup",
    "CgroupnsMode",
    "ConsoleSize",
    "ContainerIDFile",
    "CpuPeriod",
    "CpuQuota",
    "CpuShares",
    "CpusetCpus",
    "IpcMode",
    "Isolation",
    "LogConfig",
    "MaskedPaths",
    "Memory",
    "MemorySwap",
    "MemorySwappiness",
    "Mounts",
    "NanoCpus",
    "NetworkMode",
    "PidsLimit",
    "PortBindings",
    "Privileged",
    "ReadonlyPaths",
    "ReadonlyRootfs",
    "RestartPolicy",
    "Runtime",
    "SecurityOpt",
    "ShmSize",
    "Tmpfs",
];
/// More of these.
const ULIMITS: &str = "Ulimits";
/// Those that keep a container by themselves, by what their labels begin with.
const KEEPERS: [&str; 2] = ["com.docker.swarm.", "io.kubernetes."];
/// What is written to what the engine can read back.
const LOGS: [&str; 5] = ["", "json-file", "local", "journald", "k8s-file"];

/// What no definition says.
#[derive(Default)]
pub(super) struct Odd(pub(super) Vec<Beyond>);

impl Odd {
    pub(super) fn add(&mut self, field: &str, what: impl Into<String>) {
        self.0.push(Beyond { field: field.to_owned(), what: what.into() });
    }

    pub(super) fn of_host(&mut self, raw: &Value, host: &HostConfig, flavor: Flavor) {
        let none = Map::new();
        for (field, value) in raw.as_object().unwrap_or(&none) {
            if !LOOKED_AT.contains(&field.as_str()) && field != ULIMITS && !is_empty(value) {
                self.add(&format!("HostConfig.{field}"), format!("{value} is nothing that a spec can say"));
            }
        }
        self.of_ports(raw);
        self.of_spaces(raw, flavor);
        self.of_limits(raw, flavor);
        if !host.privileged.unwrap_or(false) {
            for field in ["MaskedPaths", "ReadonlyPaths"] {
                if raw[field].as_array().is_some_and(Vec::is_empty) {
                    self.add(
                        &format!("HostConfig.{field}"),
                        "what of the kernel is hidden from others it sees",
                    );
                }
            }
        }
    }

    fn of_ports(&mut self, raw: &Value) {
        let text = |field: &str| raw[field].as_str().unwrap_or_default();
        let none = Map::new();
        let network = text("NetworkMode");
        if network == "host"
            || ["container:", "ns:", "slirp4netns", "pasta"].iter().any(|w| network.starts_with(w))
        {
            self.add(
                "HostConfig.NetworkMode",
                format!("'{network}' is no network that it could be taken off"),
            );
        }
        for (port, bindings) in raw["PortBindings"].as_object().unwrap_or(&none) {
            for binding in bindings.as_array().into_iter().flatten() {
                let host =
                    binding["HostPort"].as_str().filter(|port| !port.is_empty()).unwrap_or("some port");
                let what = format!(
                    "{host} of the host is published to {port} by the engine itself for as long as the container is \
                     there; one of agentd's can have it published in its place (`--publish`)"
                );
                self.add("HostConfig.PortBindings", what);
            }
        }
    }

    /// What it shares with others, and what runs it.
    fn of_spaces(&mut self, raw: &Value, flavor: Flavor) {
        let text = |field: &str| raw[field].as_str().unwrap_or_default();
        let ipc = text("IpcMode");
        if !matches!((ipc, flavor), ("" | "private", _) | ("shareable", Flavor::Podman)) {
            self.add("HostConfig.IpcMode", format!("'{ipc}' shares its memory with others"));
        }
        // What an engine does by itself where cgroups are of version 1.
        if !matches!(text("CgroupnsMode"), "" | "private" | "host") {
            self.add("HostConfig.CgroupnsMode", format!("'{}' is another's", text("CgroupnsMode")));
        }
        if !matches!(text("Runtime"), "" | "runc" | "crun" | "oci") {
            self.add(
                "HostConfig.Runtime",
                format!("'{}' is not what agentd's containers run by", text("Runtime")),
            );
        }
        let log = raw["LogConfig"]["Type"].as_str().unwrap_or_default();
        if !LOGS.contains(&log) {
            self.add(
                "HostConfig.LogConfig",
                format!("its log goes by '{log}', from which it cannot be read back"),
            );
        }
    }

    fn of_limits(&mut self, raw: &Value, flavor: Flavor) {
        let swap = raw["MemorySwap"].as_i64().unwrap_or(0);
        if swap < 0 && raw["Memory"].as_i64().unwrap_or(0) > 0 {
            let what = "it may use all of the host's swap beside its limited memory; `docker update --memory-swap` limits it";
            self.add("HostConfig.MemorySwap", what);
        }
        if flavor == Flavor::Docker && (!is_empty(&raw["CpuQuota"]) || !is_empty(&raw["CpuPeriod"])) {
            self.add("HostConfig.CpuQuota", "a quota and its period can be said only as `--cpus`");
        }
        if raw["MemorySwappiness"].as_i64().is_some_and(|n| n >= 0) {
            self.add("HostConfig.MemorySwappiness", "is nothing that a spec can say");
        }
        let retries = raw["RestartPolicy"]["MaximumRetryCount"].as_i64().unwrap_or(0);
        if retries > 0 {
            let what = format!("at most {retries} restarts; `docker update --restart on-failure` lifts that");
            self.add("HostConfig.RestartPolicy", what);
        }
    }

    pub(super) fn of_config(&mut self, raw: &Value) {
        let text = |field: &str| raw[field].as_str().unwrap_or_default();
        if raw["NetworkDisabled"] == true {
            self.add("Config.NetworkDisabled", "is nothing that a spec can say");
        }
        if !text("Domainname").is_empty() {
            self.add(
                "Config.Domainname",
                format!("'{}': its domain is that of its network", text("Domainname")),
            );
        }
        for line in raw["Env"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !line.contains('=') {
                self.add("Config.Env", format!("'{line}' is named and has no value"));
            }
        }
        if !is_empty(&raw["Healthcheck"]["StartInterval"]) {
            self.add("Config.Healthcheck.StartInterval", "is nothing that a spec can say");
        }
        let none = Map::new();
        for label in raw["Labels"].as_object().unwrap_or(&none).keys() {
            if KEEPERS.iter().any(|keeper| label.starts_with(keeper)) {
                self.add("Config.Labels", format!("'{label}': another program keeps it, and would go on to"));
                break;
            }
        }
    }

    /// Names by which others reach it on a network of the engine's, which it has no more once it is off that.
    pub(super) fn of_networks(&mut self, raw: &Value, seen: &ContainerSeen) {
        let none = Map::new();
        for (network, endpoint) in raw.as_object().unwrap_or(&none) {
            let own = |alias: &str| seen.engine_id.starts_with(alias) || alias == seen.name;
            let aliases = endpoint["Aliases"].as_array().into_iter().flatten().filter_map(Value::as_str);
            for alias in aliases.filter(|alias| !own(alias)) {
                let what =
                    format!("others on '{network}' reach it as '{alias}', which ends when it is taken off");
                self.add("NetworkSettings.Networks", what);
            }
            if !is_empty(&endpoint["Links"]) {
                self.add("NetworkSettings.Networks", format!("it is linked to others on '{network}'"));
            }
        }
    }
}

/// Null, false, nothing, zero; and one of the engines' ways to say so.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Bool(true) => false,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    }
}
