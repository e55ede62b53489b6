//! Limits and pinning.

use agentd_api::ByteSize;
use agentd_api::vm::DiskLimits;
use uuid::Uuid;

use super::{Bed, gone};
use crate::vm::{Change, Tuning, VmError};

pub(super) async fn limits_are_given_at_the_start_and_while_it_runs(bed: &dyn Bed) {
    let (vm, mut spec) = (bed.driver(), bed.spec("tuned").await);
    let id = spec.id;
    let nobody = Uuid::now_v7();
    let answer = vm.tune(nobody, &Tuning::default()).await;
    assert!(matches!(answer, Err(VmError::Missing(missing)) if missing == nobody), "{answer:?}");
    assert_eq!(vm.tuning(nobody).await.expect("tuning"), None);

    vm.ensure_defined(&spec).await.expect("define");
    let read = |mib: u64| DiskLimits { read: Some(ByteSize::mib(mib)), ..DiskLimits::default() };
    let wide = DiskLimits { write: Some(ByteSize::mib(9)), read_iops: Some(700), ..read(5) };
    spec.tuning = Tuning { disk: wide, pinning: vec!["0".parse().expect("a set")], ..Tuning::default() };
    assert_eq!(vm.ensure_defined(&spec).await.expect("define with limits"), Change::Made);
    assert_eq!(vm.ensure_defined(&spec).await.expect("define again"), Change::AlreadySo);
    assert_eq!(vm.tune(id, &Tuning::default()).await.expect("tune what is off"), Vec::new());
    assert_eq!(vm.tuning(id).await.expect("tuning"), None, "it is off");

    vm.start(id).await.expect("start");
    assert_eq!(vm.tuning(id).await.expect("tuning"), Some(spec.tuning.clone()));
    let other = Tuning { disk: read(7), ..spec.tuning.clone() };
    assert_eq!(vm.tune(id, &other).await.expect("tune"), Vec::new());
    assert_eq!(vm.tune(id, &other).await.expect("tune again"), Vec::new());
    assert_eq!(vm.tuning(id).await.expect("tuning"), Some(other));
    let free = Tuning { disk: DiskLimits::default(), ..spec.tuning.clone() };
    assert_eq!(vm.tune(id, &free).await.expect("take the limits off"), Vec::new());
    assert_eq!(vm.tuning(id).await.expect("tuning"), Some(free));
    vm.destroy(id).await.expect("destroy");
    gone(vm, id).await;
}
