//! What a caller is told of a driver's refusal.

use agentd_api::{ErrorCode, ObjectName, Problem};
use agentd_drivers::Classed;
use agentd_drivers::fault::chain;
use agentd_drivers::vm::VmError;

/// Of a guest's screen.
pub fn refused(error: &VmError, name: &ObjectName) -> Problem {
    match error {
        VmError::Off(_) | VmError::Missing(_) => Problem::new(ErrorCode::Conflict, "the guest does not run")
            .hint(format!("`agentctl vm start {name}` starts it")),
        VmError::Unsupported(why) => Problem::new(ErrorCode::Unsupported, why.clone()).hint(format!(
            "set spec.graphics to true (--graphics), then `agentctl vm stop {name}` and `agentctl vm start {name}`"
        )),
        other => Problem::new(other.code(), chain(other)),
    }
}
