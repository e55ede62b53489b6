//! An archive of Docker's layout in OCI's: the same configuration and the same layers, by the names of their digests.
//!
//! ```text
//! oci-layout | index.json | blobs/sha256/<manifest> | blobs/sha256/<configuration> | blobs/sha256/<layer> ...
//! ```
//! Layers stay as the engine packs them, which does not compress them: the digest of each is what the configuration says.

use std::collections::BTreeMap;
use std::io::{self, Read};

use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::tar::{Reader, padding};
use super::{INDEX, LAYOUT, Open, Recognised, broken, document, parsed, recognise, refused, shown};
use crate::archive::format::{END, header};
use crate::image::ImageError;

const PIECE: usize = 256 << 10;
const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar";
/// What says in an index how an image is called.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// What an archive of OCI's layout is made of.
#[derive(Debug)]
pub(in crate::image::container) struct Repacked {
    /// With their names, in their order.
    documents: Vec<(String, Vec<u8>)>,
    /// By their names in Docker's archive.
    layers: BTreeMap<String, Layer>,
}

#[derive(Debug)]
struct Layer {
    digest: String,
    size: u64,
}

/// Of an image's configuration.
#[derive(Deserialize)]
struct Config {
    rootfs: Rootfs,
}

#[derive(Deserialize)]
struct Rootfs {
    #[serde(default)]
    diff_ids: Vec<String>,
}

/// Reads all of an archive but what is in its layers; `name` is what the image will be called. Refused where something is
/// missing of it.
pub(in crate::image::container) fn repack(open: Open<'_>, name: &str) -> Result<Repacked, ImageError> {
    let Recognised::Image(inside) = recognise(open)? else { return Err(refused("holds no image")) };
    let config = document(open, &inside.config)?;
    let said: Config = parsed(&inside.config, &config)?;
    let digests = said.rootfs.diff_ids;
    if digests.len() != inside.layers.len() {
        let (there, wanted) = (inside.layers.len(), digests.len());
        return Err(refused(format!("holds {there} layers, and its configuration names {wanted}")));
    }
    let layers = find(open, &inside.layers, &digests)?;
    let sizes: BTreeMap<&str, u64> = layers.values().map(|one| (one.digest.as_str(), one.size)).collect();
    let mut described = Vec::new();
    for (digest, path) in digests.iter().zip(&inside.layers) {
        let Some(size) = sizes.get(digest.as_str()) else {
            return Err(refused(format!("has no {}, which it needs", shown(path))));
        };
        described.push(describe(LAYER_TYPE, digest, *size));
    }
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": describe(CONFIG_TYPE, &inside.id, config.len() as u64),
        "layers": described,
    });
    let manifest = manifest.to_string().into_bytes();
    let digest = format!("sha256:{}", hex::encode(Sha256::digest(&manifest)));
    let mut one = describe(MANIFEST_TYPE, &digest, manifest.len() as u64);
    one["annotations"] = json!({REF_NAME: name});
    let index = json!({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [one]});
    let documents = vec![
        (LAYOUT.to_owned(), json!({"imageLayoutVersion": "1.0.0"}).to_string().into_bytes()),
        (INDEX.to_owned(), index.to_string().into_bytes()),
        (blob(&digest), manifest),
        (blob(&inside.id), config),
    ];
    Ok(Repacked { documents, layers })
}

fn describe(media_type: &str, digest: &str, size: u64) -> Value {
    json!({"mediaType": media_type, "digest": digest, "size": size})
}

fn blob(digest: &str) -> String {
    format!("blobs/sha256/{}", digest.trim_start_matches("sha256:"))
}

/// The file of each digest. An engine may put a link in place of a layer that is there already: one of those that should
/// have it is enough.
fn find(open: Open<'_>, paths: &[String], digests: &[String]) -> Result<BTreeMap<String, Layer>, ImageError> {
    let mut wanted: BTreeMap<&str, &str> = BTreeMap::new();
    for (path, digest) in paths.iter().zip(digests) {
        if !agentd_api::image::is_digest(digest) {
            return Err(refused(format!("names the digest '{}', which is none", shown(digest))));
        }
        wanted.insert(path, digest);
    }
    let mut found: BTreeMap<String, Layer> = BTreeMap::new();
    let mut reader = Reader::new(open().map_err(|e| broken(&e))?);
    while let Some(entry) = reader.next().map_err(|e| broken(&e))? {
        let Some(digest) = wanted.get(entry.name.as_str()).filter(|_| entry.file) else { continue };
        if found.values().all(|there| there.digest != **digest) {
            found.insert(entry.name, Layer { digest: (*digest).to_owned(), size: entry.size });
        }
    }
    Ok(found)
}

impl Repacked {
    /// Gives `out` the archive piece by piece, of that which it was made of. What `out` answers ends it, and so does a layer
    /// that is not what it should be.
    pub(in crate::image::container) fn write(
        mut self,
        open: Open<'_>,
        out: &mut dyn FnMut(Vec<u8>) -> io::Result<()>,
    ) -> io::Result<()> {
        for (name, bytes) in self.documents {
            let size = bytes.len() as u64;
            let mut whole = header(&name, size).to_vec();
            whole.extend(bytes);
            whole.resize(whole.len() + padding(size), 0);
            out(whole)?;
        }
        let mut reader = Reader::new(open()?);
        while let Some(entry) = reader.next()? {
            if !entry.file {
                continue;
            }
            if let Some(layer) = self.layers.remove(&entry.name) {
                layer.write(&mut reader.content(), out)?;
            }
        }
        match self.layers.keys().next() {
            Some(name) => Err(unlike(format!("{} is not there any more", shown(name)))),
            None => out(END.to_vec()),
        }
    }
}

impl Layer {
    fn write(
        &self,
        content: &mut dyn Read,
        out: &mut dyn FnMut(Vec<u8>) -> io::Result<()>,
    ) -> io::Result<()> {
        out(header(&blob(&self.digest), self.size).to_vec())?;
        let (mut left, mut hash) = (self.size, Sha256::new());
        while left > 0 {
            let most = usize::try_from(left).map_or(PIECE, |left| left.min(PIECE));
            let mut piece = vec![0; most];
            let count = content.read(&mut piece)?;
            if count == 0 {
                return Err(unlike(format!("the layer {} is shorter than it was", self.digest)));
            }
            piece.truncate(count);
            hash.update(&piece);
            left -= count as u64;
            out(piece)?;
        }
        let seen = format!("sha256:{}", hex::encode(hash.finalize()));
        if seen != self.digest {
            return Err(unlike(format!("the layer {} has the digest {seen}", self.digest)));
        }
        match padding(self.size) {
            0 => Ok(()),
            more => out(vec![0; more]),
        }
    }
}

fn unlike(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests;
