//! Archives of Docker's layout, written by hand.

use std::io::Cursor;

use super::super::Inside;
use super::*;
use crate::image::container::contract::tar;

fn opened(bytes: &[u8]) -> io::Result<Box<dyn Read + Send>> {
    Ok(Box::new(Cursor::new(bytes.to_vec())))
}

fn repacked(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let made = repack(&|| opened(bytes), "tool").map_err(|error| error.to_string())?;
    let mut out: Vec<u8> = Vec::new();
    let written = made.write(&|| opened(bytes), &mut |piece: Vec<u8>| {
        out.extend(piece);
        Ok(())
    });
    written.map_err(|error| error.to_string())?;
    Ok(out)
}

fn files(bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut reader = Reader::new(bytes);
    let mut files = Vec::new();
    while let Some(entry) = reader.next().expect("a tar archive") {
        let mut content = Vec::new();
        reader.content().read_to_end(&mut content).expect("its content");
        files.push((entry.name, content));
    }
    files
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// These files, and an image whose layers are at these paths and have these digests.
fn saved(content: &[(&str, &[u8])], layers: &[(&str, String)]) -> Vec<u8> {
    let (paths, digests): (Vec<&str>, Vec<&String>) = layers.iter().map(|(path, id)| (*path, id)).unzip();
    let rootfs = json!({"type": "layers", "diff_ids": digests});
    let config = json!({"architecture": "amd64", "os": "linux", "rootfs": rootfs}).to_string();
    let manifest = json!([{"Config": "abc.json", "RepoTags": ["debian:12"], "Layers": paths}]).to_string();
    let mut all = content.to_vec();
    all.extend([("abc.json", config.as_bytes()), ("manifest.json", manifest.as_bytes())]);
    tar(&all)
}

fn link(name: &str, to: &str) -> Vec<u8> {
    let mut block = header(name, 0);
    block[156] = b'2';
    block[157..157 + to.len()].copy_from_slice(to.as_bytes());
    block[148..156].copy_from_slice(b"        ");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block.to_vec()
}

#[test]
fn it_is_the_same_image_and_each_file_is_named_by_its_digest() {
    // Longer than a piece; and one that is there twice, once as a link, which comes first.
    let (large, small) = (tar(&[("a", &[7; 600_000])]), tar(&[("b", b"small")]));
    let layers =
        [("0/layer.tar", digest(&small)), ("1/layer.tar", digest(&large)), ("2/layer.tar", digest(&small))];
    let content: [(&str, &[u8]); 2] = [("1/layer.tar", &large), ("2/layer.tar", &small)];
    let bytes = [link("0/layer.tar", "../2/layer.tar"), saved(&content, &layers)].concat();
    let out = repacked(&bytes).expect("repacked");

    let files = files(&out);
    let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!((names.len(), &names[..2]), (6, &["oci-layout", "index.json"][..]));
    for (name, content) in &files[2..] {
        assert_eq!(*name, blob(&digest(content)));
    }
    let document = |at: usize| serde_json::from_slice::<Value>(&files[at].1).expect("a document");
    assert_eq!(document(0), json!({"imageLayoutVersion": "1.0.0"}));
    let described = json!({
        "mediaType": MANIFEST_TYPE, "digest": digest(&files[2].1), "size": files[2].1.len(),
        "annotations": {"org.opencontainers.image.ref.name": "tool"},
    });
    assert_eq!(document(1), json!({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [described]}));
    let layer = |bytes: &[u8]| describe(LAYER_TYPE, &digest(bytes), bytes.len() as u64);
    assert_eq!(document(2)["layers"], json!([layer(&small), layer(&large), layer(&small)]));
    let said = layers.each_ref().map(|(_, digest)| digest);
    assert_eq!(document(3)["rootfs"]["diff_ids"], json!(said), "as the engine has it");

    let blobs = [&small, &large, &small].map(|layer| blob(&digest(layer)));
    let id = digest(&files[3].1);
    let inside = Inside { format: "oci archive", config: blob(&id), id, layers: blobs.to_vec() };
    assert_eq!(recognise(&|| opened(&out)).expect("an image"), Recognised::Image(inside));
    assert_eq!(repacked(&bytes).expect("repacked"), out, "the same image gives the same bytes");
}

#[test]
fn what_is_broken_is_refused_and_says_why() {
    let layer = tar(&[("a", b"one")]);
    let whole = saved(&[("0/layer.tar", &layer)], &[("0/layer.tar", digest(&layer))]);
    repacked(&whole).expect("it is whole");
    let one = |said: String| saved(&[("0/layer.tar", &layer)], &[("0/layer.tar", said)]);
    let no_configuration: [(&str, &[u8]); 2] =
        [("abc.json", b"{}"), ("manifest.json", br#"[{"Config":"abc.json","Layers":[]}]"#)];
    let no_digest: [(&str, &[u8]); 2] = [
        ("abc.json", br#"{"rootfs":{}}"#),
        ("manifest.json", br#"[{"Config":"abc.json","Layers":["0/layer.tar"]}]"#),
    ];
    for (bytes, word) in [
        (one(digest(b"another")), "has the digest"),
        (one("sha256:../../etc/shadow".to_owned()), "which is none"),
        (saved(&[], &[("0/layer.tar", digest(&layer))]), "has no 0/layer.tar"),
        (
            [link("0/layer.tar", "/etc/shadow"), saved(&[], &[("0/layer.tar", digest(&layer))])].concat(),
            "has no 0/layer.tar",
        ),
        (tar(&no_configuration), "cannot be read"),
        (tar(&no_digest), "holds 1 layers, and its configuration names 0"),
        (tar(&[("etc/passwd", b"root")]), "holds no image"),
        (whole[..whole.len() - 2500].to_vec(), "ends in the middle"),
    ] {
        let why = repacked(&bytes).expect_err(word);
        assert!(why.contains(word), "{word}: {why}");
    }
}

#[test]
fn who_does_not_take_it_any_more_ends_it() {
    let layer = tar(&[("a", &[7; 600_000])]);
    let bytes = saved(&[("0/layer.tar", &layer)], &[("0/layer.tar", digest(&layer))]);
    let mut left = 6;
    let made = repack(&|| opened(&bytes), "tool").expect("whole");
    let ended = made.write(&|| opened(&bytes), &mut |_| {
        left -= 1;
        if left > 0 { Ok(()) } else { Err(io::Error::from(io::ErrorKind::BrokenPipe)) }
    });
    assert_eq!(ended.expect_err("ended").kind(), io::ErrorKind::BrokenPipe);
    assert_eq!(left, 0, "it is asked no more");
}
