//! The harness of the tests that look at agentd and agentctl as wholes.

pub mod door;
pub mod host;
pub mod machine;
pub mod remote;
pub mod sim;
