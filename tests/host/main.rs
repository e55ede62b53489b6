//! The real host: real guests through the real socket with the real agentctl, each test in a namespace of its own.

mod bare;
mod behind;
mod clone;
mod console;
mod container;
mod container_files;
mod container_many;
mod container_streams;
mod exec;
mod export;
mod firmware;
mod huge_pages;
mod image;
mod kill;
mod life;
mod live;
mod network;
mod policies;
mod pull;
mod refusals;
mod screen;
mod side_by_side;
mod snapshot;
mod stats;
mod template;
mod volume;
