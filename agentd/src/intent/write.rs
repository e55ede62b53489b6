//! Create, replace, patch, delete: for all kinds alike.

use agentd_api::container::{Container, ImageRef};
use agentd_api::vm::FirmwareThere;
use agentd_api::{ErrorCode, Kind, KindDef, ObjectKey, ObjectName, Problem, registry};
use agentd_store::{Expect, NewObject, Stored, Update};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

use super::admission::{self, Desk, Known, not_found, refused};
use super::commit::{Request, reply};
use super::draft::{self, Draft};
use super::{Caller, EngineImage, Intents, Reply};

/// How long the host may take to say what is asked of it.
const FACTS_DEADLINE: Duration = Duration::from_secs(5);

impl Intents {
    /// 201 with the new object.
    pub async fn create(
        &self,
        caller: &Caller,
        def: &'static KindDef,
        project: &ObjectName,
        body: Value,
    ) -> Result<Reply, Problem> {
        let (key, draft) = draft::parse_new(def, project, &body)?;
        let mut known = self.known_for(&body);
        known.listeners = self.listeners(&key, &draft.spec["publish"]).await?;
        if def.kind == "network" {
            known.taken = self.taken().await?;
        }
        if def.kind == Container::DEF.kind {
            known.engine_image = self.engine_image(&draft.spec).await;
        }
        let request = Request { verb: "create", key: &key, if_match: None, body: &body };
        let wanted = key.clone();
        self.commit(caller, request, known, move |desk| {
            let made = create(desk, &wanted, draft.clone())?;
            desk.record(&made, "created", "wanted");
            Ok(reply(201, &made))
        })
        .await
    }

    /// 200 with the object as it now stands; the same object at the same revision where nothing changed.
    pub async fn replace(
        &self,
        caller: &Caller,
        key: &ObjectKey,
        body: Value,
        if_match: Option<u64>,
    ) -> Result<Reply, Problem> {
        let draft = draft::parse_replacement(def(key)?, key, &body)?;
        let listeners = self.listeners(key, &draft.spec["publish"]).await?;
        let known = Known { listeners, ..self.known_for_change() };
        let request = Request { verb: "replace", key, if_match, body: &body };
        let wanted = key.clone();
        self.commit(caller, request, known, move |desk| {
            let is = changeable(desk, &wanted, if_match)?;
            change(desk, &is, draft.clone(), if_match)
        })
        .await
    }

    /// As replace, from a merge patch.
    pub async fn patch(
        &self,
        caller: &Caller,
        key: &ObjectKey,
        patch: Value,
        if_match: Option<u64>,
    ) -> Result<Reply, Problem> {
        let def = def(key)?;
        let listeners = self.listeners(key, &patch["spec"]["publish"]).await?;
        let known = Known { listeners, ..self.known_for_change() };
        let request = Request { verb: "patch", key, if_match, body: &patch.clone() };
        let wanted = key.clone();
        self.commit(caller, request, known, move |desk| {
            let is = changeable(desk, &wanted, if_match)?;
            let draft = draft::parse_patch(def, &wanted, &is.value(), &patch)?;
            change(desk, &is, draft, if_match)
        })
        .await
    }

    /// 202 with the marked object. Again is the same answer, as long as it is there.
    pub async fn delete(
        &self,
        caller: &Caller,
        key: &ObjectKey,
        if_match: Option<u64>,
    ) -> Result<Reply, Problem> {
        let admission = admission::of(&key.kind)?;
        let request = Request { verb: "delete", key, if_match, body: &Value::Null };
        let wanted = key.clone();
        self.commit(caller, request, self.known(), move |desk| {
            let is = present(desk, &wanted, if_match)?;
            if is.deleting() {
                return Ok(reply(202, &is));
            }
            (admission.delete)(desk, &wanted)?;
            let marked = Update { deleting: Some(true), ..Update::default() };
            let marked = desk.tx.update(&wanted, expect(if_match), marked).map_err(refused)?;
            desk.record(&marked, "delete", "marked for deletion");
            Ok(reply(202, &marked))
        })
        .await
    }

    pub(super) fn known(&self) -> Known {
        Known {
            memory: self.facts.memory(),
            pool_free: self.facts.pool_free(),
            processors: self.facts.processors(),
            huge_pages: None,
            accel: self.facts.accel(),
            firmware: FirmwareThere::ALL,
            boot_id: self.facts.boot_id().to_owned(),
            taken: Vec::new(),
            listeners: Vec::new(),
            cursors: self.cursors.clone(),
            engine_image: EngineImage::Unknown("it was not asked".to_owned()),
            bind_mounts: self.facts.bind_mounts(),
            imported: None,
        }
    }

    /// What is looked at only where somebody asks for it: here it may be in the object already.
    fn known_for_change(&self) -> Known {
        Known { huge_pages: self.facts.huge_pages(), firmware: self.facts.firmware(), ..self.known() }
    }

