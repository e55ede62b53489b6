//! VMs: the plan as a table, their life on fakes, what happens behind our back, and death at every step.

mod clones;
mod crash;
mod differences;
mod hotplug;
mod killer;
mod life;
mod plan;
mod policy;
mod snapshots;
mod standing;
