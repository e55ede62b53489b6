//! What every driver must do with the agent in a guest.

use uuid::Uuid;

use super::Bed;
use crate::fault::{Class, Classed};
use crate::vm::guest::{GuestDriver, GuestError};

/// On a guest whose agent answers: what `frozen` says is whether writing in it waits.
pub async fn of_an_agent(guest: &dyn GuestDriver, vm: Uuid) {
    assert_eq!(guest.thaw(vm).await.expect("thaw of what is not frozen"), 0);
    let frozen = guest.freeze(vm).await.expect("freeze");
    assert!(frozen.filesystems > 0, "{frozen:?}");
    let again = guest.freeze(vm).await.expect("freeze again");
    assert_eq!(again, frozen, "what is frozen stays so");
    assert_eq!(guest.thaw(vm).await.expect("thaw"), frozen.filesystems);
    assert_eq!(guest.thaw(vm).await.expect("thaw"), 0);
    guest.set_console_size(vm, 132, 43).await.expect("a size");
}

/// Of a domain that is not there, is off, or whose guest has no agent.
pub(super) async fn without_an_agent(bed: &dyn Bed) {
    let (vm, spec) = (bed.driver(), bed.spec("mute").await);
    let missing = Uuid::now_v7();
    assert!(matches!(vm.freeze(missing).await, Err(GuestError::Vm(_))), "there is no such domain");
    vm.ensure_defined(&spec).await.expect("define");
    for error in [
        vm.freeze(spec.id).await.expect_err("it is off"),
        vm.thaw(spec.id).await.expect_err("it is off"),
        vm.set_console_size(spec.id, 80, 24).await.expect_err("it is off"),
    ] {
        assert!(matches!(error, GuestError::NotRunning(_)), "{error:?}");
        assert_eq!(error.class(), Class::Conflict);
    }
    vm.start(spec.id).await.expect("start");
    for error in [
        vm.freeze(spec.id).await.expect_err("no agent"),
        vm.set_console_size(spec.id, 80, 24).await.expect_err("no agent"),
    ] {
        assert_eq!(error.class(), Class::Unsupported, "{error:?}");
    }
    vm.destroy(spec.id).await.expect("destroy");
    super::gone(vm, spec.id).await;
}
