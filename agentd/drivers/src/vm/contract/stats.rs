//! Figures: of what runs and of nothing else, and they grow.

use super::{Bed, until};
use crate::vm::Power;
use crate::vm::stats::DomainStats;
use uuid::Uuid;

use super::POWER_OFF_LIMIT;

pub(super) async fn figures_are_of_what_runs(bed: &dyn Bed) {
    let (vm, spec) = (bed.driver(), bed.spec("figures").await);
    let id = spec.id;
    vm.ensure_defined(&spec).await.expect("define");
    assert_eq!(of(bed, id).await, None, "a guest that is off has no figures");
    vm.start(id).await.expect("start");
    bed.booted(&spec, 1).await;
    let first = of(bed, id).await.expect("figures of what runs");
    assert_eq!(first.cpu.count, spec.cpus);
    assert_eq!(first.memory.given_bytes, spec.memory.bytes());
    assert!(first.memory.limit_bytes >= spec.memory.bytes(), "{first:?}");
    assert!(first.memory.resident_bytes.is_some_and(|rss| rss > 0), "{first:?}");
    assert_eq!(first.disks.first().map(|disk| disk.device.as_str()), Some("vda"), "{first:?}");
    let second = of(bed, id).await.expect("figures again");
    assert!(second.cpu.nanoseconds > first.cpu.nanoseconds, "{first:?} then {second:?}");
    vm.destroy(id).await.expect("destroy");
    until(vm, id, POWER_OFF_LIMIT, |seen| seen.power == Power::Off).await;
    assert_eq!(of(bed, id).await, None);
    super::gone(vm, id).await;
}

async fn of(bed: &dyn Bed, id: Uuid) -> Option<DomainStats> {
    let all = bed.driver().stats().await.expect("figures");
    all.into_iter().find(|stats| stats.id == id)
}
