//! What it may do to itself and to the host.

use clap::Args;
use serde_json::{Map, Value, json};

use crate::noun::vm::put;

#[derive(Debug, Default, Args)]
pub struct SafetyArgs {
    /// Let it write nothing of what is of its image
    #[arg(long)]
    read_only: bool,
    /// A capability beyond the usual ones, as NET_ADMIN
    #[arg(long = "cap-add", value_name = "CAP")]
    cap_add: Vec<String>,
    /// A usual capability that it is not to have; ALL is all of them
    #[arg(long = "cap-drop", value_name = "CAP")]
    cap_drop: Vec<String>,
    /// Let its programs gain rights that they were not started with, as set-id programs do
    #[arg(long)]
    new_privileges: bool,
    /// Give it all capabilities and devices of the host: it is as good as root there
    #[arg(long)]
    privileged: bool,
    /// Put its users into a namespace of their own, where the engine can
    #[arg(long)]
    userns: bool,
}

impl SafetyArgs {
    pub fn fill(&self, spec: &mut Map<String, Value>) {
        put(spec, "read_only", self.read_only.then_some(true));
        for (field, list) in [("cap_add", &self.cap_add), ("cap_drop", &self.cap_drop)] {
            if !list.is_empty() {
                spec.insert(field.to_owned(), json!(list));
            }
        }
        put(spec, "new_privileges", self.new_privileges.then_some(true));
        put(spec, "privileged", self.privileged.then_some(true));
        put(spec, "userns", self.userns.then_some(true));
    }
}
