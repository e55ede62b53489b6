//! Takes an image's content as it comes, and writes down that it is here. The conversion is the reconciler's.

use std::sync::Arc;

use agentd_api::image::{Image, UploadSource};
use agentd_api::{ErrorCode, Object, ObjectKey, Problem};
use agentd_drivers::Classed;
use agentd_drivers::image::{ImageDriver, ImageError};
use agentd_store::{Expect, NewEvent, Store, Transact, TxError, Update};
use async_trait::async_trait;
use tokio_util::io::StreamReader;

use crate::http::{Content, Upload};
use crate::intent::{Caller, Reply};
use crate::reconcile::Trigger;

pub struct Uploads {
    pub store: Store,
    pub images: Arc<dyn ImageDriver>,
    pub trigger: Trigger,
}

#[async_trait]
impl Upload for Uploads {
    async fn receive(
        &self,
        caller: &Caller,
        key: &ObjectKey,
        length: Option<u64>,
        content: Content,
    ) -> Result<Reply, Problem> {
        let (image, source) = self.awaited(key)?;
        if let Some(length) = length
            && length != source.size
        {
            let detail =
                format!("{length} bytes are announced, but {key} was created for {} bytes", source.size);
            return Err(Problem::new(ErrorCode::Invalid, detail).at("Content-Length"));
        }
        let mut reader = StreamReader::new(content);
        let received =
            self.images.receive(image.meta.id, &source, &mut reader).await.map_err(|e| refused(&e))?;
        let reply = self.write_down(caller, key, &image, received).await?;
        self.trigger.wake(key.clone());
        Ok(reply)
    }
}

impl Uploads {
    /// The image, if it waits for content.
    fn awaited(&self, key: &ObjectKey) -> Result<(Object<Image>, UploadSource), Problem> {
        let none = || Problem::new(ErrorCode::NotFound, format!("there is no {key}"));
        let stored = self.store.get(key).filter(|s| s.kind() == "image").ok_or_else(none)?;
        let image: Object<Image> =
            stored.object().map_err(|e| Problem::new(ErrorCode::Internal, e.to_string()))?;
        let conflict =
            |why: &str| Err(Problem::new(ErrorCode::Conflict, format!("{key} takes no content: {why}")));
        let Some(source) = image.spec.source.upload() else {
            return conflict("nothing is uploaded for its source");
        };
        if image.meta.deleting() {
            return conflict("it is being deleted");
        }
        if image.status.digest.is_some() {
            return conflict("it has its content already");
        }
        Ok((image, source))
    }

    async fn write_down(
        &self,
        caller: &Caller,
        key: &ObjectKey,
        image: &Object<Image>,
        received: u64,
    ) -> Result<Reply, Problem> {
        let (key, id, caller) = (key.clone(), image.meta.id, caller.clone());
        let written = self.store.transact(move |tx| -> Result<Reply, TxError> {
            let is = tx.get(&key).ok_or_else(|| TxError::NotFound { key: key.clone() })?;
            let mut status = is.value().get("status").cloned().unwrap_or_default();
            status["received"] = received.into();
            let update = Update { status: Some(status), ..Update::default() };
            let now = tx.update(&key, Expect::Id(id), update)?;
            tx.record(NewEvent {
                kind: key.kind.clone(),
                project: key.project.to_string(),
                name: key.name.to_string(),
                id,
                actor: caller.principal.actor(),
                verb: "uploaded".to_owned(),
                message: format!("{received} bytes were received"),
                outcome: agentd_api::event::Outcome::Done,
                request_id: Some(caller.request_id.clone()),
            });
            Ok(Reply { status: 202, json: now.json(), revision: now.revision() })
        });
        written.await.map_err(|error| match error {
            Transact::Refused(gone) => {
                Problem::new(ErrorCode::Conflict, format!("while it was sent: {gone}"))
            }
            Transact::Failed(error) => Problem::new(ErrorCode::StoreUnavailable, error.to_string()),
        })
    }
}

fn refused(error: &ImageError) -> Problem {
    let detail = agentd_drivers::fault::chain(error);
    let code = match error {
        // The client sent less than it announced, or more: that is its to mend.
        ImageError::Incomplete { .. } => ErrorCode::Invalid,
        other => other.code(),
    };
    Problem::new(code, detail)
}
