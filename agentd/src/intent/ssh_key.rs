//! Admission of ssh keys.

use agentd_api::ssh_key::{SshKey, SshKeySpec, SshKeyStatus};
use agentd_api::{ErrorCode, Object, ObjectKey, Problem};
use agentd_store::Query;

use super::admission::{Admission, Desk, name_them};

impl Admission for SshKey {
    const FINALIZERS: &'static [&'static str] = &[];

    fn create(_: &mut Desk<'_>, _: &ObjectKey, _: &SshKeySpec) -> Result<SshKeyStatus, Problem> {
        Ok(SshKeyStatus::default())
    }
    fn change(_: &mut Desk<'_>, _: &Object<Self>, _: &SshKeySpec) -> Result<Option<SshKeyStatus>, Problem> {
        Ok(None)
    }
    fn delete(desk: &mut Desk<'_>, key: &ObjectKey) -> Result<(), Problem> {
        used_by_vms(desk, key, "ssh_key")
    }
}

/// Refuses where VMs of the same project name this object in that field.
pub(super) fn used_by_vms(desk: &mut Desk<'_>, key: &ObjectKey, field: &str) -> Result<(), Problem> {
    let users = desk.tx.list(&Query {
        project: Some(key.project.clone()),
        fields: vec![(field.to_owned(), true, key.name.to_string())],
        ..Query::kind("vm")
    });
    if users.is_empty() {
        return Ok(());
    }
    Err(Problem::new(ErrorCode::InUse, format!("{key} is in use by {}", name_them(&users)))
        .hint("delete or change what uses it first"))
}
