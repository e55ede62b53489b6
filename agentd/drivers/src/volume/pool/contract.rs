//! What every pool must do, run against the fake and the real ones.

use agentd_api::ByteSize;
use uuid::Uuid;

use super::{PoolDriver, PoolVolume};
use crate::vm::DiskFormat;
use crate::volume::VolumeError;

/// `image` is an image's disk of 32 MiB that the pool can copy.
pub async fn all(pool: &dyn PoolDriver, image: std::path::PathBuf) {
    assert_eq!(pool.list().await.expect("listed"), Vec::<Uuid>::new());
    assert!(pool.free().await.expect("told") > ByteSize::mib(1));
    for format in [DiskFormat::Qcow2, DiskFormat::Raw] {
        life(pool, format, None).await;
        life(pool, format, Some(image.clone())).await;
    }
    let id = Uuid::now_v7();
    let small = PoolVolume { id, size: ByteSize::mib(16), format: DiskFormat::Raw, content: Some(image) };
    let error = pool.ensure(&small).await.expect_err("smaller than its image");
    assert!(matches!(&error, VolumeError::Refused(why) if why.contains("32MiB")), "{error:?}");
    assert_eq!(pool.observe(id).await.expect("observed"), None, "nothing stands for it");
    pool.remove(id).await.expect("removed");
    assert_eq!(pool.list().await.expect("listed"), Vec::<Uuid>::new());
}

async fn life(pool: &dyn PoolDriver, format: DiskFormat, content: Option<std::path::PathBuf>) {
    let id = Uuid::now_v7();
    let mut volume = PoolVolume { id, size: ByteSize::mib(40), format, content };
    assert_eq!(pool.observe(id).await.expect("observed"), None);
    pool.remove(id).await.expect("nothing to remove");
    assert!(matches!(pool.grow(id, volume.size).await, Err(VolumeError::Failed { .. })));

    let made = pool.ensure(&volume).await.expect("made");
    assert_eq!((made.format, made.size), (format, volume.size));
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
        all(&*FakePool::new(instance, images), disk).await;
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
        let volume =
            PoolVolume { id, size: ByteSize::mib(32), format: DiskFormat::Raw, content: Some(image.clone()) };
        pool.ensure(&volume).await.expect("made");
        assert!(!folder.join("volume.new").exists());
        pool.remove(id).await.expect("removed");
        assert!(!folder.exists() && image.exists());
    }
}
