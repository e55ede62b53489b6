//! Downloads from a server that is cut off, lies, and cannot resume.

use super::server::{Answer, serve};
use super::*;
use crate::image::contract::disk;

fn source(url: &str, bytes: &[u8]) -> UrlSource {
    UrlSource { url: url.to_owned(), sha256: sha256(bytes) }
}

#[tokio::test]
async fn a_download_is_checked_and_converted() {
    let (_state, driver) = driver();
    let server = serve(disk(1), &[Answer::Ranges]);
    let work = Work::detached(Uuid::now_v7());
    let content = driver.pull(&source(&server.url, &disk(1)), &work).await.expect("pulled");
    assert_eq!(content.source_format, "raw");
    // Nothing is fetched a second time before it is discarded.
    let again = driver.pull(&source(&server.url, &disk(1)), &work).await.expect("pulled");
    assert_eq!((again, server.asked.lock().len()), (content, 1));
}

#[tokio::test]
async fn a_download_that_was_cut_goes_on_where_it_ended() {
    let (state, driver) = driver();
    let server = serve(disk(1), &[Answer::Cut(300_000), Answer::Ranges]);
    let (source, work) = (source(&server.url, &disk(1)), Work::detached(Uuid::now_v7()));
    let error = driver.pull(&source, &work).await.expect_err("cut");
    assert!(matches!(&error, ImageError::Fetch { .. }), "{error:?}");
    assert_eq!(driver.received(work.image).await.expect("asked"), 300_000);
    // Another daemon on the same folder, as after a kill.
    let next = HostImage::new(Instance::new(state.path()), ImageOptions::default());
    next.pull(&source, &work).await.expect("pulled");
    assert_eq!(*server.asked.lock(), [0, 300_000]);
}

#[tokio::test]
async fn a_server_without_ranges_is_asked_from_the_beginning() {
    let (_state, driver) = driver();
    let server = serve(disk(1), &[Answer::Cut(300_000), Answer::Whole]);
    let (source, work) = (source(&server.url, &disk(1)), Work::detached(Uuid::now_v7()));
    driver.pull(&source, &work).await.expect_err("cut");
    driver.pull(&source, &work).await.expect("pulled");
    assert_eq!(*server.asked.lock(), [0, 300_000, 0]);
}

#[tokio::test]
async fn a_wrong_file_is_refused_and_removed() {
    let (_state, driver) = driver();
    let server = serve(disk(2), &[Answer::Ranges]);
    let (source, work) = (source(&server.url, &disk(1)), Work::detached(Uuid::now_v7()));
    let error = driver.pull(&source, &work).await.expect_err("another file");
    assert!(matches!(&error, ImageError::Refused(why) if why.contains("SHA-256")), "{error:?}");
    assert_eq!(driver.received(work.image).await.expect("asked"), 0);
}

#[tokio::test]
async fn what_is_left_of_another_file_is_not_gone_on_with_for_ever() {
    let (_state, driver) = driver();
    let server = serve(disk(1), &[Answer::Ranges]);
    let (source, work) = (source(&server.url, &disk(1)), Work::detached(Uuid::now_v7()));
    let folder = driver.incoming(work.image);
    let (part, _) = incoming::pull_paths(&folder, &source.sha256);
    for left in [vec![1; 1000], vec![1; 2 << 20]] {
        std::fs::create_dir_all(&folder).expect("made");
        std::fs::write(&part, left).expect("written");
        driver.pull(&source, &work).await.expect("pulled");
        driver.discard(work.image).await.expect("discarded");
    }
    assert_eq!(*server.asked.lock(), [1000, 0, 2 << 20, 0]);
}

#[tokio::test]
async fn a_whole_part_that_was_not_renamed_yet_is_taken() {
    let (_state, driver) = driver();
    let server = serve(disk(1), &[Answer::Ranges]);
    let (source, work) = (source(&server.url, &disk(1)), Work::detached(Uuid::now_v7()));
    let folder = driver.incoming(work.image);
    std::fs::create_dir_all(&folder).expect("made");
    std::fs::write(incoming::pull_paths(&folder, &source.sha256).0, disk(1)).expect("written");
    driver.pull(&source, &work).await.expect("pulled");
}

#[tokio::test]
async fn other_answers_are_errors_that_name_the_address() {
    let (_state, driver) = driver();
    for answer in [Answer::Status(404), Answer::Status(500), Answer::Elsewhere("file:///etc/shadow")] {
        let server = serve(disk(1), &[answer]);
        let secret = server.url.replace("http://", "http://user:password@");
        let work = Work::detached(Uuid::now_v7());
        let error = driver.pull(&source(&secret, &disk(1)), &work).await.expect_err("an error");
        let text = error.to_string();
        assert!(
            matches!(&error, ImageError::Fetch { url, .. } if *url == server.url),
            "{answer:?}: {error:?}"
        );
        assert!(!text.contains("password"), "{text}");
    }
    let work = Work::detached(Uuid::now_v7());
    let error = driver.pull(&source("file:///etc/shadow", b""), &work).await.expect_err("a file");
    assert!(matches!(error, ImageError::Refused(_)), "{error:?}");
}
