//! From a file that somebody sent to a qcow2 of our own.
//!
//! The order matters: our own look at the headers first (see [`crate::image::format`]), then qemu-img with the format
//! named, which must see the same and nothing that leads out of the file, then a check of its tables, then the
//! conversion, which copies what a guest would see and nothing else. The file is held by a link of its own from
//! beginning to end, so that a second upload cannot be slipped in between.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use agentd_api::vm::{DISK_MAX, DISK_MIN};
use serde::Deserialize;
use serde_json::Value;

use super::meter;
use super::run::{blocking, broken, failed, qemu_img, report};
use super::store::{DISK, fresh_folder};
use crate::exec::ExecError;
use crate::image::format::{Format, FormatError, recognise};
use crate::image::{ImageError, Work};

const LOOK: Duration = Duration::from_secs(60);
const CHECK: Duration = Duration::from_secs(30 * 60);
const CONVERT: Duration = Duration::from_secs(6 * 3600);

/// Checks `file` and converts it. Answers the folder that the new disk lies in, below `scratch`, and what the file was.
pub(super) async fn convert(
    file: &Path,
    scratch: &Path,
    work: &Work,
) -> Result<(PathBuf, Format), ImageError> {
    report(work, "checking", 0, None, "steps");
    let (from, scratch) = (file.to_owned(), scratch.to_owned());
    let (source, content, recognised) = blocking("checking", move || {
        let io = |error: std::io::Error| broken("checking", &error);
        let scratch = fresh_folder(scratch).map_err(io)?;
        let source = scratch.join("source");
        std::fs::hard_link(&from, &source).map_err(io)?;
        let content = fresh_folder(scratch.join("content")).map_err(io)?;
        let mut open = File::open(&source).map_err(io)?;
        let recognised = recognise(&mut open).map_err(|error| match error {
            FormatError::Refused(why) => ImageError::Refused(format!("the file {why}")),
            FormatError::Read(error) => broken("checking", &error),
        })?;
        Ok((source, content, recognised))
    })
    .await?;
    let format = recognised.format;
    look(&source, format, recognised.virtual_size, work).await?;
    if !matches!(format, Format::Raw | Format::Iso) {
        check(&source, format, work).await?;
    }
    copy(&source, &content.join(DISK), format, work).await?;
    Ok((content, format))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Info {
    virtual_size: u64,
    format: String,
    backing_filename: Option<String>,
    full_backing_filename: Option<String>,
    #[serde(default)]
    encrypted: bool,
    format_specific: Option<Value>,
}

/// What qemu-img sees in it must be what we saw.
async fn look(file: &Path, format: Format, size: Option<u64>, work: &Work) -> Result<(), ImageError> {
    let program = qemu_img(work, ["info", "--output=json", "-f", format.qemu()])?.arg(file).deadline(LOOK);
    let text = program.run().await.map_err(|error| unreadable(format, error))?;
    let info: Info = serde_json::from_slice(&text).map_err(|error| ImageError::Failed {
        step: "checking".to_owned(),
        detail: format!("qemu-img info cannot be understood: {error}"),
    })?;
    judge(&info, file, format, size).map_err(|why| ImageError::Refused(format!("the file {why}")))
}

fn judge(info: &Info, file: &Path, format: Format, size: Option<u64>) -> Result<(), String> {
    if info.format != format.qemu() || size.is_some_and(|size| size != info.virtual_size) {
        return Err("is one thing by its header and another by its content".to_owned());
    }
    if info.backing_filename.is_some() || info.full_backing_filename.is_some() {
        return Err("refers to a backing file".to_owned());
    }
    if info.encrypted {
        return Err("is encrypted".to_owned());
    }
    let data = info.format_specific.as_ref().map(|specific| &specific["data"]);
    if let Some(data) = data {
        let other = |path: &Value| path.as_str().is_none_or(|path| Path::new(path) != file);
        let extents = data["extents"].as_array();
        if !data["data-file"].is_null() || extents.is_some_and(|e| e.iter().any(|e| other(&e["filename"]))) {
            return Err("refers to another file".to_owned());
        }
    }
    let range = DISK_MIN.bytes().min(1 << 20)..=DISK_MAX.bytes();
    if !range.contains(&info.virtual_size) || !info.virtual_size.is_multiple_of(512) {
        return Err(format!("holds a disk of {} bytes; 1MiB to {DISK_MAX} are possible", info.virtual_size));
    }
    Ok(())
}

/// Tables that point behind the end of the file would be read as zeros; a file that was cut off is found here.
async fn check(file: &Path, format: Format, work: &Work) -> Result<(), ImageError> {
    let program = qemu_img(work, ["check", "--output=json", "-f", format.qemu()])?.arg(file).deadline(CHECK);
    match program.run().await {
        Ok(_) => Ok(()),
        Err(ExecError::Status { status, .. }) if status == "exit status: 3" => Ok(()),
        Err(ExecError::Status { status, .. }) if status == "exit status: 2" => {
            Err(ImageError::Refused(format!(
                "the file is a damaged {}: it was cut off, or its tables are wrong (qemu-img check)",
                format.as_str()
            )))
        }
        Err(error) => Err(unreadable(format, error)),
    }
}

/// qemu-img's refusal of a file is a refusal; anything else that goes wrong with it is not the file's fault.
fn unreadable(format: Format, error: ExecError) -> ImageError {
    match error {
        ExecError::Status { status, stderr, .. } if status == "exit status: 1" => {
            // The path in it is ours and tells nobody anything.
            let why = stderr.rsplit("': ").next().unwrap_or(&stderr).trim();
            ImageError::Refused(format!("the file is a damaged {}: {why}", format.as_str()))
        }
        error => failed("checking", error),
    }
}

async fn copy(file: &Path, disk: &Path, format: Format, work: &Work) -> Result<(), ImageError> {
    const STEP: &str = "converting";
    let total = written(file).max(1);
    let program = qemu_img(work, ["convert", "-q", "-f", format.qemu(), "-O", "qcow2"])?
        .arg(file)
        .arg(disk)
        .deadline(CONVERT);
    let look = || report(work, STEP, written(disk).min(total), Some(total), "bytes");
    meter::beside(program.run(), look).await.map_err(|error| failed(STEP, error))?;
    Ok(())
}

/// The bytes of a file that are on the disk, holes not counted.
fn written(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |m| m.blocks() * 512)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(json: &str) -> Result<(), String> {
        let info: Info = serde_json::from_str(json).expect("JSON");
        judge(&info, Path::new("/a/source"), Format::Vmdk, None)
    }

    #[test]
    fn what_leads_out_of_the_file_is_refused() {
        let with = |more: &str| judged(&format!(r#"{{"virtual-size": 1048576, "format": "vmdk"{more}}}"#));
        with("").expect("plain");
        with(r#", "format-specific": {"data": {"extents": [{"filename": "/a/source"}]}}"#).expect("itself");
        for more in [
            r#", "backing-filename": "/etc/shadow""#,
            r#", "full-backing-filename": "/etc/shadow""#,
            r#", "encrypted": true"#,
            r#", "format-specific": {"data": {"extents": [{"filename": "/etc/shadow"}]}}"#,
            r#", "format-specific": {"data": {"data-file": "/etc/shadow"}}"#,
        ] {
            with(more).expect_err(more);
        }
        judged(r#"{"virtual-size": 1048576, "format": "qcow2"}"#).expect_err("another format");
        judged(r#"{"virtual-size": 512, "format": "vmdk"}"#).expect_err("too small");
        judged(r#"{"virtual-size": 1048577, "format": "vmdk"}"#).expect_err("no whole sectors");
    }
}
