//! `POST /v1/adopt`: a container that somebody else made becomes an object, whose spec says what it is.
//!
//! It is not made anew and not started again: the object is written down with the engine's id of it, by which it is known
//! from then on, since an engine gives marks only to what it makes. That id is an allocation, so that of two who adopt it
//! one does.
//!
//! All of it is said or all of it is refused: what a spec cannot say is named, each with what can be done about it. Its
//! place on the network is the exception, and is changed: it is taken off the engine's networks and put on agentd's while
//! it runs, as anything that agentd has. Left where it was it would be beyond DNS names, published ports and firewall, and
//! would be without a network once it is made anew. Connections over its old address end. What the engine publishes of it
//! cannot be taken from it while the container is there, and would go on beside agentd's rules: that is refused.

use std::path::{Path, PathBuf};
use std::time::Duration;

use agentd_api::container::{
    AdoptWish, Container, ContainerAdopted, ContainerDesired, ContainerMount, ContainerSpec, ContainerStatus,
    Cpus, HealthCheck, ImageRef, MountSource, TmpfsMount, Ulimit,
};
use agentd_api::cpu::CpuSet;
use agentd_api::image::{Image, Recipe, for_containers};
use agentd_api::life::RestartPolicy;
use agentd_api::{ErrorCode, FieldError, Kind, Object, ObjectKey, ObjectName, Problem, Span, Timestamp};
use agentd_drivers::container::{
    ContainerState, EngineRestart, ForeignDef, HealthWish, MountSource as Source,
};
use agentd_store::{NewObject, Query, TxError};
use serde_json::json;

use super::{check_host, check_networks};
use crate::claims::ENGINE;
use crate::intent::admission::{Admission, Desk, object, refused};
use crate::intent::commit::{Request, reply};
use crate::intent::guest::addresses::{self, Has};
use crate::intent::{Caller, Foreign, Intents, Reply};
use crate::shares;

/// How long the engine may take to tell of it.
const DEADLINE: Duration = Duration::from_secs(20);

impl Intents {
    /// 201 with the new object.
    pub async fn adopt(
        &self,
        caller: &Caller,
        project: &ObjectName,
        wish: AdoptWish,
    ) -> Result<Reply, Problem> {
        let asked = tokio::time::timeout(DEADLINE, self.facts.foreign(&wish.container)).await;
        let late = |_| Foreign::Unknown(format!("no answer in {} s", DEADLINE.as_secs()));
        let (def, outside) = match asked.unwrap_or_else(late) {
            Foreign::There { def, outside } => (def, outside),
            Foreign::NotThere => return Err(self.no_stranger(&wish.container)),
            Foreign::Unknown(why) => {
                let detail = format!("what container '{}' is cannot be told: {why}", wish.container);
                return Err(Problem::new(ErrorCode::BackendUnavailable, detail)
                    .hint("`agentctl doctor` says what is amiss with the engine"));
            }
        };
        let key = ObjectKey::of::<Container>(project.clone(), name(&wish, &def)?);
        let body = json!(wish);
        let request = Request { verb: "adopt", key: &key, if_match: None, body: &body };
        let wanted = key.clone();
        self.commit(caller, request, self.known(), move |desk| {
            take_over(desk, &wanted, &wish, (&def, &outside))
        })
        .await
    }

    /// Why there is no foreign container of that name.
    fn no_stranger(&self, name: &str) -> Problem {
        const ID_MIN: usize = 12;
        let ours = self.store.list(&Query::kind(Container::DEF.kind)).items.into_iter().find(|stored| {
            let Ok(Object { meta, status, .. }) = stored.object::<Container>() else { return false };
            let by_id = name.len() >= ID_MIN && status.engine_id.is_some_and(|id| id.starts_with(name));
            let adopted = status.adopted.is_some_and(|adopted| adopted.name == name);
            let named =
                name.starts_with("agentd-") && name.ends_with(&format!("-{}.{}", meta.project, meta.name));
            by_id || adopted || named
        });
        match ours {
            Some(stored) => is_ours(name, stored.key()),
            None => Problem::new(ErrorCode::NotFound, format!("the engine has no container '{name}'"))
                .hint("`agentctl container list --all` shows those that it has"),
        }
    }
}

