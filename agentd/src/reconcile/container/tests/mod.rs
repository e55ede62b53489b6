//! Containers on the fake engine: how they live, what is done behind our back, and what a daemon that dies leaves.

mod adopted;
mod crash;
mod life;
mod links;
mod plan;
