//! What the fake engine has of an image: an archive of Docker's layout, without names in it.

use std::io::{self, Cursor, Read};

use bytes::Bytes;
use serde_json::json;

use super::digest;
use crate::image::ImageError;
use crate::image::container::archive::{Inside, broken, repack, rewrite};
use crate::image::container::contract::tar;

/// Of one that came in an archive: the same files.
pub(super) fn of_archive(bytes: &Bytes, inside: &Inside) -> Result<Bytes, ImageError> {
    written(|out| rewrite(&|| open(bytes), inside, &[], out))
}

/// Of one that came otherwise: an empty layer, and the seed that tells it from others. With the engine's id of it.
pub(super) fn of_seed(seed: &str) -> (String, Bytes) {
    let layer = tar(&[]);
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": {"Labels": {"seed": seed}},
        "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]},
    });
    let config = config.to_string();
    let id = digest(config.as_bytes());
    let file = format!("{}.json", id.trim_start_matches("sha256:"));
    let manifest = json!([{"Config": file, "RepoTags": null, "Layers": ["layer.tar"]}]).to_string();
    let archive =
        tar(&[(&file, config.as_bytes()), ("layer.tar", &layer), ("manifest.json", manifest.as_bytes())]);
    (id, archive.into())
}

/// The same image in OCI's layout.
pub(super) fn in_oci(packed: &Bytes, name: &str) -> Result<Bytes, ImageError> {
    let made = repack(&|| open(packed), name)?;
    written(|out| made.write(&|| open(packed), out))
}

fn open(bytes: &Bytes) -> io::Result<Box<dyn Read + Send>> {
    Ok(Box::new(Cursor::new(bytes.clone())))
}

fn written(
    write: impl FnOnce(&mut dyn FnMut(Vec<u8>) -> io::Result<()>) -> io::Result<()>,
) -> Result<Bytes, ImageError> {
    let mut whole: Vec<u8> = Vec::new();
    let done = write(&mut |piece: Vec<u8>| {
        whole.extend(piece);
        Ok(())
    });
    done.map_err(|error| broken(&error))?;
    Ok(whole.into())
}