fn is_ours(name: &str, key: &ObjectKey) -> Problem {
    Problem::new(ErrorCode::Conflict, format!("container '{name}' is {key} already"))
}

fn name(wish: &AdoptWish, def: &ForeignDef) -> Result<ObjectName, Problem> {
    if let Some(name) = &wish.name {
        return Ok(name.clone());
    }
    ObjectName::parse(&def.seen.name).map_err(|error| {
        let what = format!("the engine's '{}' is no name of an object: it {error}", def.seen.name);
        Problem::field("name", what).hint("--name says what it is to be called")
    })
}

fn take_over(
    desk: &mut Desk<'_>,
    key: &ObjectKey,
    wish: &AdoptWish,
    (def, outside): (&ForeignDef, &[PathBuf]),
) -> Result<Reply, Problem> {
    let engine_id = &def.seen.engine_id;
    if let Some(owner) = desk.tx.owner_of(ENGINE, engine_id) {
        return Err(is_ours(&wish.container, &owner));
    }
    if desk.tx.get(key).is_some() {
        return Err(
            refused(TxError::AlreadyExists { key: key.clone() }).hint("--name says what it is to be called")
        );
    }
    may_be_taken(def, wish)?;
    let spec = said(desk, key, wish, (def, outside))?;
    check_host(desk, None, &spec)?;
    check_networks(desk, key, &spec)?;
    let addresses = addresses::assign(desk, key, Has::default(), &spec.networks)?.addresses;
    desk.tx.allocate(ENGINE, engine_id, key).map_err(refused)?;
    let adopted =
        ContainerAdopted { engine_id: engine_id.clone(), name: def.seen.name.clone(), at: Timestamp::now() };
    let status = ContainerStatus {
        addresses,
        engine_id: Some(engine_id.clone()),
        image_digest: Some(def.image_id.clone()),
        adopted: Some(adopted),
        ..ContainerStatus::default()
    };
    let json = |value| {
        let failed = |error: serde_json::Error| Problem::new(ErrorCode::Internal, error.to_string());
        Result::map_err(value, failed)
    };
    let new = NewObject {
        finalizers: Container::FINALIZERS.iter().map(|&f| f.to_owned()).collect(),
        status: json(serde_json::to_value(status))?,
        ..NewObject::new(key.clone(), json(serde_json::to_value(spec))?)
    };
    let made = desk.tx.create(new).map_err(refused)?;
    desk.record(&made, "adopted", format!("the engine's container '{}', {engine_id}", def.seen.name));
    Ok(reply(201, &made))
}

fn may_be_taken(def: &ForeignDef, wish: &AdoptWish) -> Result<(), Problem> {
    let name = &def.seen.name;
    if let Some(daemon) = &def.seen.daemon {
        let detail = format!("container '{name}' is another daemon's ({daemon})");
        return Err(Problem::new(ErrorCode::Conflict, detail));
    }
    if def.seen.state == ContainerState::Removing {
        return Err(Problem::new(
            ErrorCode::Conflict,
            format!("the engine is at removing container '{name}'"),
        ));
    }
    if def.security.privileged && !wish.privileged {
        let detail = format!("container '{name}' is privileged, which is as good as root of the host");
        return Err(Problem::new(ErrorCode::Unsupported, detail)
            .at("privileged")
            .hint("--privileged adopts it as what it is"));
    }
    let none = wish.networks.as_ref().is_some_and(Vec::is_empty);
    if none && !def.networks.is_empty() {
        let what = format!(
            "it would have none in place of {}, and the engine would give it that again",
            def.networks.join(", ")
        );
        return Err(Problem::field("networks", what));
    }
    Ok(())
}

