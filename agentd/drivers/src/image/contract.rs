//! What every image driver must do, run against the fake and the real one.

use agentd_api::image::{Recipe, UploadSource};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{ImageContent, ImageDriver, ImageError, Work};

/// A raw disk of one MiB with a partition table, and a mark that makes it differ from others.
pub fn disk(mark: u8) -> Vec<u8> {
    let mut disk = vec![0u8; 1 << 20];
    disk[510..512].copy_from_slice(b"\x55\xaa");
    disk[600_000] = mark;
    disk
}

fn source(bytes: &[u8]) -> UploadSource {
    let sha256 = hex::encode(Sha256::digest(bytes));
    UploadSource { size: bytes.len() as u64, sha256: Some(sha256) }
}

/// Sends bytes and imports them.
pub async fn import(driver: &dyn ImageDriver, bytes: &[u8]) -> Result<ImageContent, ImageError> {
    let (work, source) = (Work::detached(Uuid::now_v7()), source(bytes));
    driver.receive(work.image, &source, &mut &*bytes).await?;
    let outcome = driver.import(&source, &work).await;
    driver.discard(work.image).await.expect("discarded");
    outcome
}

pub async fn all(driver: &dyn ImageDriver) {
    an_upload_becomes_an_image(driver).await;
    what_is_no_image_is_refused(driver).await;
    an_upload_is_what_was_announced(driver).await;
    cancelled_work_ends(driver).await;
    assert_eq!(driver.list_incoming().await.expect("listed"), Vec::<Uuid>::new());
}

async fn an_upload_becomes_an_image(driver: &dyn ImageDriver) {
    let nowhere = format!("sha256:{}", "0".repeat(64));
    assert_eq!(driver.observe(&nowhere).await.expect("observed"), None);
    driver.remove(&nowhere).await.expect("gone already");
    for odd in ["", "sha256:", "sha256:../../etc", "../../etc"] {
        assert_eq!(driver.observe(odd).await.expect("observed"), None, "{odd}");
        driver.remove(odd).await.expect("nothing of that name");
    }

    let bytes = disk(1);
    let content = import(driver, &bytes).await.expect("imported");
    assert_eq!((content.virtual_size.bytes(), content.source_format.as_str()), (1 << 20, "raw"));
    assert!(content.boot.is_none());
    assert_eq!(driver.observe(&content.digest).await.expect("observed"), Some(content.clone()));

    // The same bytes are the same image, stored once; other bytes are another.
    assert_eq!(import(driver, &bytes).await.expect("again"), content);
    let other = import(driver, &disk(2)).await.expect("imported");
    let mut both = [content.digest.clone(), other.digest.clone()];
    both.sort_unstable();
    let mut listed = driver.list().await.expect("listed");
    listed.sort_unstable();
    assert_eq!(listed, both);

    driver.remove(&content.digest).await.expect("removed");
    driver.remove(&content.digest).await.expect("again");
    assert_eq!(driver.observe(&content.digest).await.expect("observed"), None);
    assert_eq!(driver.list().await.expect("listed"), std::slice::from_ref(&other.digest));
    driver.remove(&other.digest).await.expect("removed");
}

async fn what_is_no_image_is_refused(driver: &dyn ImageDriver) {
    let mut shadow = vec![0u8; 64 << 10];
    shadow[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
    shadow[15] = 200;
    shadow[19] = 11;
    shadow[200..211].copy_from_slice(b"/etc/shadow");
    let cases: [(&[u8], &str); 3] = [
        (b"root:x:0:0:root:/root:/bin/bash\n", "text"),
        (&shadow, "backing"),
        (b"# Disk DescriptorFile\nRW 8 FLAT \"/etc/shadow\" 0\n", "descriptor"),
    ];
    for (bytes, word) in cases {
        let error = import(driver, bytes).await.expect_err(word);
        assert!(matches!(&error, ImageError::Refused(why) if why.contains(word)), "{word}: {error:?}");
    }
    assert_eq!(driver.list().await.expect("listed"), Vec::<String>::new());
}

async fn an_upload_is_what_was_announced(driver: &dyn ImageDriver) {
    let (bytes, work) = (disk(3), Work::detached(Uuid::now_v7()));
    let good = source(&bytes);
    let size = good.size;

    let error = driver.import(&good, &work).await.expect_err("nothing came");
    assert!(
        matches!(error, ImageError::Incomplete { received: 0, expected } if expected == size),
        "{error:?}"
    );
    let error = driver.receive(work.image, &good, &mut &bytes[1..]).await.expect_err("short");
    assert!(matches!(error, ImageError::Incomplete { received, .. } if received == size - 1), "{error:?}");
    assert_eq!(driver.received(work.image).await.expect("asked"), 0);
    let longer = [&bytes[..], b"!"].concat();
    let error = driver.receive(work.image, &good, &mut &longer[..]).await.expect_err("long");
    assert!(matches!(error, ImageError::Refused(_)), "{error:?}");

    // What came whole stays, whatever comes after it.
    assert_eq!(driver.receive(work.image, &good, &mut &bytes[..]).await.expect("whole"), size);
    driver.receive(work.image, &good, &mut &bytes[1..]).await.expect_err("short");
    assert_eq!(driver.received(work.image).await.expect("asked"), size);
    assert_eq!(driver.list_incoming().await.expect("listed"), [work.image]);

    let wrong = UploadSource { sha256: Some("0".repeat(64)), ..good.clone() };
    let error = driver.import(&wrong, &work).await.expect_err("another digest");
    assert!(matches!(&error, ImageError::Refused(why) if why.contains("SHA-256")), "{error:?}");
    let content = driver.import(&good, &work).await.expect("imported");
    driver.remove(&content.digest).await.expect("removed");
    driver.discard(work.image).await.expect("discarded");
    driver.discard(work.image).await.expect("again");
    assert_eq!(driver.received(work.image).await.expect("asked"), 0);
}

async fn cancelled_work_ends(driver: &dyn ImageDriver) {
    let work = Work::detached(Uuid::now_v7());
    work.cancel.cancel();
    let error = driver.build(Recipe::Micro, &work).await.expect_err("cancelled");
    assert!(matches!(error, ImageError::Cancelled), "{error:?}");
    driver.discard(work.image).await.expect("discarded");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Instance;
    use crate::image::fake::FakeImage;
    use crate::image::host::{HostImage, ImageOptions};

    #[tokio::test]
    async fn the_host() {
        let state = tempfile::tempdir().expect("a folder");
        all(&*HostImage::new(Instance::new(state.path()), ImageOptions::default())).await;
    }

    #[tokio::test]
    async fn the_fake() {
        all(&*FakeImage::new(Instance::new(std::path::Path::new("/nowhere")))).await;
    }

    #[tokio::test]
    async fn a_build_of_the_fake_tells_how_far_it_is() {
        let driver = FakeImage::new(Instance::new(std::path::Path::new("/nowhere")));
        let work = Work::detached(Uuid::now_v7());
        let content = driver.build(Recipe::Debian12, &work).await.expect("built");
        assert!(content.boot.is_some());
        assert_eq!(work.progress.borrow().done, 4);
        driver.faults().fail_next("build", 1, || ImageError::Capacity("told to".to_owned()));
        assert!(matches!(driver.build(Recipe::Micro, &work).await, Err(ImageError::Capacity(_))));
        driver.faults().hang("build");
        let cancel = work.cancel.clone();
        let build = tokio::spawn(async move { driver.build(Recipe::Micro, &work).await });
        cancel.cancel();
        assert!(matches!(build.await.expect("joined"), Err(ImageError::Cancelled)));
    }
}
