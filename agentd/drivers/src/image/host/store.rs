//! Finished images, each in a folder named by the digest of its content.
//!
//! A folder is filled elsewhere, synced, and renamed to its place in one step, so that what is in `images/` is whole.
//! What its manifest does not match any more counts as not there, and the next image of the same content replaces it.

use std::fs::{self, File, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use agentd_api::ByteSize;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use super::run::broken;
use crate::image::{ImageContent, ImageError};
use crate::vm::DirectBoot;

pub(crate) const DISK: &str = "disk.qcow2";
pub(crate) const KERNEL: &str = "kernel";
pub(crate) const INITRD: &str = "initrd";
pub(crate) const CMDLINE: &str = "cmdline";
const MANIFEST: &str = "manifest.json";
const STEP: &str = "storing the image";

#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    version: u32,
    virtual_size: ByteSize,
    source_format: String,
    files: Vec<Entry>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    name: String,
    size: u64,
    sha256: String,
}

/// Puts a folder that holds a disk (and a kernel with what belongs to it) to its place. `told` hears of each piece of
/// bytes that was read. Where the same content is stored already, that stays and the folder is removed.
pub(super) fn publish(
    images: &Path,
    folder: &Path,
    source_format: &str,
    cancel: &CancellationToken,
    told: &mut dyn FnMut(u64),
) -> Result<ImageContent, ImageError> {
    let io = |error: io::Error| broken(STEP, &error);
    let mut files = Vec::new();
    for name in [DISK, KERNEL, INITRD, CMDLINE] {
        let path = folder.join(name);
        if path.exists() {
            let (size, sha256) = digest_file(&path, cancel, told)?;
            files.push(Entry { name: name.to_owned(), size, sha256 });
            fs::set_permissions(&path, Permissions::from_mode(0o644)).map_err(io)?;
            sync(&path).map_err(io)?;
        }
    }
    let hex = content_digest(&files);
    let virtual_size = ByteSize(disk_size(&folder.join(DISK)).map_err(io)?);
    let manifest = Manifest { version: 1, virtual_size, source_format: source_format.to_owned(), files };
    let text = serde_json::to_vec_pretty(&manifest).expect("a manifest is plain data");
    fs::write(folder.join(MANIFEST), text).map_err(io)?;
    fs::set_permissions(folder.join(MANIFEST), Permissions::from_mode(0o644)).map_err(io)?;
    fs::set_permissions(folder, Permissions::from_mode(0o755)).map_err(io)?;
    sync(&folder.join(MANIFEST)).and_then(|()| sync(folder)).map_err(io)?;
    ensure_folder(images).map_err(io)?;
    if let Some(there) = observe(images, &hex).map_err(io)? {
        fs::remove_dir_all(folder).map_err(io)?;
        // It may have been another format before it became the same content.
        return Ok(ImageContent { source_format: source_format.to_owned(), ..there });
    }
    let place = images.join(&hex);
    remove(images, &hex).map_err(io)?;
    fs::rename(folder, &place).and_then(|()| sync(images)).map_err(io)?;
    observe(images, &hex).map_err(io)?.ok_or_else(|| ImageError::Failed {
        step: STEP.to_owned(),
        detail: format!("{} is not as it was written", place.display()),
    })
}

/// The digest of the disk where there is nothing else, and of the list of files where there is.
fn content_digest(files: &[Entry]) -> String {
    if let [disk] = files {
        return disk.sha256.clone();
    }
    let lines: String = files.iter().map(|f| format!("{}  {} {}\n", f.sha256, f.name, f.size)).collect();
    hex::encode(Sha256::digest(lines))
}

/// Length and SHA-256 of a file. Stops between two pieces when cancelled.
pub(super) fn digest_file(
    path: &Path,
    cancel: &CancellationToken,
    told: &mut dyn FnMut(u64),
) -> Result<(u64, String), ImageError> {
    let io = |error: io::Error| broken("reading the image", &error);
    let (mut file, mut hash) = (File::open(path).map_err(io)?, Sha256::new());
    let (mut piece, mut size) = (vec![0u8; 1 << 20], 0);
    loop {
        if cancel.is_cancelled() {
            return Err(ImageError::Cancelled);
        }
        let n = file.read(&mut piece).map_err(io)?;
        if n == 0 {
            return Ok((size, hex::encode(hash.finalize())));
        }
        hash.update(&piece[..n]);
        size += n as u64;
        told(n as u64);
    }
}

