//! What a kind has to check beyond the shape of its spec: one implementation a kind, and a table of them with their types
//! erased, so that all that is generic stays generic.

use std::path::PathBuf;
use std::sync::Arc;

use agentd_api::event::Outcome;
use agentd_api::vm::{Accel, CpuSet, FirmwareThere};
use agentd_api::{ByteSize, Cidr, ErrorCode, Kind, Object, ObjectKey, Problem};
use agentd_api::{container, flavor, image, network, snapshot, ssh_key, vm, volume};
use agentd_drivers::network::Listener;
use agentd_store::{NewEvent, Stored, Tx, TxError};
use serde_json::Value;

use super::guest::addresses::Cursors;
use super::{Caller, EngineImage};

/// What was learned of the host before the transaction began.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub memory: ByteSize,
    pub processors: CpuSet,
    /// None where there are none; also where the request has nothing to do with them.
    pub huge_pages: Option<ByteSize>,
    pub accel: Option<Accel>,
    /// Whatever there is where the request has nothing to do with it.
    pub firmware: FirmwareThere,
    pub boot_id: String,
    /// What is free in the pool of volumes.
    pub pool_free: ByteSize,
    /// Empty where the request has nothing to do with it.
    pub taken: Vec<Cidr>,
    /// Who listens on the host where the request would publish ports; empty where it asks for no port more.
    pub listeners: Vec<Listener>,
    pub cursors: Arc<Cursors>,
    /// Whether the engine has the image that a container is to be made of, where the request names one.
    pub engine_image: EngineImage,
    /// Folders of the host that containers may have mounted, and what is below them.
    pub bind_mounts: Vec<PathBuf>,
    /// What the VM is made of that is to be written down, where it came in an archive.
    pub imported: Option<super::Imported>,
}

/// Where a wish is dealt with: the open transaction, what is known of the host, and who asks.
pub(super) struct Desk<'a> {
    pub tx: &'a mut dyn Tx,
    pub known: &'a Known,
    pub caller: &'a Caller,
}

impl Desk<'_> {
    pub fn record(&mut self, of: &Stored, verb: &str, message: impl Into<String>) {
        self.tx.record(NewEvent {
            kind: of.kind().to_owned(),
            project: of.project().to_string(),
            name: of.name().to_string(),
            id: of.id(),
            actor: self.caller.principal.actor(),
            verb: verb.to_owned(),
            message: message.into(),
            outcome: Outcome::Accepted,
            request_id: Some(self.caller.request_id.clone()),
        });
    }
}

/// What an action changes. Nothing is a change too: the object is so already.
pub(super) struct Acted<K: Kind> {
    pub spec: Option<K::Spec>,
    pub status: Option<K::Status>,
    /// Counts as a change of the spec, even where it is the same.
    pub touch: bool,
    /// What changes is another object.
    pub elsewhere: bool,
}

impl<K: Kind> Default for Acted<K> {
    fn default() -> Self {
        Self { spec: None, status: None, touch: false, elsewhere: false }
    }
}

