//! Archives that an engine's image comes in: looked at before the engine gets them, and handed on without their names.
//!
//! | in it                                     | it is                                                           |
//! |-------------------------------------------|-----------------------------------------------------------------|
//! | `manifest.json`                           | of Docker's layout, as `docker save` writes it                  |
//! | `oci-layout` and `index.json`             | of OCI's layout, as skopeo, buildah and buildkit write it       |
//! | neither, but folders as a system has them | a tree of files                                                 |
//!
//! The engine gets the same files with a `manifest.json` of ours before them, which names our mark and nothing else; so an
//! archive cannot take over a name that somebody has there. What is in the files is the engine's to check.
//!
//! What the engine gives of an image is of Docker's layout. It is handed on as it is, or repacked in OCI's.

mod repack;
mod rewrite;
mod tar;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io::{self, BufReader, Read};
use std::path::Path;

use serde::Deserialize;
use sha2::{Digest, Sha256};

pub(super) use repack::repack;
pub(super) use rewrite::rewrite;
use tar::Reader;

use crate::image::ImageError;

/// The longest document of an archive that is read.
const DOCUMENT_MAX: u64 = 4 << 20;
const MANIFEST: &str = "manifest.json";
const INDEX: &str = "index.json";
const LAYOUT: &str = "oci-layout";
/// Of a tree of files at least one of these is expected.
const ROOTS: [&str; 6] = ["bin", "etc", "lib", "sbin", "usr", "var"];

/// Opens an archive at its beginning; it is read more than once.
pub(super) type Open<'a> = &'a dyn Fn() -> io::Result<Box<dyn Read + Send>>;

/// What an archive was recognised as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Recognised {
    Image(Inside),
    Root,
}

/// The one image of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Inside {
    pub(super) format: &'static str,
    /// The engine's id of it: the digest of its configuration.
    pub(super) id: String,
    /// Paths in the archive.
    pub(super) config: String,
    pub(super) layers: Vec<String>,
}

/// A file that may be compressed.
pub(super) fn open_file(path: &Path) -> io::Result<Box<dyn Read + Send>> {
    let mut file = std::fs::File::open(path)?;
    let mut head = [0; 2];
    let count = file.read(&mut head)?;
    io::Seek::rewind(&mut file)?;
    let file = BufReader::with_capacity(256 << 10, file);
    Ok(if count == 2 && head == [0x1f, 0x8b] {
        Box::new(flate2::read::MultiGzDecoder::new(file))
    } else {
        Box::new(file)
    })
}

/// What is in it. Refused where that is no image, or more than one.
pub(super) fn recognise(open: Open<'_>) -> Result<Recognised, ImageError> {
    let survey = survey(open)?;
    if survey.manifest {
        return docker(open).map(Recognised::Image);
    }
    if survey.index && survey.layout {
        return oci(open).map(Recognised::Image);
    }
    if survey.root {
        return Ok(Recognised::Root);
    }
    Err(refused(
        "is neither an archive of Docker's or OCI's layout nor a tree of files with /bin, /etc or /usr",
    ))
}

pub(super) fn refused(why: impl std::fmt::Display) -> ImageError {
    ImageError::Refused(format!("the archive {why}"))
}

/// An archive's own error, or the file system's.
pub(super) fn broken(error: &io::Error) -> ImageError {
    match error.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidInput => {
            refused(error)
        }
        _ => crate::image::host::run::broken("reading the archive", error),
    }
}

#[derive(Default)]
struct Survey {
    manifest: bool,
    index: bool,
    layout: bool,
    root: bool,
}

fn survey(open: Open<'_>) -> Result<Survey, ImageError> {
    let mut reader = Reader::new(open().map_err(|e| broken(&e))?);
    let mut seen = Survey::default();
    while let Some(entry) = reader.next().map_err(|e| broken(&e))? {
        match entry.name.as_str() {
            MANIFEST => seen.manifest = true,
            INDEX => seen.index = true,
            LAYOUT => seen.layout = true,
            name => {
                let top = name.split('/').next().unwrap_or_default();
                seen.root |= ROOTS.contains(&top);
            }
        }
    }
    Ok(seen)
}

