//! What every pool must do, run against the fake and the real ones.

use agentd_api::ByteSize;
use agentd_api::volume::VolumeMode;
use uuid::Uuid;

use super::{Content, PoolDriver, PoolVolume};
use crate::vm::DiskFormat;
use crate::volume::VolumeError;

/// `image` is an image's disk of 32 MiB that the pool can copy.
pub async fn all(pool: &dyn PoolDriver, image: std::path::PathBuf) {
    assert_eq!(pool.list().await.expect("listed"), Vec::<Uuid>::new());
    assert!(pool.free().await.expect("told") > ByteSize::mib(1));
    for format in [DiskFormat::Qcow2, DiskFormat::Raw] {
        life(pool, format, Content::Empty).await;
        life(pool, format, Content::Image(image.clone())).await;
    }
    file_systems(pool).await;
    let id = Uuid::now_v7();
    let small =
        PoolVolume { id, size: ByteSize::mib(16), format: DiskFormat::Raw, content: Content::Image(image) };
    let error = pool.ensure(&small).await.expect_err("smaller than its image");
    assert!(matches!(&error, VolumeError::Refused(why) if why.contains("32MiB")), "{error:?}");
    assert_eq!(pool.observe(id).await.expect("observed"), None, "nothing stands for it");
    pool.remove(id).await.expect("removed");
    assert_eq!(pool.list().await.expect("listed"), Vec::<Uuid>::new());
}

async fn life(pool: &dyn PoolDriver, format: DiskFormat, content: Content) {
    let id = Uuid::now_v7();
    let mut volume = PoolVolume { id, size: ByteSize::mib(40), format, content };
    assert_eq!(pool.observe(id).await.expect("observed"), None);
    pool.remove(id).await.expect("nothing to remove");
    assert!(matches!(pool.grow(id, volume.size).await, Err(VolumeError::Failed { .. })));

    let made = pool.ensure(&volume).await.expect("made");
    assert_eq!((made.format, made.size, made.mode), (format, volume.size, VolumeMode::Block));
    assert_eq!(pool.observe(id).await.expect("observed"), Some(made.clone()));
    // Again is no call, whatever is asked for.
    volume.size = ByteSize::mib(64);
    assert_eq!(pool.ensure(&volume).await.expect("again"), made);

    pool.grow(id, ByteSize::mib(48)).await.expect("grown");
    pool.grow(id, ByteSize::mib(44)).await.expect("never shrinks");
    let grown = pool.observe(id).await.expect("observed").expect("there");
    assert_eq!((grown.size, grown.source), (ByteSize::mib(48), made.source));
    assert_eq!(pool.list().await.expect("listed"), [id]);
    pool.remove(id).await.expect("removed");
    pool.remove(id).await.expect("removed again");
    assert_eq!(pool.observe(id).await.expect("observed"), None);
}

/// What of them needs no device.
async fn file_systems(pool: &dyn PoolDriver) {
    let id = Uuid::now_v7();
    let (size, content) = (ByteSize::mib(16), Content::FileSystem);
    let mut volume = PoolVolume { id, size, format: DiskFormat::Qcow2, content };
    assert!(matches!(pool.ensure(&volume).await, Err(VolumeError::Refused(_))));
    assert!(matches!(pool.attach(id).await, Err(VolumeError::Failed { .. })), "there is none");
    volume.format = DiskFormat::Raw;
    let made = pool.ensure(&volume).await.expect("made");
    assert_eq!((made.mode, made.size), (VolumeMode::Filesystem, size));
    assert_eq!(pool.ensure(&volume).await.expect("again"), made);
    assert_eq!(pool.observe(id).await.expect("observed"), Some(made));
    assert_eq!(pool.list().await.expect("listed"), [id]);
    pool.detach(id).await.expect("there is none");
    assert_eq!(pool.attached().await.expect("listed"), Vec::<Uuid>::new());
    pool.remove(id).await.expect("removed");
}

/// What needs block devices of the host: as it is attached, grown with and without a device, and taken away.
pub async fn devices(pool: &dyn PoolDriver) {
    let id = Uuid::now_v7();
    let (size, content) = (ByteSize::mib(16), Content::FileSystem);
    pool.ensure(&PoolVolume { id, size, format: DiskFormat::Raw, content }).await.expect("made");
    let device = pool.attach(id).await.expect("attached");
    assert_eq!(pool.attach(id).await.expect("attached again"), device);
    assert_eq!(pool.attached().await.expect("listed"), [id]);
    pool.grow(id, ByteSize::mib(48)).await.expect("grown");
    assert_eq!(pool.observe(id).await.expect("observed").expect("there").size, ByteSize::mib(48));
    assert_eq!(pool.attached().await.expect("listed"), [id], "it keeps its device");
    pool.detach(id).await.expect("detached");
    pool.detach(id).await.expect("detached again");
    assert_eq!(pool.attached().await.expect("listed"), Vec::<Uuid>::new());
    pool.grow(id, ByteSize::mib(64)).await.expect("grown without one");
    pool.grow(id, ByteSize::mib(32)).await.expect("never shrinks");
    assert_eq!(pool.observe(id).await.expect("observed").expect("there").size, ByteSize::mib(64));
    assert_eq!(pool.attached().await.expect("listed"), Vec::<Uuid>::new(), "none is left");
    assert_eq!(pool.attach(id).await.expect("attached"), device, "at the same path");
    pool.detach(id).await.expect("detached");
    pool.remove(id).await.expect("removed");
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::Instance;
    use crate::volume::contract::{fake_image, host_image};
    use crate::volume::pool::dir::DirPool;
    use crate::volume::pool::fake::FakePool;

    #[tokio::test]
    async fn a_folder() {
        let (state, image) = host_image().await;
        all(&*DirPool::new(Instance::new(state.path())), image).await;
    }

    #[tokio::test]
    async fn the_fake() {
        let instance = Instance::new(Path::new("/nowhere"));
        let (images, disk) = fake_image(&instance).await;
        let pool = FakePool::new(instance, images);
        all(&*pool, disk).await;
        devices(&*pool).await;
    }

    #[tokio::test]
    async fn what_a_crash_left_half_made_is_overwritten_and_removed() {
        let (state, image) = host_image().await;
        let instance = Instance::new(state.path());
        let pool = DirPool::new(instance.clone());
        let id = Uuid::now_v7();
        let folder = instance.volume_dir(id);
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join("volume.new"), b"half").expect("a file");
        assert_eq!(pool.observe(id).await.expect("observed"), None);
        let volume = PoolVolume {
            id,
            size: ByteSize::mib(32),
            format: DiskFormat::Raw,
            content: Content::Image(image.clone()),
        };
        pool.ensure(&volume).await.expect("made");
        assert!(!folder.join("volume.new").exists());
        pool.remove(id).await.expect("removed");
        assert!(!folder.exists() && image.exists());
    }
}
