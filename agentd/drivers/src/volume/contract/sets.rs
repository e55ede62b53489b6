//! What every volume driver must do with sets of disks.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;

use agentd_api::ByteSize;
use uuid::Uuid;

use super::{DiskSpec, VolumeDriver};
use crate::volume::sets::CopyDisk;

/// Notes a snapshot of that name in a disk, as the VM's driver does.
pub type Note<'a> = &'a (dyn Fn(PathBuf, Uuid) -> Pin<Box<dyn Future<Output = ()> + Send>> + Sync);

/// `backing` is an image's disk of 32 MiB.
pub async fn all(driver: &dyn VolumeDriver, backing: PathBuf, note: Note<'_>) {
    let (source, snapshot) = (Uuid::now_v7(), Uuid::now_v7());
    let disk = DiskSpec { vm: source, backing, size: Some(ByteSize::mib(40)) };
    driver.ensure_disk(&disk).await.expect("a disk");
    driver.ensure_further(source, 1, ByteSize::mib(20)).await.expect("another");
    let seen = driver.observe(source).await.expect("observed");
    for (_, path) in seen.numbered_disks() {
        note(path.to_owned(), snapshot).await;
    }

    // Begun it is there and not whole; begun again it is empty.
    let (set, other) = (Uuid::now_v7(), Uuid::now_v7());
    assert_eq!(driver.observe_set(set).await.expect("looked"), None);
    driver.finish_set(set).await.expect_err("it was not begun");
    driver.link_set(Uuid::now_v7(), set).await.expect_err("it is not there");
    for (set, upper) in [(set, true), (other, false)] {
        driver.begin_set(set).await.expect("begun");
        driver.begin_set(set).await.expect("begun anew");
        assert_eq!(driver.observe_set(set).await.expect("looked"), None);
        for (number, path) in seen.numbered_disks() {
            let copy = CopyDisk { set, number, disk: path.to_owned(), snapshot, upper };
            assert!(driver.copy_disk(&copy).await.expect("copied"));
        }
        driver.copy_variables(set, source, snapshot).await.expect("nothing was kept, which is none to copy");
        driver.finish_set(set).await.expect("finished");
        assert_eq!(driver.observe_set(set).await.expect("looked"), Some(vec![0, 1]));
    }
    let mut sets = [set, other];
    sets.sort_unstable();
    assert_eq!(driver.list_sets().await.expect("listed"), sets);

    // Two stand on one; a third takes the other over. Again is no change.
    let sizes = [(0, ByteSize::mib(40)), (1, ByteSize::mib(20))];
    let vms = [Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7()];
    for _ in 0..2 {
        driver.link_set(vms[0], set).await.expect("linked");
        driver.link_set(vms[1], set).await.expect("linked");
        driver.adopt_set(vms[2], other).await.expect("taken over");
    }
    assert_eq!(driver.observe_set(other).await.expect("looked"), None);
    assert_eq!(driver.list_sets().await.expect("listed"), [set]);
    for vm in vms {
        let seen = driver.observe(vm).await.expect("observed");
        let further = seen.further.iter().map(|disk| (disk.number, disk.size));
        let all: Vec<_> = seen.disk_size.map(|size| (0, size)).into_iter().chain(further).collect();
        assert_eq!(all, sizes);
        assert!(!seen.variables, "nobody had any");
    }

    driver.begin_set(other).await.expect("begun");
    for set in [set, other, set] {
        driver.remove_set(set).await.expect("removed");
    }
    assert_eq!(driver.list_sets().await.expect("listed"), Vec::<Uuid>::new());
    for vm in vms.into_iter().chain([source]) {
        driver.remove(vm).await.expect("removed");
    }
}
