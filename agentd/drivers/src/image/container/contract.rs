//! What every driver of containers' images must do, run against the fake and a real engine.

use agentd_api::image::{BuildSource, UploadSource};
use futures_util::StreamExt;
use serde_json::json;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{ContainerImage, ContainerImageDriver, SaveAs};
use crate::archive::format::{END, header};
use crate::image::{ImageDriver, ImageError, Work};

/// A tar archive of these files.
pub fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, content) in files {
        out.extend_from_slice(&header(name, content.len() as u64));
        out.extend_from_slice(content);
        out.resize(out.len().next_multiple_of(512), 0);
    }
    out.extend_from_slice(&END);
    out
}

/// An image of one layer with one file, as `docker save` would write it, under that name.
pub fn docker_archive(mark: u8, name: &str) -> Vec<u8> {
    let layer = tar(&[("etc/mark", &[mark; 100])]);
    let diff = format!("sha256:{}", hex::encode(Sha256::digest(&layer)));
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": {"Cmd": ["/none"]}, "created": "2026-01-01T00:00:00Z",
        "history": [{"created": "2026-01-01T00:00:00Z"}], "rootfs": {"type": "layers", "diff_ids": [diff]},
    });
    let config = config.to_string();
    let file = format!("{}.json", hex::encode(Sha256::digest(config.as_bytes())));
    let manifest = json!([{"Config": file, "RepoTags": [name], "Layers": ["one/layer.tar"]}]).to_string();
    tar(&[(&file, config.as_bytes()), ("one/layer.tar", &layer), ("manifest.json", manifest.as_bytes())])
}

/// The same in OCI's layout.
pub fn oci_archive(mark: u8) -> Vec<u8> {
    let layer = tar(&[("etc/mark", &[mark; 100])]);
    let digest = |bytes: &[u8]| format!("sha256:{}", hex::encode(Sha256::digest(bytes)));
    let describe = |kind: &str, bytes: &[u8]| json!({"mediaType": format!("application/vnd.oci.image.{kind}"), "digest": digest(bytes), "size": bytes.len()});
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": {"Cmd": ["/none"]},
        "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]},
    });
    let config = config.to_string();
    let manifest = json!({
        "schemaVersion": 2, "config": describe("config.v1+json", config.as_bytes()),
        "layers": [describe("layer.v1.tar", &layer)],
    });
    let manifest = manifest.to_string();
    let index = json!({"schemaVersion": 2, "manifests": [describe("manifest.v1+json", manifest.as_bytes())]});
    let blob = |bytes: &[u8]| format!("blobs/sha256/{}", &digest(bytes)[7..]);
    tar(&[
        ("oci-layout", b"{\"imageLayoutVersion\":\"1.0.0\"}"),
        ("index.json", index.to_string().as_bytes()),
        (&blob(manifest.as_bytes()), manifest.as_bytes()),
        (&blob(config.as_bytes()), config.as_bytes()),
        (&blob(&layer), &layer),
    ])
}

pub fn announced(bytes: &[u8]) -> UploadSource {
    UploadSource { size: bytes.len() as u64, sha256: Some(hex::encode(Sha256::digest(bytes))) }
}

/// Both drivers of one host.
#[derive(Clone, Copy)]
pub struct Bench<'a> {
    pub images: &'a dyn ContainerImageDriver,
    /// Takes uploads.
    pub host: &'a dyn ImageDriver,
}

impl Bench<'_> {
    pub async fn load(&self, bytes: &[u8]) -> (Uuid, Result<ContainerImage, ImageError>) {
        let (work, source) = (Work::detached(Uuid::now_v7()), announced(bytes));
        self.host.receive(work.image, &source, &mut &*bytes).await.expect("received");
        let made = self.images.load(&source, &work).await;
        self.host.discard(work.image).await.expect("discarded");
        (work.image, made)
    }

    /// All of an archive that is whole.
    pub async fn save(&self, id: &str, wanted: SaveAs<'_>) -> Vec<u8> {
        let mut saved = Vec::new();
        let mut pieces = self.images.save(id, wanted).await.expect("saved");
        while let Some(piece) = pieces.next().await {
            saved.extend_from_slice(&piece.expect("a piece"));
        }
        saved
    }

    pub async fn build(
        &self,
        context: &[u8],
        more: BuildSource,
    ) -> (Uuid, Result<ContainerImage, ImageError>) {
        let (work, source) = (Work::detached(Uuid::now_v7()), announced(context));
        let build = BuildSource { size: source.size, sha256: source.sha256.clone(), ..more };
        self.host.receive(work.image, &source, &mut &*context).await.expect("received");
        let made = self.images.build(&build, &work).await;
        self.host.discard(work.image).await.expect("discarded");
        (work.image, made)
    }
}

