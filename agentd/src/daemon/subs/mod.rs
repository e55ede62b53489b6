//! What stands behind subresources: the table from a kind's declaration to what opens it. One file an opener.

mod asked;
mod console;
mod container;
mod exec;
mod export;
mod files;
mod frames;
mod log;
mod logs;
mod refusal;
mod save;
mod screenshot;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod vnc;

use std::collections::BTreeMap;
use std::sync::Arc;

use agentd_api::{ErrorCode, Problem};
use agentd_drivers::Drivers;
use agentd_drivers::console::Watches;
use agentd_store::Store;
use async_trait::async_trait;

use crate::http::{SubCall, SubReply, Subresources};
use crate::intent::Intents;
use crate::reconcile::Held;

/// Opens one subresource of one kind.
#[async_trait]
pub trait Opener: Send + Sync {
    async fn open(&self, call: SubCall) -> Result<SubReply, Problem>;
}

type Table = BTreeMap<(&'static str, &'static str), Arc<dyn Opener>>;

/// Opens the subresources of all kinds.
pub struct Subs {
    table: Table,
}

impl Subs {
    pub fn new(
        store: &Store,
        drivers: &Drivers,
        watches: &Arc<Watches>,
        (intents, held): (&Intents, &Held),
    ) -> Self {
        let store_of = store;
        let (vm, store, watches) = (|| drivers.vm.clone(), || store.clone(), || watches.clone());
        let mut table = Table::new();
        let mut opens = |kind, sub, opener: Arc<dyn Opener>| table.insert((kind, sub), opener);
        opens("image", "save", Arc::new(save::Save { images: drivers.container_image.clone() }));
        opens("vm", "console", Arc::new(console::Console::new(store(), vm(), watches())));
        let vms = || asked::Guests::Vms(drivers.vm.clone());
        opens("vm", "exec", Arc::new(exec::Exec { guests: vms() }));
        opens("vm", "export", Arc::new(export::Export::new(store_of, drivers, intents, held)));
        opens("vm", "files", Arc::new(files::Files { guests: vms() }));
        opens("vm", "logs", Arc::new(logs::Logs { store: store(), watches: watches() }));
        opens("vm", "screenshot", Arc::new(screenshot::Screenshot { vm: vm() }));
        opens("vm", "vnc", Arc::new(vnc::Vnc::new(vm())));
        let containers = || asked::Guests::Containers(drivers.container.clone());
        let engine = || drivers.container.clone();
        opens("container", "exec", Arc::new(exec::Exec { guests: containers() }));
        opens("container", "files", Arc::new(files::Files { guests: containers() }));
        opens("container", "attach", Arc::new(container::Attach { containers: engine() }));
        opens("container", "logs", Arc::new(container::Logs { containers: engine() }));
        opens("container", "stats", Arc::new(container::Stats { containers: engine() }));
        opens("container", "top", Arc::new(container::Top { containers: engine() }));
        opens("container", "diff", Arc::new(container::Diff { containers: engine() }));
        opens("container", "commit", Arc::new(container::Commit { containers: engine() }));
        opens("container", "wait", Arc::new(container::Wait { store: store_of.clone() }));
        Self { table }
    }
}

#[async_trait]
impl Subresources for Subs {
    async fn open(&self, call: SubCall) -> Result<SubReply, Problem> {
        let opener = self.table.get(&(call.object.kind(), call.sub.name)).cloned();
        match opener {
            Some(opener) => opener.open(call).await,
            // A test asks for each that is declared: none ends here.
            None => {
                let detail = format!("a {} has no {}", call.object.kind(), call.sub.name);
                Err(Problem::new(ErrorCode::NotFound, detail))
            }
        }
    }
}
