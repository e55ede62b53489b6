//! Whole hosts, each a Debian in a VM of its own with an init, a journal and a kernel with all its modules. What is
//! asserted is what the host and its guests show.

mod kvm;
mod limits;
mod made;
mod service;
mod shaping;
#[path = "../host/template.rs"]
mod template;
mod volumes;