    /// What must be known for that body beyond what always is.
    pub(super) fn known_for(&self, body: &Value) -> Known {
        let spec = &body["spec"];
        if !spec["source"].is_null() {
            // What it does not say is as its source has it.
            return self.known_for_change();
        }
        let mut known = self.known();
        if spec["huge_pages"] == true {
            known.huge_pages = self.facts.huge_pages();
        }
        if !spec["firmware"].is_null() || spec["tpm"] == true {
            known.firmware = self.facts.firmware();
        }
        known
    }

    /// What the engine says of the image that a container's spec names.
    async fn engine_image(&self, spec: &Value) -> EngineImage {
        let Ok(image) = serde_json::from_value::<ImageRef>(spec["image"].clone()) else {
            return EngineImage::NotThere;
        };
        let asked = in_time(async { Ok(self.facts.engine_image(&image).await) }).await;
        asked.unwrap_or_else(EngineImage::Unknown)
    }

    async fn taken(&self) -> Result<Vec<agentd_api::Cidr>, Problem> {
        told("which networks this host has already", self.facts.taken()).await
    }
}

async fn in_time<T>(asked: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let late = |_| Err(format!("no answer in {} s", FACTS_DEADLINE.as_secs()));
    tokio::time::timeout(FACTS_DEADLINE, asked).await.unwrap_or_else(late)
}

/// What the host answers; a problem that names `what` was asked for where it does not.
pub(super) async fn told<T>(
    what: &str,
    asked: impl Future<Output = Result<T, String>>,
) -> Result<T, Problem> {
    let untold = |why| Problem::new(ErrorCode::BackendUnavailable, format!("{what} cannot be told: {why}"));
    in_time(asked).await.map_err(untold)
}

fn def(key: &ObjectKey) -> Result<&'static KindDef, Problem> {
    let none = || Problem::new(ErrorCode::NotFound, format!("there is no kind '{}'", key.kind));
    registry::by_kind(&key.kind).ok_or_else(none)
}

pub(super) fn expect(if_match: Option<u64>) -> Expect {
    if_match.map_or(Expect::Any, Expect::Revision)
}

/// Writes a new object down, with all that it needs.
pub(super) fn create(desk: &mut Desk<'_>, key: &ObjectKey, mut draft: Draft) -> Result<Arc<Stored>, Problem> {
    let admission = admission::of(&key.kind)?;
    // Asked first: a name that is taken is the better answer than whatever else is wrong.
    if let Some(there) = desk.tx.get(key) {
        let problem = refused(agentd_store::TxError::AlreadyExists { key: key.clone() });
        return Err(if there.deleting() {
            problem.hint(format!(
                "it is being deleted; `agentctl get {}/{}` shows how far that is",
                key.kind, key.name
            ))
        } else {
            problem
        });
    }
    draft.spec = (admission.resolve)(desk, key, None, &draft.spec, &draft.given)?;
    let status = (admission.create)(desk, key, &draft.spec)?;
    let new = NewObject {
        key: key.clone(),
        labels: draft.labels,
        annotations: draft.annotations,
        finalizers: admission.finalizers.iter().map(|&f| f.to_owned()).collect(),
        spec: draft.spec,
        status,
    };
    desk.tx.create(new).map_err(refused)
}

/// The object, at the revision that the caller expects.
pub(super) fn present(
    desk: &mut Desk<'_>,
    key: &ObjectKey,
    if_match: Option<u64>,
) -> Result<Arc<Stored>, Problem> {
    let is = desk.tx.get(key).ok_or_else(|| not_found(key))?;
    match if_match {
        Some(wanted) if wanted != is.revision() => Err(refused(agentd_store::TxError::RevisionMismatch {
            key: key.clone(),
            wanted,
            is: is.revision(),
        })),
        _ => Ok(is),
    }
}

/// As [`present`], and not on its way out.
pub(super) fn changeable(
    desk: &mut Desk<'_>,
    key: &ObjectKey,
    if_match: Option<u64>,
) -> Result<Arc<Stored>, Problem> {
    let is = present(desk, key, if_match)?;
    if is.deleting() {
        return Err(Problem::new(
            ErrorCode::Conflict,
            format!("{key} is being deleted and cannot be changed"),
        ));
    }
    Ok(is)
}

fn change(
    desk: &mut Desk<'_>,
    is: &Stored,
    mut draft: Draft,
    if_match: Option<u64>,
) -> Result<Reply, Problem> {
    let key = is.key().clone();
    if is.value().get("spec") != Some(&draft.spec) {
        let resolve = admission::of(&key.kind)?.resolve;
        draft.spec = resolve(desk, &key, Some(is), &draft.spec, &draft.given)?;
    }
    let new_spec = is.value().get("spec") != Some(&draft.spec);
    let status = if new_spec { (admission::of(&key.kind)?.change)(desk, is, &draft.spec)? } else { None };
    let update = Update {
        spec: Some(draft.spec),
        status,
        labels: Some(draft.labels),
        annotations: Some(draft.annotations),
        ..Update::default()
    };
    let now = desk.tx.update(&key, expect(if_match), update).map_err(refused)?;
    if now.revision() != is.revision() {
        let what = if new_spec { "its spec changed" } else { "its labels or annotations changed" };
        desk.record(&now, "changed", what);
    }
    Ok(reply(200, &now))
}
