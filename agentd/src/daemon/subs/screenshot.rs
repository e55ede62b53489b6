//! `vms/{name}/screenshot`: a picture of the guest's screen.

use std::sync::Arc;

use agentd_api::{ErrorCode, Problem};
use agentd_drivers::vm::VmDriver;
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;

use super::Opener;
use super::refusal::refused;
use crate::http::{SubCall, SubReply};

pub struct Screenshot {
    pub vm: Arc<dyn VmDriver>,
}

#[async_trait]
impl Opener for Screenshot {
    async fn open(&self, call: SubCall) -> Result<SubReply, Problem> {
        let picture =
            self.vm.screenshot(call.object.id()).await.map_err(|e| refused(&e, call.object.name()))?;
        let internal = |text: String| Problem::new(ErrorCode::Internal, text);
        let png =
            tokio::task::spawn_blocking(|| picture.into_png()).await.map_err(|e| internal(e.to_string()))?;
        let png = png.map_err(|e| internal(e.to_string()))?;
        Ok(SubReply::Content(futures_util::stream::iter([Ok(Bytes::from(png))]).boxed()))
    }
}
