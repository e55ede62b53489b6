//! The store from outside: one conformance suite for all engines, a model, crashes, damage, full disks.

mod backup;
mod conformance;
mod crash;
mod damage;
mod disk;
mod failing;
mod fixture;
mod model;
mod opening;
mod schemas;
mod suite;
mod watching;
