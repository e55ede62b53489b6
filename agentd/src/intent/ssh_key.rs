//! Admission of ssh keys.

use agentd_api::ssh_key::{SshKey, SshKeySpec, SshKeyStatus};
use agentd_api::{Object, ObjectKey, Problem};

use super::admission::{Admission, Desk};
use super::guest::refuse_used;

impl Admission for SshKey {
    const FINALIZERS: &'static [&'static str] = &[];

    fn create(_: &mut Desk<'_>, _: &ObjectKey, _: &SshKeySpec) -> Result<SshKeyStatus, Problem> {
        Ok(SshKeyStatus::default())
    }
    fn change(_: &mut Desk<'_>, _: &Object<Self>, _: &SshKeySpec) -> Result<Option<SshKeyStatus>, Problem> {
        Ok(None)
    }
    fn delete(desk: &mut Desk<'_>, key: &ObjectKey) -> Result<(), Problem> {
        refuse_used(desk, key, "ssh_key")
    }
}
