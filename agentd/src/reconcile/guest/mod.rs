//! What VMs and containers have in common when they are made so, beside what all kinds have ([`super::runtime`]).

pub mod boot;
pub mod life;
mod locks;
pub mod needs;
pub mod survey;

pub use boot::BootQueue;
pub use locks::GuestLocks;
