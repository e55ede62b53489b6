//! Archives as an engine sends them, and those that it does not send to their end.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::*;
use crate::Instance;
use crate::image::container::archive::{Recognised, recognise};
use crate::image::container::contract::{docker_archive, tar};
use crate::image::host::ImageOptions;

fn host() -> (TempDir, Arc<HostImage>) {
    let state = tempfile::tempdir().expect("a folder");
    let host = HostImage::new(Instance::new(state.path()), ImageOptions::default());
    (state, host)
}

/// In pieces that end anywhere.
fn sent(bytes: &[u8]) -> impl Stream<Item = io::Result<Bytes>> + Unpin + use<> {
    let pieces: Vec<io::Result<Bytes>> =
        bytes.chunks(10_000).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    futures_util::stream::iter(pieces)
}

async fn taken(mut pieces: SavedPieces) -> io::Result<Vec<u8>> {
    let mut whole = Vec::new();
    while let Some(piece) = pieces.next().await {
        whole.extend_from_slice(&piece?);
    }
    Ok(whole)
}

fn id_of(bytes: &[u8], format: &str) -> String {
    let open = || Ok(Box::new(io::Cursor::new(bytes.to_vec())) as Box<dyn Read + Send>);
    match recognise(&open) {
        Ok(Recognised::Image(inside)) if inside.format == format => inside.id,
        other => panic!("no {format}: {other:?}"),
    }
}

/// Longer than what is on its way at once.
fn large() -> Vec<u8> {
    let layer = tar(&[("much", "x".repeat(4 << 20).as_bytes())]);
    let digest = format!("sha256:{}", hex::encode(Sha256::digest(&layer)));
    let config = json!({"rootfs": {"type": "layers", "diff_ids": [digest]}}).to_string();
    let manifest = br#"[{"Config":"abc.json","RepoTags":null,"Layers":["layer.tar"]}]"#;
    tar(&[("layer.tar", &layer), ("abc.json", config.as_bytes()), ("manifest.json", manifest)])
}

fn named(incoming: &Path) -> usize {
    std::fs::read_dir(incoming).map_or(0, Iterator::count)
}

/// The files of that folder that this process has open, those without a name among them.
fn open_below(incoming: &Path) -> usize {
    let all = std::fs::read_dir("/proc/self/fd").expect("open files");
    let paths = all.filter_map(|file| std::fs::read_link(file.ok()?.path()).ok());
    paths.filter(|path| path.starts_with(incoming)).count()
}

async fn until_gone(incoming: &Path) {
    assert_eq!(named(incoming), 0);
    let from = Instant::now();
    while open_below(incoming) > 0 {
        assert!(from.elapsed() < Duration::from_secs(20), "something is still open");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_engine_packs_leaves_in_ocis_layout_and_nothing_stays() {
    let (state, host) = host();
    let incoming = state.path().join("incoming");
    for bytes in [docker_archive(1, "taken:1"), large()] {
        let saved = repacked(&host, sent(&bytes), "tool").await.expect("repacked");
        let whole = taken(saved).await.expect("all of it");
        assert_eq!(id_of(&whole, "oci archive"), id_of(&bytes, "docker archive"));
        until_gone(&incoming).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_goes_away_leaves_nothing() {
    let (state, host) = host();
    let incoming = state.path().join("incoming");
    let bytes = large();
    let mut saved = repacked(&host, sent(&bytes), "tool").await.expect("repacked");
    assert!(matches!(saved.next().await, Some(Ok(_))));
    assert_eq!((named(&incoming), open_below(&incoming)), (0, 1), "what is kept has no name");
    drop(saved);
    until_gone(&incoming).await;

    // While it is still coming.
    let endless = sent(&bytes[..1 << 20]).chain(futures_util::stream::pending());
    let coming = repacked(&host, endless, "tool");
    let ended = tokio::time::timeout(Duration::from_millis(300), coming).await;
    assert!(ended.is_err(), "it ends although not all has come");
    until_gone(&incoming).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_archive_is_the_engines_failure_and_leaves_nothing() {
    let (state, host) = host();
    let incoming = state.path().join("incoming");
    let whole = docker_archive(1, "x:1");
    let mut cases = vec![
        (sent(&whole[..whole.len() - 2000]).boxed(), "ends in the middle"),
        (sent(&tar(&[("etc/passwd", b"root")])).boxed(), "holds no image"),
        (sent(b"").boxed(), "ends in the middle"),
    ];
    let cut = futures_util::stream::iter([Err(io::Error::other("the connection ended"))]);
    cases.push((sent(&whole[..2000]).chain(cut).boxed(), "the connection ended"));
    for (pieces, word) in cases {
        let error = repacked(&host, pieces, "tool").await.err().expect(word);
        let says = |detail: &str| detail.contains(word);
        let failed = matches!(&error, ImageError::Engine(EngineError::Failed { detail, .. }) if says(detail));
        assert!(failed, "{word}: {error:?}");
        until_gone(&incoming).await;
    }

    // A layer that is none of the configuration's is found while it is sent.
    let mut other = whole;
    let at = other.windows(100).position(|bytes| bytes == [1; 100]).expect("what is in the layer");
    other[at] = 2;
    let saved = repacked(&host, sent(&other), "tool").await.expect("all is there");
    let error = taken(saved).await.expect_err("another layer");
    assert!(error.to_string().contains("has the digest"), "{error}");
    until_gone(&incoming).await;
}