pub(super) trait Admission: Kind {
    /// What must be undone on the host when such an object goes, in order.
    const FINALIZERS: &'static [&'static str];

    /// Fills in what another object says of this one, and refuses what contradicts it. `given` are the fields of the
    /// spec that the caller sent. `is` is None for a new object.
    fn resolve(
        _: &mut Desk<'_>,
        _: &ObjectKey,
        _is: Option<&Self::Spec>,
        spec: Self::Spec,
        _given: &[String],
    ) -> Result<Self::Spec, Problem> {
        Ok(spec)
    }
    /// Checks a new object and takes what it needs. Its answer is the status that the object begins with.
    fn create(desk: &mut Desk<'_>, key: &ObjectKey, spec: &Self::Spec) -> Result<Self::Status, Problem>;
    /// Checks a changed spec and takes or gives back the difference. A new status where that changes with it.
    fn change(
        desk: &mut Desk<'_>,
        is: &Object<Self>,
        spec: &Self::Spec,
    ) -> Result<Option<Self::Status>, Problem>;
    /// Refuses where others need it.
    fn delete(desk: &mut Desk<'_>, key: &ObjectKey) -> Result<(), Problem>;
    /// An action of the kind's own.
    fn act(_: &Known, is: &Object<Self>, action: &str) -> Result<Acted<Self>, Problem> {
        Err(no_such_action(&is.meta.key(), action))
    }
    /// As [`act`](Self::act), for an action that takes options or that is about other objects too.
    fn act_at(
        desk: &mut Desk<'_>,
        is: &Object<Self>,
        action: &str,
        _options: &Value,
    ) -> Result<Acted<Self>, Problem> {
        Self::act(desk.known, is, action)
    }
}

/// What an action changes, its types erased.
#[derive(Default)]
pub(super) struct ActedAny {
    pub spec: Option<Value>,
    pub status: Option<Value>,
    pub touch: bool,
    pub elsewhere: bool,
}

/// The key, the object as it is where it is there, the wanted spec, and which of its fields were given.
type Resolve = fn(&mut Desk<'_>, &ObjectKey, Option<&Stored>, &Value, &[String]) -> Result<Value, Problem>;

/// An [`Admission`] with its types erased.
pub(super) struct AnyAdmission {
    pub kind: &'static str,
    pub finalizers: &'static [&'static str],
    pub resolve: Resolve,
    pub create: fn(&mut Desk<'_>, &ObjectKey, &Value) -> Result<Value, Problem>,
    pub change: fn(&mut Desk<'_>, &Stored, &Value) -> Result<Option<Value>, Problem>,
    pub delete: fn(&mut Desk<'_>, &ObjectKey) -> Result<(), Problem>,
    pub act: fn(&mut Desk<'_>, &Stored, &str, &Value) -> Result<ActedAny, Problem>,
    /// The status with failed attempts forgotten.
    pub retried: fn(&Stored) -> Result<Value, Problem>,
}

const fn entry<K: Admission>() -> AnyAdmission {
    AnyAdmission {
        kind: K::DEF.kind,
        finalizers: K::FINALIZERS,
        resolve: |desk, key, is, spec, given| {
            let is = is.map(object::<K>).transpose()?.map(|is| is.spec);
            json(&K::resolve(desk, key, is.as_ref(), typed::<K>(spec)?, given)?)
        },
        create: |desk, key, spec| json(&K::create(desk, key, &typed::<K>(spec)?)?),
        change: |desk, is, spec| {
            let status = K::change(desk, &object::<K>(is)?, &typed::<K>(spec)?)?;
            status.as_ref().map(json).transpose()
        },
        delete: K::delete,
        act: |desk, is, action, options| {
            let acted = K::act_at(desk, &object::<K>(is)?, action, options)?;
            Ok(ActedAny {
                spec: acted.spec.as_ref().map(json).transpose()?,
                status: acted.status.as_ref().map(json).transpose()?,
                touch: acted.touch,
                elsewhere: acted.elsewhere,
            })
        },
        retried: retried::<K>,
    }
}

static ALL: [AnyAdmission; 8] = [
    entry::<ssh_key::SshKey>(),
    entry::<network::Network>(),
    entry::<image::Image>(),
    entry::<volume::Volume>(),
    entry::<flavor::Flavor>(),
    entry::<vm::Vm>(),
    entry::<container::Container>(),
    entry::<snapshot::Snapshot>(),
];

pub(super) fn of(kind: &str) -> Result<&'static AnyAdmission, Problem> {
    ALL.iter()
        .find(|a| a.kind == kind)
        .ok_or_else(|| Problem::new(ErrorCode::NotFound, format!("there is no kind '{kind}'")))
}

fn retried<K: Kind>(is: &Stored) -> Result<Value, Problem> {
    let mut object = object::<K>(is)?;
    let common = K::common_mut(&mut object.status);
    common.attempts = None;
    if common.state == agentd_api::State::Failed {
        common.state = agentd_api::State::Pending;
        common.reason = None;
    }
    json(&object.status)
}

fn typed<K: Kind>(spec: &Value) -> Result<K::Spec, Problem> {
    agentd_api::registry::parse_spec::<K>(spec).map_err(Problem::invalid)
}

fn json<T: serde::Serialize>(value: &T) -> Result<Value, Problem> {
    serde_json::to_value(value).map_err(|e| Problem::new(ErrorCode::Internal, e.to_string()))
}

pub(super) fn object<K: Kind>(is: &Stored) -> Result<Object<K>, Problem> {
    is.object::<K>()
        .map_err(|e| Problem::new(ErrorCode::Internal, format!("{} cannot be read: {e}", is.key())))
}

pub(super) fn no_such_action(key: &ObjectKey, action: &str) -> Problem {
    let problem = Problem::new(ErrorCode::NotFound, format!("a {} has no action '{action}'", key.kind));
    match agentd_api::registry::by_kind(&key.kind) {
        Some(def) => {
            let names: Vec<&str> = def.actions.iter().map(|a| a.name).collect();
            problem.hint(format!("its actions are {}", names.join(", ")))
        }
        None => problem,
    }
}

/// The objects of a list, for a sentence: "vm/default/a, vm/default/b and 3 more".
pub(super) fn name_them(objects: &[Arc<Stored>]) -> String {
    const SHOWN: usize = 5;
    let names: Vec<String> = objects.iter().take(SHOWN).map(|o| o.key().to_string()).collect();
    match objects.len().saturating_sub(SHOWN) {
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}

/// A transaction's own refusal, as a caller is told of it.
pub(super) fn refused(error: TxError) -> Problem {
    match error {
        TxError::AlreadyExists { key } => {
            let problem = Problem::new(ErrorCode::AlreadyExists, format!("{key} exists already"));
            Problem { errors: vec![agentd_api::FieldError::new("name", "is taken")], ..problem }
        }
        TxError::NotFound { key } => not_found(&key),
        TxError::RevisionMismatch { key, wanted, is } => Problem::new(
            ErrorCode::RevisionMismatch,
            format!("{key} is at revision {is}, and not at {wanted} as the request demands"),
        )
        .hint("get it anew, make the change again and send that"),
        TxError::Taken { space, value, owner } => {
            Problem::new(ErrorCode::Conflict, format!("{value} ({space}) is taken by {owner}"))
        }
    }
}

pub(super) fn not_found(key: &ObjectKey) -> Problem {
    Problem::new(ErrorCode::NotFound, format!("there is no {key}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_admitted_by_something() {
        for kind in &agentd_api::registry::ALL {
            assert!(of(kind.def.kind).is_ok(), "{}", kind.def.kind);
        }
        assert_eq!(ALL.len(), agentd_api::registry::ALL.len());
    }
}
