//! What lies in `images/` after a crash, and after somebody else's hand.

use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::image::contract::{disk, import};

#[tokio::test]
async fn what_is_stored_can_be_read_by_qemu() {
    let (state, driver) = driver();
    let content = import(&*driver, &disk(1)).await.expect("imported");
    let mode = |path: &Path| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(&content.disk), 0o644);
    assert_eq!(mode(content.disk.parent().expect("a folder")), 0o755);
    assert_eq!(mode(&state.path().join("images")), 0o711);
    assert!(content.stored_size.bytes() > 0);
}

#[tokio::test]
async fn a_damaged_image_counts_as_gone_and_is_replaced() {
    let (_state, driver) = driver();
    let content = import(&*driver, &disk(1)).await.expect("imported");
    let file = std::fs::OpenOptions::new().write(true).open(&content.disk).expect("open");
    file.set_len(1000).expect("cut");
    assert_eq!(driver.observe(&content.digest).await.expect("observed"), None);
    assert_eq!(import(&*driver, &disk(1)).await.expect("imported"), content);
    std::fs::write(content.disk.with_file_name("manifest.json"), "{}").expect("written");
    assert_eq!(driver.observe(&content.digest).await.expect("observed"), None);
}

#[tokio::test]
async fn a_removal_that_was_cut_short_leaves_nothing_listed() {
    let (state, driver) = driver();
    let content = import(&*driver, &disk(1)).await.expect("imported");
    let hex = store::digits(&content.digest).expect("a digest").to_owned();
    let images = state.path().join("images");
    // As a kill between the rename and the removal leaves it.
    std::fs::rename(images.join(&hex), images.join(format!(".removed-{hex}"))).expect("renamed");
    assert_eq!(driver.list().await.expect("listed"), Vec::<String>::new());
    assert_eq!(driver.observe(&content.digest).await.expect("observed"), None);
    let next = HostImage::new(Instance::new(state.path()), ImageOptions::default());
    assert_eq!(std::fs::read_dir(&images).expect("there").count(), 0);
    import(&*next, &disk(1)).await.expect("imported");
    next.remove(&content.digest).await.expect("removed");
    assert_eq!(std::fs::read_dir(&images).expect("there").count(), 0);
}

#[tokio::test]
async fn a_conversion_that_was_killed_begins_anew() {
    let (_state, driver) = driver();
    let (work, bytes) = (Work::detached(Uuid::now_v7()), disk(1));
    let source = UploadSource { size: bytes.len() as u64, sha256: None };
    driver.receive(work.image, &source, &mut &bytes[..]).await.expect("received");
    let scratch = driver.incoming(work.image).join("work/content");
    std::fs::create_dir_all(&scratch).expect("made");
    std::fs::write(scratch.join(store::DISK), "half of it").expect("written");
    std::fs::write(scratch.join(store::KERNEL), "of something else").expect("written");
    let content = driver.import(&source, &work).await.expect("imported");
    assert!(content.boot.is_none());
    // The upload is there until it is discarded, so that a kill before the status was written costs no upload.
    assert_eq!(driver.import(&source, &work).await.expect("again"), content);
}

#[tokio::test]
async fn of_an_upload_that_was_cut_off_nothing_is_kept() {
    let (_state, driver) = driver();
    let (image, bytes) = (Uuid::now_v7(), disk(1));
    let source = UploadSource { size: bytes.len() as u64, sha256: None };
    let folder = driver.incoming(image);
    std::fs::create_dir_all(&folder).expect("made");
    std::fs::write(folder.join("upload.part"), "half of it").expect("written");
    assert_eq!(driver.received(image).await.expect("asked"), 0);
    assert_eq!(std::fs::read_dir(&folder).expect("there").count(), 0);
    // One that is on its way stays.
    let (mut to, mut from) = tokio::io::duplex(1 << 20);
    tokio::io::AsyncWriteExt::write_all(&mut to, &bytes[..1000]).await.expect("sent");
    let receiving = driver.receive(image, &source, &mut from);
    tokio::pin!(receiving);
    while !folder.join("upload.part").exists() {
        tokio::select! {
            _ = &mut receiving => panic!("not all was sent"),
            () = tokio::time::sleep(std::time::Duration::from_millis(10)) => {}
        }
    }
    assert_eq!(driver.received(image).await.expect("asked"), 0);
    tokio::io::AsyncWriteExt::write_all(&mut to, &bytes[1000..]).await.expect("sent");
    drop(to);
    receiving.await.expect("received");
    assert_eq!(driver.received(image).await.expect("asked"), source.size);
}
