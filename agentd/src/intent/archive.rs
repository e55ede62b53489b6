//! Archives of VMs: the snapshot that one is made of, and the VM that comes of one.
//!
//! What came in an archive is stored before its VM is written down, and belongs to that from then on. The same wish is
//! made as a dry run before, so that what is refused is refused before anything is taken in.

use agentd_api::snapshot::TakenFor;
use agentd_api::vm::{CloneMode, NicSpec, Vm, VmOrigin, VmSpec};
use agentd_api::{ErrorCode, Kind, ObjectKey, ObjectName, Problem};
use agentd_store::{Expect, Update};
use serde_json::Value;
use uuid::Uuid;

use super::admission::{Desk, Known, object, refused};
use super::commit::{Request, reply};
use super::vm::clone;
use super::{Caller, Intents, Reply, draft, flavor, write};
use crate::claims::ip_space;

/// What an archive brought.
#[derive(Debug, Clone)]
pub struct Imported {
    /// What the VM was called where it came from, and its id there.
    pub vm: ObjectName,
    pub vm_id: Uuid,
    /// Of the content that its disk stands on.
    pub digest: String,
    /// The set of its further disks.
    pub set: Option<Uuid>,
}

impl Imported {
    pub(super) fn origin(&self) -> VmOrigin {
        VmOrigin {
            vm: self.vm.clone(),
            vm_id: self.vm_id,
            snapshot: None,
            mode: CloneMode::Full,
            bases: Vec::new(),
            set: self.set,
            disks_made: false,
        }
    }
}

impl Intents {
    /// As [`create`](Self::create), of a VM that came in an archive. `draft` is what the archive says, `change` a merge
    /// patch over that.
    pub async fn import(
        &self,
        caller: &Caller,
        project: &ObjectName,
        (mut draft, change): (Value, Value),
        imported: Imported,
    ) -> Result<Reply, Problem> {
        draft::merge(&mut draft, &change);
        let (key, parsed) = draft::parse_new(Vm::DEF, project, &draft)?;
        let listeners = self.listeners(&key, &parsed.spec["publish"]).await?;
        let known = Known { imported: Some(imported), listeners, ..self.known_for(&draft) };
        let request = Request { verb: "import", key: &key, if_match: None, body: &draft };
        let wanted = key.clone();
        self.commit(caller, request, known, move |desk| {
            let made = write::create(desk, &wanted, parsed.clone())?;
            desk.record(&made, "created", "wanted, of an archive");
            Ok(reply(201, &made))
        })
        .await
    }

    /// Writes down a snapshot of that VM for an export; answers with the snapshot.
    pub async fn hold(&self, caller: &Caller, vm: &ObjectKey, export: Uuid) -> Result<Reply, Problem> {
        let request = Request { verb: "export", key: vm, if_match: None, body: &Value::Null };
        let wanted = vm.clone();
        self.commit(caller, request, self.known(), move |desk| {
            let of = clone::with_disks(desk, &wanted, None)?;
            let made = clone::taken_for(desk, &of, &of.meta.name.clone(), TakenFor::Export(export))?;
            desk.record(&made, "created", format!("wanted for an export of {wanted}"));
            Ok(reply(201, &made))
        })
        .await
    }

    /// Gives up a snapshot that was taken for an export.
    pub async fn let_go(&self, caller: &Caller, snapshot: &ObjectKey) -> Result<(), Problem> {
        let request = Request { verb: "exported", key: snapshot, if_match: None, body: &Value::Null };
        let wanted = snapshot.clone();
        let done = self.commit(caller, request, self.known(), move |desk| {
            let Some(is) = desk.tx.get(&wanted) else {
                return Err(super::admission::not_found(&wanted));
            };
            let marked = Update { deleting: Some(true), ..Update::default() };
            let marked = desk.tx.update(&wanted, Expect::Id(is.id()), marked).map_err(refused)?;
            Ok(reply(202, &marked))
        });
        match done.await {
            Err(problem) if problem.code != ErrorCode::NotFound => Err(problem),
            _ => Ok(()),
        }
    }
}

/// The spec that came in an archive: addresses of another host are kept where they are free here, and what it says of its
/// size is what its flavor said there.
pub(super) fn resolve(desk: &mut Desk<'_>, key: &ObjectKey, mut spec: VmSpec) -> Result<VmSpec, Problem> {
    if spec.source.is_some() {
        return Err(Problem::field("spec.source", "cannot be given: its disks are in the archive"));
    }
    if let Some(name) = &spec.flavor {
        flavor::check(desk, key, name)?;
    }
    for nic in &mut spec.networks {
        *nic = NicSpec { mac: None, ip: nic.ip.filter(|_| fits(desk, key, nic)), ..nic.clone() };
    }
    Ok(spec)
}

/// Whether the interface's address is one of the network's here, and nobody's.
fn fits(desk: &Desk<'_>, vm: &ObjectKey, nic: &NicSpec) -> bool {
    let Some(ip) = nic.ip else { return false };
    let key = ObjectKey::of::<agentd_api::network::Network>(vm.project.clone(), nic.network.clone());
    let Some(there) = desk.tx.get(&key) else { return false };
    let Ok(network) = object::<agentd_api::network::Network>(&there) else { return false };
    let cidr = network.spec.cidr;
    let edge = [cidr.gateway(), cidr.address(), cidr.broadcast()].contains(&ip);
    let free = desk.tx.owner_of(&ip_space(there.id()), &ip.to_string()).is_none();
    cidr.contains(ip) && !edge && free
}
