//! What VMs and containers have in common when they are made so, beside what all kinds have ([`super::runtime`]).

pub mod boot;
mod locks;
pub mod needs;

pub use boot::BootQueue;
pub use locks::GuestLocks;
