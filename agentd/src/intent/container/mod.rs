//! Admission of containers: what they refer to is there, what they need is free, what they are given of the host is
//! allowed.

mod actions;
mod adopt;
mod after;
mod image;
mod mounts;
mod rename;

use agentd_api::container::{Container, ContainerSpec, ContainerStatus};
use agentd_api::network::Network;
use agentd_api::nic::NicSpec;
use agentd_api::{ErrorCode, FieldError, Kind, Object, ObjectKey, Problem};
use serde_json::Value;

use super::admission::{Acted, Admission, Desk};
use super::guest::addresses::{self, Assigned, Has};
use super::guest::{self, names, ports};
pub(super) use rename::rename;

impl Admission for Container {
    const FINALIZERS: &'static [&'static str] = &["container", "network"];

    fn create(
        desk: &mut Desk<'_>,
        key: &ObjectKey,
        spec: &ContainerSpec,
    ) -> Result<ContainerStatus, Problem> {
        check_host(desk, None, spec)?;
        mounts::check(desk, key, None, spec)?;
        check_networks(desk, key, spec)?;
        after::check(desk, key, None, spec)?;
        image::check(desk, key, &spec.image)?;
        ports::publish(desk, key, &[], &spec.publish)?;
        let addresses = addresses::assign(desk, key, Has::default(), &spec.networks)?.addresses;
        Ok(ContainerStatus { addresses, ..ContainerStatus::default() })
    }

    fn change(
        desk: &mut Desk<'_>,
        is: &Object<Self>,
        spec: &ContainerSpec,
    ) -> Result<Option<ContainerStatus>, Problem> {
        let key = is.meta.key();
        check_fixed(&is.spec, spec)?;
        check_host(desk, Some(&is.spec), spec)?;
        mounts::check(desk, &key, Some(&is.spec), spec)?;
        check_networks(desk, &key, spec)?;
        after::check(desk, &key, Some(&is.spec), spec)?;
        if is.spec.publish != spec.publish {
            ports::publish(desk, &key, &is.spec.publish, &spec.publish)?;
        }
        if is.spec.networks == spec.networks {
            return Ok(None);
        }
        let status = &is.status;
        // It keeps its interfaces also while it is stopped: the engine has them until a pass takes them off.
        let in_use = status.engine_id.is_some();
        let has = Has { addresses: &status.addresses, leaving: &status.leaving, in_use };
        let Assigned { addresses, leaving } = addresses::assign(desk, &key, has, &spec.networks)?;
        Ok(Some(ContainerStatus { addresses, leaving, ..status.clone() }))
    }

    /// What waits for it goes on waiting, and says so.
    fn delete(_: &mut Desk<'_>, _: &ObjectKey) -> Result<(), Problem> {
        Ok(())
    }

    fn act_at(
        desk: &mut Desk<'_>,
        is: &Object<Self>,
        action: &str,
        options: &Value,
    ) -> Result<Acted<Self>, Problem> {
        actions::act(desk.known, is, action, options)
    }
}

/// What it is made of cannot be swapped beneath it: what it holds would be lost.
fn check_fixed(is: &ContainerSpec, spec: &ContainerSpec) -> Result<(), Problem> {
    let mut errors = Vec::new();
    let mut fixed = |field: &str, same: bool| {
        if !same {
            let message = "cannot be changed: what the container holds would be lost; make another one";
            errors.push(FieldError::new(format!("spec.{field}"), message));
        }
    };
    fixed("image", is.image == spec.image);
    fixed("command", is.command == spec.command);
    fixed("entrypoint", is.entrypoint == spec.entrypoint);
    fixed("env", is.env == spec.env);
    fixed("cwd", is.cwd == spec.cwd);
    fixed("user", is.user == spec.user);
    fixed("hostname", is.hostname == spec.hostname);
    fixed("tty", is.tty == spec.tty);
    fixed("stdin_open", is.stdin_open == spec.stdin_open);
    fixed("shm", is.shm == spec.shm);
    fixed("ulimits", is.ulimits == spec.ulimits);
    fixed("disk_limits", is.disk_limits == spec.disk_limits);
    fixed("mounts", is.mounts == spec.mounts);
    fixed("stop_signal", is.stop_signal == spec.stop_signal);
    fixed("health", is.health == spec.health);
    fixed("read_only", is.read_only == spec.read_only);
    fixed("cap_add", is.cap_add == spec.cap_add);
    fixed("cap_drop", is.cap_drop == spec.cap_drop);
    fixed("new_privileges", is.new_privileges == spec.new_privileges);
    fixed("privileged", is.privileged == spec.privileged);
    fixed("userns", is.userns == spec.userns);
    if errors.is_empty() { Ok(()) } else { Err(Problem::invalid(errors)) }
}

/// What this host cannot give at all. What is in the spec already is not refused again.
fn check_host(desk: &Desk<'_>, is: Option<&ContainerSpec>, spec: &ContainerSpec) -> Result<(), Problem> {
    let kind = Container::DEF.kind;
    guest::check_expiry(kind, is.and_then(ContainerSpec::expiry), spec.expiry())?;
    if let Some(memory) = spec.memory {
        guest::check_memory(desk, "spec.memory", memory)?;
    }
    let processors = &desk.known.processors;
    let count = u32::try_from(processors.iter().count()).unwrap_or(u32::MAX);
    if let Some(cpus) = spec.cpus
        && count > 0
        && cpus.thousandths() > count.saturating_mul(1000)
        && is.is_none_or(|is| is.cpus != spec.cpus)
    {
        let detail = format!("{cpus} processors are more than the {count} that this host has");
        return Err(Problem::new(ErrorCode::InsufficientCapacity, detail).at("spec.cpus"));
    }
    if let Some(set) = &spec.cpu_set
        && !processors.is_empty()
        && is.is_none_or(|is| is.cpu_set != spec.cpu_set)
    {
        let lacks = set.without(processors);
        if !lacks.is_empty() {
            let message = format!("this host has no processor {lacks}; it has {processors}");
            return Err(Problem::field("spec.cpu_set", message));
        }
    }
    Ok(())
}

fn check_networks(desk: &mut Desk<'_>, key: &ObjectKey, spec: &ContainerSpec) -> Result<(), Problem> {
    let named = |(n, nic): (usize, &NicSpec)| {
        let network = ObjectKey::of::<Network>(key.project.clone(), nic.network.clone());
        (format!("spec.networks[{n}].network"), network)
    };
    guest::check_references(desk, key, spec.networks.iter().enumerate().map(named))?;
    names::check(desk, key, &spec.networks)
}