/// Its spec; or all that no spec can say.
fn said(
    desk: &Desk<'_>,
    key: &ObjectKey,
    wish: &AdoptWish,
    (def, outside): (&ForeignDef, &[PathBuf]),
) -> Result<ContainerSpec, Problem> {
    let beyond = def.beyond.iter().map(|beyond| FieldError::new(beyond.field.clone(), beyond.what.clone()));
    let mut odd: Vec<FieldError> = beyond.collect();
    let spec = spec(desk, key, wish, def, &mut odd)?;
    for path in outside {
        let what = format!(
            "{} of the host is not below a folder that containers may have: [containers] bind_mounts of agentd's \
             configuration",
            path.display()
        );
        odd.push(FieldError::new("Mounts", what));
    }
    odd.extend(Container::check(&spec));
    if odd.is_empty() {
        return Ok(spec);
    }
    let detail = format!(
        "container '{}' cannot be adopted: {} of what it is no spec can say",
        def.seen.name,
        odd.len()
    );
    let problem = Problem::new(ErrorCode::Unsupported, detail);
    Err(Problem { errors: odd, ..problem }
        .hint("it was left as it is; `agentctl container run` makes one of agentd's in its place"))
}

fn spec(
    desk: &Desk<'_>,
    key: &ObjectKey,
    wish: &AdoptWish,
    def: &ForeignDef,
    odd: &mut Vec<FieldError>,
) -> Result<ContainerSpec, Problem> {
    let image = image(desk, key, def);
    let usual: Result<ContainerSpec, _> = serde_json::from_value(json!({"image": image}));
    let mut spec = usual.map_err(|error| Problem::new(ErrorCode::Internal, error.to_string()))?;
    if let Some(networks) = &wish.networks {
        spec.networks.clone_from(networks);
    } else if def.networks.is_empty() {
        spec.networks.clear();
    }
    spec.command.clone_from(&def.command);
    spec.entrypoint = Some(def.entrypoint.clone()).filter(|entrypoint| !entrypoint.is_empty());
    spec.env = def.env.iter().cloned().collect();
    (spec.cwd, spec.user) = (def.cwd.clone(), def.user.clone());
    spec.hostname = match def.hostname.as_deref().map(ObjectName::parse) {
        Some(Ok(hostname)) => Some(hostname).filter(|hostname| *hostname != key.name),
        None => None,
        Some(Err(error)) => {
            odd.push(FieldError::new("Config.Hostname", error.to_string()));
            None
        }
    };
    (spec.tty, spec.stdin_open) = (def.terminal, def.input);
    spec.stop_signal.clone_from(&def.stop_signal);
    if let Some(seconds) = def.grace {
        spec.grace = Span::seconds(seconds);
    }
    limits(&mut spec, def, odd);
    spec.health = match &def.health {
        HealthWish::Image => None,
        HealthWish::Off => Some(Vec::new()),
        HealthWish::Program { argv, .. } => Some(argv.clone()),
    }
    .map(|command| health(command, &def.health));
    for from in &def.mounts {
        match mount(from) {
            Some(mount) => spec.mounts.push(mount),
            None => odd
                .push(FieldError::new("Mounts", format!("{} is a volume of the engine's own", from.target))),
        }
    }
    let security = &def.security;
    (spec.privileged, spec.new_privileges) = (security.privileged, security.new_privileges);
    spec.read_only = security.read_only;
    (spec.cap_add, spec.cap_drop) = (security.cap_add.clone(), security.cap_drop.clone());
    spec.desired = match def.seen.state {
        ContainerState::Running => ContainerDesired::Running,
        ContainerState::Paused => ContainerDesired::Paused,
        _ => ContainerDesired::Stopped,
    };
    spec.restart = match def.restart {
        EngineRestart::Never => RestartPolicy::Never,
        EngineRestart::OnFailure => RestartPolicy::OnFailure,
        EngineRestart::Always => RestartPolicy::Always,
    };
    // What the engine does not start again it does not start after a boot either.
    spec.autostart.enabled = def.restart != EngineRestart::Never;
    spec.remove_when_stopped = def.remove_when_stopped;
    Ok(spec)
}