/// The files of these names. Each must be there.
fn documents(open: Open<'_>, names: &[&str]) -> Result<BTreeMap<String, Vec<u8>>, ImageError> {
    let mut reader = Reader::new(open().map_err(|e| broken(&e))?);
    let mut found = BTreeMap::new();
    while let Some(entry) = reader.next().map_err(|e| broken(&e))? {
        if entry.file && names.contains(&entry.name.as_str()) {
            if entry.size > DOCUMENT_MAX {
                return Err(refused(format!("has a {} of {} bytes", shown(&entry.name), entry.size)));
            }
            let mut bytes = Vec::new();
            reader.content().read_to_end(&mut bytes).map_err(|e| broken(&e))?;
            found.insert(entry.name, bytes);
            if names.iter().all(|name| found.contains_key(*name)) {
                break;
            }
        }
    }
    match names.iter().find(|name| !found.contains_key(**name)) {
        Some(missing) => Err(refused(format!("has no {}, which it needs", shown(missing)))),
        None => Ok(found),
    }
}

fn document(open: Open<'_>, name: &str) -> Result<Vec<u8>, ImageError> {
    Ok(documents(open, &[name])?.remove(name).unwrap_or_default())
}

fn shown(name: &str) -> String {
    name.chars().take(100).flat_map(char::escape_debug).collect()
}

fn parsed<'a, T: Deserialize<'a>>(name: &str, bytes: &'a [u8]) -> Result<T, ImageError> {
    serde_json::from_slice(bytes)
        .map_err(|e| refused(format!("has a {} that cannot be read: {e}", shown(name))))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    layers: Vec<String>,
}

fn docker(open: Open<'_>) -> Result<Inside, ImageError> {
    let bytes = document(open, MANIFEST)?;
    let mut images: Vec<DockerImage> = parsed(MANIFEST, &bytes)?;
    let count = images.len();
    let Some(image) = images.pop().filter(|_| count == 1) else {
        return Err(refused(format!("holds {count} images; one is taken at a time")));
    };
    inside(open, "docker archive", image.config, image.layers)
}

fn inside(
    open: Open<'_>,
    format: &'static str,
    config: String,
    layers: Vec<String>,
) -> Result<Inside, ImageError> {
    let bytes = document(open, &config)?;
    let _: serde_json::Map<String, serde_json::Value> = parsed(&config, &bytes)?;
    let id = format!("sha256:{}", hex::encode(Sha256::digest(&bytes)));
    Ok(Inside { format, id, config, layers })
}

#[derive(Deserialize)]
struct OciIndex {
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    platform: Option<Platform>,
}

#[derive(Deserialize)]
struct Platform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
}

#[derive(Deserialize)]
struct OciManifest {
    config: Descriptor,
    layers: Vec<Descriptor>,
}

impl Descriptor {
    /// Whether this host may run it: what does not say is taken.
    fn suits(&self) -> bool {
        let here = if std::env::consts::ARCH == "x86_64" { "amd64" } else { "arm64" };
        self.platform.as_ref().is_none_or(|p| p.os == "linux" && p.architecture == here)
    }
    fn path(&self) -> Result<String, ImageError> {
        if agentd_api::image::is_digest(&self.digest) {
            return Ok(format!("blobs/sha256/{}", &self.digest["sha256:".len()..]));
        }
        Err(refused(format!("names the digest '{}', which is none", shown(&self.digest))))
    }
}

fn oci(open: Open<'_>) -> Result<Inside, ImageError> {
    let mut bytes = document(open, INDEX)?;
    // An index may lead to another, which lists an image's platforms.
    for _ in 0..3 {
        let index: OciIndex = parsed(INDEX, &bytes)?;
        let mut suiting: Vec<&Descriptor> = index.manifests.iter().filter(|m| m.suits()).collect();
        let count = suiting.len();
        let Some(one) = suiting.pop().filter(|_| count == 1) else {
            return Err(refused(format!("holds {count} images for this host; one is taken at a time")));
        };
        let path = one.path()?;
        bytes = document(open, &path)?;
        if hex::encode(Sha256::digest(&bytes)) != one.digest["sha256:".len()..] {
            return Err(refused(format!("holds a {path} whose digest is another")));
        }
        if one.media_type.contains("manifest.list") || one.media_type.contains("image.index") {
            continue;
        }
        let manifest: OciManifest = parsed(&path, &bytes)?;
        let layers = manifest.layers.iter().map(Descriptor::path).collect::<Result<_, _>>()?;
        return inside(open, "oci archive", manifest.config.path()?, layers);
    }
    Err(refused("has an index of indexes"))
}
