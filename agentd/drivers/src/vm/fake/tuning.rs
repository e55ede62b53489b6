//! Limits and pinning of guests that do not run: kept, and given back as they were given.

use async_trait::async_trait;
use uuid::Uuid;

use super::FakeVm;
use crate::vm::{Tuning, Unmet, VmError, VmTuning};

#[async_trait]
impl VmTuning for FakeVm {
    async fn tune(&self, id: Uuid, tuning: &Tuning) -> Result<Vec<Unmet>, VmError> {
        let tuning = tuning.clone();
        self.call("tune", move |inner| {
            let shares = tuning.cpu_shares.is_some();
            let live = inner.domains.tune(id, tuning)?;
            let unmet = inner.controls.unmet_shares().filter(|_| live && shares);
            Ok(unmet.map(|why| Unmet { field: "cpu_shares", why, at_restart: false }).into_iter().collect())
        })
        .await
    }

    async fn tuning(&self, id: Uuid) -> Result<Option<Tuning>, VmError> {
        self.call("tuning", move |inner| Ok(inner.domains.tuning(id))).await
    }
}