/// By the name that it was made under, unless that means another here; then by the engine's id.
fn image(desk: &Desk<'_>, key: &ObjectKey, def: &ForeignDef) -> String {
    let Ok(named) = def.seen.image.parse::<ImageRef>() else { return def.image_id.clone() };
    let Some(name) = named.object() else { return named.to_string() };
    let mut means = Recipe::by_name(name.as_str()).map(|_| String::new());
    for name in for_containers(&name) {
        let Some(there) = desk.tx.get(&ObjectKey::of::<Image>(key.project.clone(), name)) else { continue };
        let digest = object::<Image>(&there).ok().and_then(|image| image.status.digest);
        means = Some(digest.unwrap_or_default());
    }
    if means.is_none_or(|digest| digest == def.image_id) { named.to_string() } else { def.image_id.clone() }
}

fn limits(spec: &mut ContainerSpec, def: &ForeignDef, odd: &mut Vec<FieldError>) {
    const NANOS: u64 = 1_000_000;
    let limits = &def.limits;
    let mut fits = |field: &str, what: String| odd.push(FieldError::new(format!("HostConfig.{field}"), what));
    if let Some(nanos) = limits.nanocpus {
        let thousandths = nanos / NANOS;
        let text = format!("{}.{:03}", thousandths / 1000, thousandths % 1000);
        match text.parse::<Cpus>() {
            Ok(cpus) if cpus.nanos() == nanos => spec.cpus = Some(cpus),
            _ => fits(
                "NanoCpus",
                format!("{nanos} is no thousandth of a processor; `docker update --cpus {text}`"),
            ),
        }
    }
    if let Some(engine) = limits.cpu_shares {
        let ours = shares::ours(engine);
        spec.cpu_shares = Some(ours);
        if shares::engines(ours) != engine {
            let near = shares::engines(ours);
            fits(
                "CpuShares",
                format!("{engine} is between what specs can say; `docker update --cpu-shares {near}`"),
            );
        }
    }
    match limits.cpuset.as_deref().map(str::parse::<CpuSet>) {
        None => {}
        Some(Ok(set)) => spec.cpu_set = Some(set),
        Some(Err(error)) => fits("CpusetCpus", error.to_string()),
    }
    spec.memory = limits.memory;
    spec.swap = limits.swap.filter(|swap| Some(*swap) != limits.memory);
    spec.pids = limits.pids;
    spec.shm = def.restraints.shm;
    let signed = |count: u64| i64::try_from(count).unwrap_or(-1);
    let ulimits = def.restraints.ulimits.iter().map(|limit| {
        let (soft, hard) = (signed(limit.soft), signed(limit.hard));
        (limit.name.clone(), Ulimit { soft, hard: Some(hard).filter(|hard| *hard != soft) })
    });
    spec.ulimits = ulimits.collect();
}

fn health(command: Vec<String>, wish: &HealthWish) -> HealthCheck {
    let usual = HealthCheck {
        command,
        interval: Span::seconds(30),
        timeout: Span::seconds(30),
        retries: 3,
        start_period: Span::default(),
    };
    match wish {
        HealthWish::Program { interval, timeout, start_period, retries, .. } => HealthCheck {
            interval: Span(*interval),
            timeout: Span(*timeout),
            start_period: Span(*start_period),
            retries: *retries,
            ..usual
        },
        HealthWish::Image | HealthWish::Off => usual,
    }
}

fn mount(mount: &agentd_drivers::container::Mount) -> Option<ContainerMount> {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let source = match &mount.source {
        Source::Bind(path) => MountSource::Bind(text(path)),
        Source::Tmpfs { size } => MountSource::Tmpfs(TmpfsMount { size: *size }),
        Source::Volume(_) => return None,
    };
    Some(ContainerMount { path: mount.target.clone(), source, read_only: mount.read_only })
}