pub async fn all(bench: Bench<'_>) {
    an_archive_becomes_an_image_and_comes_out_again(bench).await;
    an_image_comes_out_in_ocis_layout_and_is_the_same_again(bench).await;
    two_objects_share_one_image(bench).await;
    what_is_no_image_is_refused(bench).await;
    a_dockerfile_becomes_an_image(bench).await;
    cancelled_work_ends(bench).await;
    assert_eq!(bench.images.list().await.expect("listed"), Vec::<Uuid>::new());
}

async fn an_archive_becomes_an_image_and_comes_out_again(bench: Bench<'_>) {
    let nowhere = format!("sha256:{}", "0".repeat(64));
    assert_eq!(bench.images.observe(Uuid::now_v7(), &nowhere).await.expect("observed"), None);
    bench.images.remove(Uuid::now_v7()).await.expect("gone already");
    for wanted in [SaveAs::Docker, SaveAs::Oci { name: "tool" }] {
        let saved = bench.images.save(&nowhere, wanted).await;
        assert!(saved.is_err(), "nothing is saved of what is not there");
    }

    for (bytes, format) in [(docker_archive(1, "taken:1"), "docker archive"), (oci_archive(2), "oci archive")]
    {
        let (image, made) = bench.load(&bytes).await;
        let made = made.expect(format);
        assert_eq!(made.source_format, format);
        assert_eq!(bench.images.list().await.expect("listed"), [image]);
        let seen = bench.images.observe(image, &made.id).await.expect("observed").expect("there");
        assert_eq!((seen.id.as_str(), seen.size), (made.id.as_str(), made.size));

        let saved = bench.save(&made.id, SaveAs::Docker).await;
        let text = String::from_utf8_lossy(&saved);
        assert!(text.contains("manifest.json") && !text.contains("taken"), "it has no name in it");
        bench.images.remove(image).await.expect("removed");
        bench.images.remove(image).await.expect("again");
        assert_eq!(bench.images.observe(image, &made.id).await.expect("observed"), None);
    }
}

async fn an_image_comes_out_in_ocis_layout_and_is_the_same_again(bench: Bench<'_>) {
    for bytes in [docker_archive(5, "taken:1"), oci_archive(6)] {
        let (image, made) = bench.load(&bytes).await;
        let id = made.expect("loaded").id;
        let saved = bench.save(&id, SaveAs::Oci { name: "tool" }).await;
        let text = String::from_utf8_lossy(&saved);
        assert!(text.contains("\"org.opencontainers.image.ref.name\":\"tool\"") && !text.contains("taken"));
        assert!(text.starts_with("oci-layout\0") && !text.contains("manifest.json"));
        assert_eq!(bench.host.list_incoming().await.expect("listed"), Vec::<Uuid>::new());
        bench.images.remove(image).await.expect("removed");
        assert_eq!(bench.images.observe(image, &id).await.expect("observed"), None);
        let (again, made) = bench.load(&saved).await;
        let made = made.expect("loaded again");
        assert_eq!((made.id, made.source_format.as_str()), (id, "oci archive"));
        bench.images.remove(again).await.expect("removed");
    }
}

async fn two_objects_share_one_image(bench: Bench<'_>) {
    let bytes = docker_archive(3, "taken:1");
    let ((one, made), (two, same)) = (bench.load(&bytes).await, bench.load(&bytes).await);
    let (made, same) = (made.expect("loaded"), same.expect("loaded"));
    assert_eq!(made.id, same.id);
    bench.images.remove(one).await.expect("removed");
    assert!(bench.images.observe(two, &made.id).await.expect("observed").is_some());
    assert_eq!(bench.images.list().await.expect("listed"), [two]);
    bench.images.remove(two).await.expect("removed");
    assert_eq!(bench.images.observe(two, &made.id).await.expect("observed"), None);
}

