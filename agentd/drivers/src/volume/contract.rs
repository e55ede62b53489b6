//! What every volume driver must do, run against the fake and the real one.

pub mod sets;

use agentd_api::{ByteSize, ObjectName};
use uuid::Uuid;

use super::{DiskSpec, Seed, Variables, VolumeDriver, VolumeError, VolumeSeen};

/// `backing` is an image's disk of 32 MiB that the driver can make disks on.
pub async fn all(driver: &dyn VolumeDriver, backing: std::path::PathBuf) {
    let vm = Uuid::now_v7();
    let mut spec = DiskSpec { vm, backing, size: None };

    // Nothing is there, and removing it is done already.
    assert_eq!(driver.observe(vm).await.expect("observed"), VolumeSeen::default());
    driver.remove(vm).await.expect("nothing to remove");
    assert_eq!(driver.list().await.expect("listed"), Vec::<Uuid>::new());

    // A disk is as large as its image, and the second call is no call.
    let disk = driver.ensure_disk(&spec).await.expect("made");
    assert_eq!(driver.ensure_disk(&spec).await.expect("again"), disk);
    let seen = driver.observe(vm).await.expect("observed");
    assert_eq!((seen.disk, seen.disk_size), (Some(disk), Some(ByteSize::mib(32))));

    // It grows and never shrinks.
    spec.size = Some(ByteSize::mib(48));
    driver.ensure_disk(&spec).await.expect("grown");
    spec.size = Some(ByteSize::mib(40));
    driver.ensure_disk(&spec).await.expect("left as it is");
    assert_eq!(driver.observe(vm).await.expect("observed").disk_size, Some(ByteSize::mib(48)));

    // A seed can be written twice and changed.
    let hostname = ObjectName::parse("web").expect("a name");
    let mut seed = Seed {
        vm,
        hostname,
        domain: None,
        ssh_keys: vec![],
        user_data: None,
        network_config: None,
        nics: vec![],
        machine_id: None,
        guest_program: false,
    };
    let path = driver.ensure_seed(&seed).await.expect("written");
    seed.user_data = Some("#cloud-config\n{}\n".to_owned());
    assert_eq!(driver.ensure_seed(&seed).await.expect("written again"), path);
    assert_eq!(driver.observe(vm).await.expect("observed").seed, Some(path));

    // A UEFI's variables are of the VM, whatever they are made of.
    let template = spec.backing.clone();
    let plain = driver.ensure_variables(vm, &Variables { template: template.clone(), secure: false }).await;
    let secure = Variables { template, secure: true };
    let secured = driver.ensure_variables(vm, &secure).await.expect("made");
    assert_ne!(plain.expect("made"), secured);
    assert_eq!(driver.ensure_variables(vm, &secure).await.expect("again"), secured);

    further(driver, vm).await;
    refusals(driver, &spec).await;

    // A console alone is a folder too, and removing removes all.
    let other = Uuid::now_v7();
    driver.console_log(other).await.expect("a path");
    let mut listed = driver.list().await.expect("listed");
    listed.sort_unstable();
    assert_eq!(listed, [vm, other]);
    for id in [vm, other, vm] {
        driver.remove(id).await.expect("removed");
    }
    assert_eq!(driver.list().await.expect("listed"), Vec::<Uuid>::new());
    assert_eq!(driver.observe(vm).await.expect("observed"), VolumeSeen::default());
}

