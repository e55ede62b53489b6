//! Whole commands: the real agentctl against agentd-sim, compared by what it prints, its exit status and what the daemon
//! then has. Each test has a daemon of its own.

mod archive;
mod backup;
mod change;
mod container;
mod doctor;
mod follow;
mod image;
mod keys;
mod life;
mod pipe;
mod refusals;
mod remote;
mod several;
mod shutdown;
mod stats;
mod status;
mod wait;
