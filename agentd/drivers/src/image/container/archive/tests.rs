//! Archives that somebody wrote by hand.

use std::io::{self, Cursor, Read, Write};

use serde_json::json;
use sha2::{Digest, Sha256};

use super::*;
use crate::image::container::contract::tar;

fn names(bytes: &[u8]) -> Vec<String> {
    let mut reader = Reader::new(bytes);
    let mut names = Vec::new();
    while let Some(entry) = reader.next().expect("a tar archive") {
        names.push(entry.name);
    }
    names
}

fn seen(bytes: &[u8]) -> Result<Recognised, ImageError> {
    let owned = bytes.to_vec();
    recognise(&move || Ok(Box::new(Cursor::new(owned.clone())) as Box<dyn Read + Send>))
}

fn why(bytes: &[u8]) -> String {
    match seen(bytes) {
        Err(ImageError::Refused(why)) => why,
        other => panic!("it is not refused: {other:?}"),
    }
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

const CONFIG: &[u8] = br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#;

fn docker(tags: &serde_json::Value) -> Vec<u8> {
    let manifest = json!([{"Config": "abc.json", "RepoTags": tags, "Layers": ["one/layer.tar"]}]).to_string();
    tar(&[
        ("abc.json", CONFIG),
        ("one/layer.tar", &[7; 70_000]),
        ("manifest.json", manifest.as_bytes()),
        ("repositories", b"{\"debian\":{\"12\":\"x\"}}"),
    ])
}

fn oci(platforms: &[&str]) -> Vec<u8> {
    let layer = [8; 600];
    let descriptor = |bytes: &[u8]| json!({"digest": digest(bytes), "size": bytes.len(), "mediaType": "x"});
    let manifest = json!({"config": descriptor(CONFIG), "layers": [descriptor(&layer)]}).to_string();
    let of = |arch: &&str| {
        let platform = json!({"os": "linux", "architecture": arch});
        json!({"digest": digest(manifest.as_bytes()), "mediaType": "application/vnd.oci.image.manifest.v1+json", "platform": platform})
    };
    let index = json!({"manifests": platforms.iter().map(of).collect::<Vec<_>>()}).to_string();
    let blob = |bytes: &[u8]| format!("blobs/sha256/{}", &digest(bytes)[7..]);
    tar(&[
        ("index.json", index.as_bytes()),
        ("oci-layout", b"{\"imageLayoutVersion\":\"1.0.0\"}"),
        (&blob(manifest.as_bytes()), manifest.as_bytes()),
        (&blob(CONFIG), CONFIG),
        (&blob(&layer), &layer),
    ])
}

#[test]
fn docker_archives_oci_archives_and_trees_are_told_apart() {
    let Ok(Recognised::Image(inside)) = seen(&docker(&json!(["debian:12"]))) else { panic!("no image") };
    assert_eq!(
        (inside.format, inside.id, inside.layers),
        ("docker archive", digest(CONFIG), vec!["one/layer.tar".to_owned()])
    );
    let Ok(Recognised::Image(inside)) = seen(&oci(&["amd64", "unknown"])) else { panic!("no image") };
    assert_eq!((inside.format, inside.id), ("oci archive", digest(CONFIG)));
    assert!(inside.layers[0].starts_with("blobs/sha256/"));
    assert_eq!(seen(&tar(&[("./etc/passwd", b"root")])).expect("a tree"), Recognised::Root);
}

#[test]
fn what_is_no_image_is_refused_and_says_why() {
    for (bytes, word) in [
        (b"root:x:0:0:root:/root:/bin/bash\n".to_vec(), "no tar"),
        (vec![1; 2048], "no tar"),
        (Vec::new(), "no tar"),
        (tar(&[("README", b"hello")]), "neither"),
        (tar(&[("manifest.json", b"[]")]), "0 images"),
        (tar(&[("manifest.json", b"{}")]), "cannot be read"),
        (
            tar(&[("manifest.json", br#"[{"Config":"../../etc/shadow","Layers":[]}]"#)]),
            "has no ../../etc/shadow",
        ),
        (
            tar(&[("manifest.json", br#"[{"Config":"a","Layers":[]},{"Config":"b","Layers":[]}]"#)]),
            "2 images",
        ),
        (oci(&["s390x"]), "0 images"),
        (oci(&["amd64", "amd64"]), "2 images"),
        (docker(&json!(null))[..1500].to_vec(), "ends in the middle"),
    ] {
        let why = why(&bytes);
        assert!(why.contains(word), "{word}: {why}");
    }
    // Where a digest is not that of what has its name.
    let text = String::from_utf8_lossy(&oci(&["amd64"])).replace("\"layers\"", "\"loyers\"");
    assert!(why(text.as_bytes()).contains("digest is another"));
}

#[test]
fn an_archive_is_handed_on_with_our_name_and_none_of_its_own() {
    let bytes = docker(&json!(["debian:12", "x:y"]));
    let Ok(Recognised::Image(inside)) = seen(&bytes) else { panic!("no image") };
    let mut out = Vec::new();
    let open = || Ok(Box::new(Cursor::new(bytes.clone())) as Box<dyn Read + Send>);
    rewrite(&open, &inside, &["agentd-x:y"], &mut |piece| {
        out.extend(piece);
        Ok(())
    })
    .expect("rewritten");
    assert_eq!(names(&out), ["manifest.json", "abc.json", "one/layer.tar"]);
    let text = String::from_utf8_lossy(&out);
    assert!(text.contains("\"RepoTags\":[\"agentd-x:y\"]") && !text.contains("debian"), "{text}");
    let again = seen(&out).expect("still one");
    assert_eq!(again, Recognised::Image(inside));
    // Who does not take it any more ends it.
    let Ok(Recognised::Image(inside)) = seen(&bytes) else { panic!("no image") };
    rewrite(&open, &inside, &["x"], &mut |_| Err(io::Error::from(io::ErrorKind::BrokenPipe)))
        .expect_err("ended");
}

#[test]
fn a_compressed_archive_is_read_and_a_damaged_one_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.tar.gz");
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(&oci(&["amd64"])).expect("packed");
    let packed = gz.finish().expect("packed");
    std::fs::write(&path, &packed).expect("written");
    assert!(matches!(recognise(&|| open_file(&path)), Ok(Recognised::Image(_))));
    std::fs::write(&path, &packed[..packed.len() / 2]).expect("written");
    assert!(matches!(recognise(&|| open_file(&path)), Err(ImageError::Refused(_))));
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_it_panic(mut bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..3000), at in 0usize..4000) {
        drop(seen(&bytes));
        let mut whole = docker(&json!(["a:b"]));
        for (n, byte) in bytes.drain(..bytes.len().min(8)).enumerate() {
            let place = (at + n * 61) % whole.len();
            whole[place] = byte;
        }
        drop(seen(&whole));
    }
}