/// Further disks come by their numbers, grow and never shrink, and are the VM's own as its disk is.
async fn further(driver: &dyn VolumeDriver, vm: Uuid) {
    let second = driver.ensure_further(vm, 2, ByteSize::mib(16)).await.expect("made");
    let first = driver.ensure_further(vm, 1, ByteSize::mib(20)).await.expect("made");
    assert_ne!(first, second);
    assert_eq!(driver.ensure_further(vm, 2, ByteSize::mib(24)).await.expect("grown"), second);
    assert_eq!(driver.ensure_further(vm, 1, ByteSize::mib(16)).await.expect("left"), first);
    let seen = driver.observe(vm).await.expect("observed");
    let sizes: Vec<_> = seen.further.iter().map(|disk| (disk.number, disk.size)).collect();
    assert_eq!(sizes, [(1, ByteSize::mib(20)), (2, ByteSize::mib(24))]);
    let disk = seen.disk.clone().expect("a disk");
    assert_eq!(seen.own_disks().collect::<Vec<_>>(), [&disk, &first, &second]);
}

/// A disk that cannot be is refused, and none is left that stands for it.
async fn refusals(driver: &dyn VolumeDriver, good: &DiskSpec) {
    let vm = Uuid::now_v7();
    let small = DiskSpec { vm, size: Some(ByteSize::mib(16)), ..good.clone() };
    let error = driver.ensure_disk(&small).await.expect_err("smaller than its image");
    assert!(matches!(&error, VolumeError::Refused(why) if why.contains("32MiB")), "{error:?}");
    let lost = DiskSpec { vm, backing: "/nowhere/disk.qcow2".into(), size: Some(ByteSize::mib(64)) };
    let error = driver.ensure_disk(&lost).await.expect_err("an image that is not there");
    assert!(
        matches!(&error, VolumeError::Failed { detail, .. } if detail.contains("not there")),
        "{error:?}"
    );
    assert_eq!(driver.observe(vm).await.expect("observed").disk, None);
    driver.remove(vm).await.expect("removed");
}

/// A state directory and, in it, a qcow2 of 32 MiB that stands for an image's disk.
#[cfg(test)]
pub(crate) async fn host_image() -> (tempfile::TempDir, std::path::PathBuf) {
    let state = tempfile::tempdir().expect("a folder");
    let disk = state.path().join("image.qcow2");
    let program = crate::exec::Program::new("qemu-img").args(["create", "-q", "-f", "qcow2"]);
    program.arg(&disk).arg("32M").run().await.expect("qemu-img of the package qemu-utils");
    (state, disk)
}

/// A fake's image of 32 MiB, and its disk.
#[cfg(test)]
pub(crate) async fn fake_image(
    instance: &crate::Instance,
) -> (std::sync::Arc<crate::image::fake::FakeImage>, std::path::PathBuf) {
    use crate::image::ImageDriver;
    let images = crate::image::fake::FakeImage::new(instance.clone());
    let image = Uuid::now_v7();
    let mut file = vec![0u8; 32 << 20];
    file[510..512].copy_from_slice(b"\x55\xaa");
    let source = agentd_api::image::UploadSource { size: file.len() as u64, sha256: None };
    images.receive(image, &source, &mut &file[..]).await.expect("received");
    let work = crate::image::Work::detached(image);
    let disk = images.import(&source, &work).await.expect("imported").disk;
    (images, disk)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Instance;
    use crate::volume::fake::FakeVolume;
    use crate::volume::host::HostVolume;

    #[tokio::test]
    async fn the_host() {
        let (state, disk) = host_image().await;
        let driver = HostVolume::new(Instance::new(state.path()), None);
        all(&*driver, disk.clone()).await;
        sets::all(&*driver, disk, &|disk, id| {
            Box::pin(async move {
                let program = crate::exec::Program::new("qemu-img").args(["snapshot", "-q", "-c"]);
                program.arg(id.to_string()).arg(disk).run().await.expect("a snapshot");
            })
        })
        .await;
    }

    #[tokio::test]
    async fn the_fake() {
        let instance = Instance::new(std::path::Path::new("/nowhere"));
        let (images, disk) = fake_image(&instance).await;
        let driver = FakeVolume::new(instance, images);
        all(&*driver, disk.clone()).await;
        sets::all(&*driver, disk, &|_, _| Box::pin(async {})).await;
    }
}
