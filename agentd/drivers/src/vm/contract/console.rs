//! The serial console and the screen, for every driver.

use std::io::Write;

use uuid::Uuid;

use super::Bed;
use crate::vm::{Change, VmError};

pub(super) async fn consoles_and_screens(bed: &dyn Bed) {
    let (vm, nobody) = (bed.driver(), Uuid::now_v7());
    assert!(matches!(vm.console_terminal(nobody).await, Err(VmError::Missing(id)) if id == nobody));
    assert!(matches!(vm.screenshot(nobody).await, Err(VmError::Missing(id)) if id == nobody));

    let spec = bed.spec("console").await;
    vm.ensure_defined(&spec).await.expect("define");
    assert!(matches!(vm.console_terminal(spec.id).await, Err(VmError::Off(id)) if id == spec.id));
    assert!(matches!(vm.screenshot(spec.id).await, Err(VmError::Off(id)) if id == spec.id));

    vm.start(spec.id).await.expect("start");
    let terminal = vm.console_terminal(spec.id).await.expect("a terminal");
    assert_eq!(vm.console_terminal(spec.id).await.expect("the same terminal"), terminal);
    let opened = std::fs::OpenOptions::new().read(true).write(true).open(&terminal);
    opened.expect("it can be opened").write_all(b"\r").expect("and typed into");

    let time = std::time::Duration::from_secs(60);
    for answer in [
        vm.screenshot(spec.id).await.map(drop),
        vm.open_vnc(spec.id, "password", time).await.map(drop),
        vm.close_vnc(spec.id).await,
    ] {
        assert!(matches!(answer, Err(VmError::Unsupported(_))), "without graphics: {answer:?}");
    }
    assert_eq!(vm.destroy(spec.id).await.expect("destroy"), Change::Made);
    assert!(matches!(vm.console_terminal(spec.id).await, Err(VmError::Off(id)) if id == spec.id));
    super::gone(vm, spec.id).await;
}
