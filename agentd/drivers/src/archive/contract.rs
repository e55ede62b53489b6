//! What every driver of archives must do: what was packed comes back whole, and nothing but that is taken.

use std::io::Cursor;
use std::path::PathBuf;

use agentd_api::{ByteSize, ObjectName, Timestamp};
use futures_util::StreamExt;
use serde_json::json;
use uuid::Uuid;

use super::format::BLOCK;
use super::{ArchiveDriver, ArchiveError, ArchiveReader, FORMAT, Manifest, Pack, Stored, VERSION};
use crate::vm::DirectBoot;
use crate::volume::VolumeDriver;

/// A VM whose disks have the snapshot, and what it boots by.
pub struct Packed {
    pub vm: Uuid,
    pub snapshot: Uuid,
    pub boot: Option<DirectBoot>,
}

fn manifest() -> Manifest {
    Manifest {
        format: FORMAT.to_owned(),
        version: VERSION,
        exported_at: Timestamp(0),
        agentd: "0.0.0".to_owned(),
        name: ObjectName::parse("web").expect("a name"),
        id: Uuid::nil(),
        spec: serde_json::from_value(json!({"image": "micro"})).expect("a spec"),
        labels: serde_json::from_value(json!({"tier": "web"})).expect("labels"),
        source_format: "built".to_owned(),
        cmdline: None,
        files: Vec::new(),
    }
}

async fn archive(driver: &dyn ArchiveDriver, volumes: &dyn VolumeDriver, of: &Packed) -> Vec<u8> {
    let export = Uuid::now_v7();
    let seen = volumes.observe(of.vm).await.expect("observed");
    let disks: Vec<(usize, PathBuf)> = seen.numbered_disks().map(|(n, path)| (n, path.to_owned())).collect();
    let (vm, snapshot, boot) = (of.vm, of.snapshot, of.boot.clone());
    let pack = Pack { export, vm, disks, snapshot, boot, manifest: manifest() };
    let mut pieces = driver.pack(&pack).await.expect("packed");
    let mut bytes = Vec::new();
    while let Some(piece) = pieces.next().await {
        bytes.extend(piece.expect("a piece"));
    }
    driver.discard(export).await.expect("discarded");
    bytes
}

/// Takes an archive in as far as it goes, and removes what is left of it.
pub async fn take(
    driver: &dyn ArchiveDriver,
    bytes: &[u8],
) -> Result<(Uuid, Manifest, Stored), ArchiveError> {
    let import = Uuid::now_v7();
    let mut from = Cursor::new(bytes);
    let taken = async {
        let mut reader = ArchiveReader::new(&mut from);
        let manifest = reader.manifest().await?;
        driver.receive(import, &manifest, reader).await?;
        let stored = driver.store(import, &manifest).await?;
        Ok((import, manifest, stored))
    };
    let taken = taken.await;
    driver.discard(import).await.expect("discarded");
    taken
}

/// `of` has a disk of 40 MiB and a further one of 20 MiB.
pub async fn all(driver: &dyn ArchiveDriver, volumes: &dyn VolumeDriver, of: &Packed) {
    let whole = archive(driver, volumes, of).await;
    let (import, manifest, stored) = take(driver, &whole).await.expect("taken");
    let sizes: Vec<_> = manifest.files.iter().filter_map(|file| file.virtual_size).collect();
    assert_eq!(sizes, [ByteSize::mib(40), ByteSize::mib(20)]);
    assert_eq!(manifest.cmdline, of.boot.as_ref().map(|boot| boot.cmdline.clone()));
    assert!(stored.further && stored.digest.starts_with("sha256:"), "{stored:?}");
    assert_eq!(volumes.observe_set(import).await.expect("looked"), Some(vec![1]));
    volumes.remove_set(import).await.expect("removed");
    // The same again is the same content.
    let (again, _, twice) = take(driver, &whole).await.expect("taken again");
    assert_eq!(twice, stored);
    volumes.remove_set(again).await.expect("removed");
    altered(driver, &whole).await;
    assert_eq!(
        volumes.list_sets().await.expect("listed"),
        Vec::<Uuid>::new(),
        "what was refused left nothing"
    );
}