async fn what_is_no_image_is_refused(bench: Bench<'_>) {
    let cases: [(Vec<u8>, &str); 3] = [
        (b"root:x:0:0:root:/root:/bin/bash\n".to_vec(), "tar"),
        (tar(&[("README", b"hello")]), "neither"),
        (tar(&[("manifest.json", br#"[{"Config":"a","Layers":[]}]"#)]), "has no a"),
    ];
    for (bytes, word) in cases {
        let (_, made) = bench.load(&bytes).await;
        let error = made.expect_err(word);
        assert!(matches!(&error, ImageError::Refused(why) if why.contains(word)), "{word}: {error:?}");
    }
    let (work, bytes) = (Work::detached(Uuid::now_v7()), docker_archive(4, "x:1"));
    let (good, wrong) =
        (announced(&bytes), UploadSource { sha256: Some("0".repeat(64)), ..announced(&bytes) });
    let error = bench.images.load(&good, &work).await.expect_err("nothing came");
    assert!(matches!(error, ImageError::Incomplete { received: 0, .. }), "{error:?}");
    bench.host.receive(work.image, &good, &mut &bytes[..]).await.expect("received");
    let error = bench.images.load(&wrong, &work).await.expect_err("another digest");
    assert!(matches!(&error, ImageError::Refused(why) if why.contains("SHA-256")), "{error:?}");
    bench.host.discard(work.image).await.expect("discarded");
}

fn plain() -> BuildSource {
    BuildSource { size: 0, sha256: None, dockerfile: None, args: Default::default(), target: None }
}

async fn a_dockerfile_becomes_an_image(bench: Bench<'_>) {
    let context = tar(&[
        ("Dockerfile", b"FROM scratch\nARG WHO\nCOPY hello /hello\nLABEL who=$WHO\n"),
        ("hello", b"hi"),
    ]);
    let args = [("WHO".to_owned(), "me".to_owned())].into();
    let (image, made) = bench.build(&context, BuildSource { args, ..plain() }).await;
    assert_eq!(made.expect("built").source_format, "dockerfile");
    assert_eq!(bench.images.list().await.expect("listed"), [image]);
    bench.images.remove(image).await.expect("removed");
    let other = BuildSource { dockerfile: Some("deep/Other".to_owned()), ..plain() };
    let (_, made) = bench.build(&context, other).await;
    let error = made.expect_err("there is no such file");
    assert!(matches!(&error, ImageError::Refused(why) if why.contains("deep/Other")), "{error:?}");
    let left = bench.images.clear(&Default::default()).await.expect("cleared");
    assert_eq!(left, Vec::<Uuid>::new(), "what has ended has left nothing");
}

async fn cancelled_work_ends(bench: Bench<'_>) {
    let work = Work::detached(Uuid::now_v7());
    work.cancel.cancel();
    let from = "127.0.0.1:1/nobody/there:1".parse().expect("a reference");
    let error = bench.images.pull(&from, &work).await.expect_err("cancelled");
    assert!(matches!(error, ImageError::Cancelled), "{error:?}");
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::Instance;
    use crate::image::container::fake::FakeContainerImages;
    use crate::image::fake::FakeImage;

    #[tokio::test]
    async fn the_fake() {
        let host = FakeImage::new(Instance::new(Path::new("/nowhere")));
        let images = FakeContainerImages::new(host.clone());
        all(Bench { images: &*images, host: &*host }).await;
    }

    #[tokio::test]
    async fn an_image_in_use_stays_and_a_mark_that_was_taken_away_is_put_back() {
        let host = FakeImage::new(Instance::new(Path::new("/nowhere")));
        let images = FakeContainerImages::new(host.clone());
        let bench = Bench { images: &*images, host: &*host };
        let (image, made) = bench.load(&docker_archive(1, "x:1")).await;
        let id = made.expect("loaded").id;
        images.set_used(&id, true);
        let error = images.remove(image).await.expect_err("used");
        assert!(matches!(error, ImageError::InUse(_)), "{error:?}");
        images.unmark_behind_our_back(image);
        assert!(images.observe(image, &id).await.expect("observed").is_some() && images.is_marked(image));
        images.set_used(&id, false);
        images.remove(image).await.expect("removed");
    }
}
