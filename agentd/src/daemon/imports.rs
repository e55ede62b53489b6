//! Takes archives of VMs in: reads and checks one as it comes, stores what was in it, writes its VM down.
//!
//! ```text
//! manifest --> would the VM be taken? (dry run) --> files, each checked --> the archive's end --> store --> the VM
//! ```
//! Until the last step nothing of it is anybody's. An import that ends early, by whatever hand, removes what it had taken
//! in; one that ends with this process is swept by the next.

use std::sync::Arc;

use agentd_api::{ErrorCode, Problem};
use agentd_drivers::archive::{ArchiveDriver, ArchiveError, ArchiveReader, Manifest};
use agentd_drivers::volume::VolumeDriver;
use agentd_drivers::{Classed, Drivers, fault};
use async_trait::async_trait;
use serde_json::{Value, json};
use tokio_util::io::StreamReader;
use uuid::Uuid;

use crate::http::{Content, Import, ImportWish};
use crate::intent::{Caller, Imported, Intents, Reply};
use crate::reconcile::{Contents, Held};

#[derive(Clone)]
pub struct Imports {
    intents: Intents,
    archive: Arc<dyn ArchiveDriver>,
    volume: Arc<dyn VolumeDriver>,
    contents: Contents,
    held: Held,
}

impl Imports {
    pub fn new(intents: Intents, drivers: &Drivers, contents: Contents, held: Held) -> Self {
        let (archive, volume) = (drivers.archive.clone(), drivers.volume.clone());
        Self { intents, archive, volume, contents, held }
    }
}

#[async_trait]
impl Import for Imports {
    async fn import(&self, wish: ImportWish, content: Content) -> Result<Reply, Problem> {
        let id = Uuid::now_v7();
        let held = self.held.hold(id);
        // On a task of its own, which a caller that goes away does not end in the middle; what it sends ends then.
        let (imports, mut reader) = (self.clone(), StreamReader::new(content));
        let task = tokio::spawn(async move {
            let done = imports.take(id, &wish, &mut reader).await;
            imports.tidy(id, done.is_err() || wish.caller.dry_run).await;
            drop(held);
            done
        });
        task.await.unwrap_or_else(|error| Err(Problem::new(ErrorCode::Internal, error.to_string())))
    }
}

impl Imports {
    async fn take(
        &self,
        id: Uuid,
        wish: &ImportWish,
        from: &mut (dyn tokio::io::AsyncRead + Send + Unpin),
    ) -> Result<Reply, Problem> {
        let refused = |error: ArchiveError| refused(&error);
        let mut reader = ArchiveReader::new(from);
        let manifest = reader.manifest().await.map_err(refused)?;
        let would = self.write_down(true, wish, &manifest, (String::new(), None)).await?;
        self.archive.receive(id, &manifest, reader).await.map_err(refused)?;
        if wish.caller.dry_run {
            return Ok(Reply { status: 200, ..would });
        }
        // What is stored is nobody's until the VM is written down.
        let _none_is_removed_now = self.contents.gate().await;
        let stored = self.archive.store(id, &manifest).await.map_err(refused)?;
        let set = stored.further.then_some(id);
        self.write_down(false, wish, &manifest, (stored.digest, set)).await
    }

    async fn write_down(
        &self,
        dry_run: bool,
        wish: &ImportWish,
        manifest: &Manifest,
        (digest, set): (String, Option<Uuid>),
    ) -> Result<Reply, Problem> {
        let caller = Caller { dry_run, ..wish.caller.clone() };
        let imported = Imported { vm: manifest.name.clone(), vm_id: manifest.id, digest, set };
        let draft = (draft(manifest), wish.change.clone());
        self.intents.import(&caller, &wish.project, draft, imported).await
    }

    /// Of one that failed nothing stays; of one that became a VM its scratch space goes.
    async fn tidy(&self, id: Uuid, failed: bool) {
        if let Err(error) = self.archive.discard(id).await {
            tracing::warn!(%id, "what an import left is swept later: {error}");
        }
        if failed && let Err(error) = self.volume.remove_set(id).await {
            tracing::warn!(%id, "what an import left is swept later: {error}");
        }
    }
}

fn draft(manifest: &Manifest) -> Value {
    json!({"name": manifest.name, "labels": manifest.labels, "spec": manifest.spec})
}

fn refused(error: &ArchiveError) -> Problem {
    let problem = Problem::new(error.code(), fault::chain(error));
    match error {
        ArchiveError::Refused(_) => {
            problem.hint("nothing was made of it; export the VM again, or copy the file again")
        }
        _ => problem,
    }
}
