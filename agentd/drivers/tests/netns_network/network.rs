//! The contract suite speaks of the traits beside it: here they are those of the library under test.

pub use agentd_drivers::network::*;

#[path = "../../src/network/contract.rs"]
pub mod contract;