/// No byte may be missing, and none may differ.
async fn altered(driver: &dyn ArchiveDriver, whole: &[u8]) {
    let length = whole.len();
    let starts: Vec<usize> = (0..length / BLOCK)
        .filter(|block| whole[block * BLOCK + 257..].starts_with(b"ustar"))
        .map(|block| block * BLOCK)
        .collect();
    let mut places: Vec<usize> =
        starts.iter().flat_map(|at| [at + 3, at + 130, at + 300, at + 700]).collect();
    places.extend([length / 2, length - 1, length - 1025]);
    for at in places.into_iter().filter(|at| *at < length) {
        let mut bytes = whole.to_vec();
        bytes[at] ^= 0x10;
        let error = take(driver, &bytes).await.expect_err("one byte is another");
        assert!(matches!(error, ArchiveError::Refused(_)), "byte {at}: {error}");
    }
    let cuts = starts.iter().flat_map(|at| [*at, at + 100, at + 600]).chain([length - 1, length / 3]);
    for at in cuts.filter(|at| *at < length) {
        let error = take(driver, &whole[..at]).await.expect_err("it is cut short").to_string();
        assert!(error.contains("ends after") || error.contains("no archive"), "cut at {at}: {error}");
    }
    let mut longer = whole.to_vec();
    longer.push(0);
    take(driver, &longer).await.expect_err("something follows");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Instance;
    use crate::archive::fake::FakeArchive;
    use crate::archive::host::HostArchive;
    use crate::exec::Program;
    use crate::image::host::{HostImage, ImageOptions};
    use crate::volume::DiskSpec;
    use crate::volume::contract::{fake_image, host_image};
    use crate::volume::fake::FakeVolume;
    use crate::volume::host::HostVolume;

    async fn furnish(volumes: &dyn VolumeDriver, backing: PathBuf) -> Packed {
        let (vm, snapshot) = (Uuid::now_v7(), Uuid::now_v7());
        let disk = DiskSpec { vm, backing, size: Some(ByteSize::mib(40)) };
        volumes.ensure_disk(&disk).await.expect("a disk");
        volumes.ensure_further(vm, 1, ByteSize::mib(20)).await.expect("another");
        Packed { vm, snapshot, boot: None }
    }

    #[tokio::test]
    async fn the_host() {
        let (state, backing) = host_image().await;
        let instance = Instance::new(state.path());
        let images = HostImage::new(instance.clone(), ImageOptions::default());
        let volumes = HostVolume::new(instance.clone(), None);
        let driver = HostArchive::new(instance, images, volumes.clone());
        let mut of = furnish(&*volumes, backing).await;
        let (kernel, initrd) = (state.path().join("vmlinuz"), state.path().join("initrd"));
        for file in [&kernel, &initrd] {
            std::fs::write(file, "x".repeat(100_000)).expect("a file");
        }
        of.boot = Some(DirectBoot { kernel, initrd, cmdline: "console=ttyS0".to_owned() });
        let seen = volumes.observe(of.vm).await.expect("observed");
        for (_, disk) in seen.numbered_disks() {
            let write = Program::new("qemu-io").args(["-f", "qcow2", "-c", "write -P 7 1M 2M"]).arg(disk);
            write.run().await.expect("qemu-io of the package qemu-utils");
            let take = Program::new("qemu-img").args(["snapshot", "-q", "-c"]);
            take.arg(of.snapshot.to_string()).arg(disk).run().await.expect("a snapshot");
        }
        all(&*driver, &*volumes, &of).await;
        let scratch = std::fs::read_dir(state.path().join("incoming")).expect("a folder");
        assert_eq!(scratch.count(), 0, "nothing is left in it");
    }

    #[tokio::test]
    async fn the_fake() {
        let instance = Instance::new(std::path::Path::new("/nowhere"));
        let (images, backing) = fake_image(&instance).await;
        let volumes = FakeVolume::new(instance, images.clone());
        let driver = FakeArchive::new(images, volumes.clone());
        let of = furnish(&*volumes, backing).await;
        all(&*driver, &*volumes, &of).await;
        assert!(driver.scratch().is_empty());
    }
}