/// The stored content of that digest (64 digits), judged by its manifest and its files' lengths.
pub(super) fn observe(images: &Path, hex: &str) -> io::Result<Option<ImageContent>> {
    let folder = images.join(hex);
    let text = match fs::read(folder.join(MANIFEST)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let Ok(manifest) = serde_json::from_slice::<Manifest>(&text) else {
        tracing::warn!(folder = %folder.display(), "the image's manifest is damaged; the image counts as not there");
        return Ok(None);
    };
    for file in &manifest.files {
        let there = fs::metadata(folder.join(&file.name)).map(|m| m.len()).ok();
        if there != Some(file.size) {
            tracing::warn!(folder = %folder.display(), file = file.name, wanted = file.size, ?there,
                "a file of the image is not as it was stored; the image counts as not there");
            return Ok(None);
        }
    }
    let has = |name: &str| manifest.files.iter().any(|f| f.name == name);
    if manifest.version != 1 || !has(DISK) || content_digest(&manifest.files) != hex {
        tracing::warn!(folder = %folder.display(), "the manifest is not this image's; it counts as not there");
        return Ok(None);
    }
    let boot = if has(KERNEL) && has(INITRD) && has(CMDLINE) {
        let cmdline = fs::read_to_string(folder.join(CMDLINE))?.trim().to_owned();
        Some(DirectBoot { kernel: folder.join(KERNEL), initrd: folder.join(INITRD), cmdline })
    } else {
        None
    };
    Ok(Some(ImageContent {
        digest: format!("sha256:{hex}"),
        disk: folder.join(DISK),
        boot,
        virtual_size: manifest.virtual_size,
        stored_size: ByteSize(stored_size(&folder, &manifest.files)?),
        source_format: manifest.source_format,
    }))
}

/// What the files take on the disk, holes not counted.
fn stored_size(folder: &Path, files: &[Entry]) -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut all = 0;
    for file in files {
        all += fs::metadata(folder.join(&file.name))?.blocks() * 512;
    }
    Ok(all)
}

/// The size of the disk in a qcow2 file.
pub(super) fn disk_size(path: &Path) -> io::Result<u64> {
    let mut header = [0u8; 32];
    File::open(path)?.read_exact(&mut header)?;
    Ok(header[24..].iter().fold(0, |n, b| n << 8 | u64::from(*b)))
}

pub(super) fn list(images: &Path) -> io::Result<Vec<String>> {
    let names = names_in(images)?;
    let digests = names.into_iter().filter(|name| is_digest(name));
    Ok(digests.map(|name| format!("sha256:{name}")).collect())
}

/// Takes the folder out of sight by a rename, then removes it: one that is half gone is never seen as an image.
pub(super) fn remove(images: &Path, hex: &str) -> io::Result<()> {
    let (place, doomed) = (images.join(hex), images.join(format!(".removed-{hex}")));
    gone(fs::remove_dir_all(&doomed))?;
    match fs::rename(&place, &doomed) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        renamed => renamed?,
    }
    sync(images)?;
    gone(fs::remove_dir_all(&doomed))
}

/// Ends the removals that a crash cut short. They are out of sight already, so nothing waits for this.
pub(super) fn sweep(images: &Path) -> io::Result<()> {
    for name in names_in(images)?.iter().filter(|name| name.starts_with(".removed-")) {
        gone(fs::remove_dir_all(images.join(name)))?;
    }
    Ok(())
}

/// The digits of a digest as the API has it. None for anything else, which keeps paths out of here.
pub(super) fn digits(digest: &str) -> Option<&str> {
    digest.strip_prefix("sha256:").filter(|hex| is_digest(hex))
}

fn is_digest(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// What is in a folder; nothing where there is no folder.
pub(crate) fn names_in(folder: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names = entries
        .map(|entry| entry.map(|e| e.file_name().to_string_lossy().into_owned()))
        .collect::<io::Result<Vec<_>>>()?;
    names.sort_unstable();
    Ok(names)
}

/// Ok where what should be gone was gone already.
pub(crate) fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// A folder that others may pass through, for QEMU runs as another user.
pub(crate) fn ensure_folder(path: &Path) -> io::Result<()> {
    if !path.is_dir() {
        fs::create_dir_all(path)?;
        fs::set_permissions(path, Permissions::from_mode(0o711))?;
        path.parent().map_or(Ok(()), sync)?;
    }
    Ok(())
}

pub(crate) fn sync(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// A small file, in place of what was there; on the disk when this returns.
pub(crate) fn put(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(path);
    ensure_folder(folder)?;
    let beside = path.with_extension("new");
    fs::write(&beside, content)?;
    sync(&beside)?;
    fs::rename(&beside, path)?;
    sync(folder)
}

/// An empty folder, whatever an earlier try left there.
pub(crate) fn fresh_folder(path: PathBuf) -> io::Result<PathBuf> {
    gone(fs::remove_dir_all(&path))?;
    fs::create_dir_all(&path)?;
    Ok(path)
}
