//! What came in an archive of a VM, stored as an image's content is: checked and converted by the same steps.

use std::path::{Path, PathBuf};

use agentd_api::ByteSize;
use uuid::Uuid;

use super::HostImage;
use super::convert;
use super::run::files;
use super::store::{CMDLINE, DISK, INITRD, KERNEL, disk_size};
use crate::image::format::Format;
use crate::image::{ImageContent, ImageError, Work};
use crate::vm::DirectBoot;

/// A disk, and the kernel that boots it where it has one.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) disk: PathBuf,
    pub(crate) boot: Option<DirectBoot>,
    /// As the image beneath it was recognised where it came from.
    pub(crate) source_format: String,
}

/// A disk that was checked and converted.
#[derive(Debug)]
pub(crate) struct Converted {
    pub(crate) disk: PathBuf,
    pub(crate) virtual_size: ByteSize,
}

impl HostImage {
    /// Checks and converts a disk that was sent. What comes of it lies below `incoming/<import>`, until the next one.
    pub(crate) async fn convert_archived(&self, import: Uuid, disk: &Path) -> Result<Converted, ImageError> {
        let folder = self.converted(disk, &Work::detached(import)).await?;
        let disk = folder.join(DISK);
        let made = disk.clone();
        let size = files("looking at a disk", move || disk_size(&made)).await?;
        Ok(Converted { disk, virtual_size: ByteSize(size) })
    }

    async fn converted(&self, disk: &Path, work: &Work) -> Result<PathBuf, ImageError> {
        let scratch = self.incoming(work.image).join("work");
        let (folder, format) = convert::convert(disk, &scratch, work).await?;
        if format == Format::Qcow2 {
            return Ok(folder);
        }
        let name = disk.file_name().unwrap_or_default().to_string_lossy();
        Err(ImageError::Refused(format!("{name} in the archive is no qcow2 file")))
    }

    /// Stores it under its digest.
    pub(crate) async fn store_archived(
        &self,
        import: Uuid,
        parts: Parts,
    ) -> Result<ImageContent, ImageError> {
        let work = Work::detached(import);
        let folder = self.converted(&parts.disk, &work).await?;
        if let Some(boot) = parts.boot {
            let folder = folder.clone();
            files("storing the kernel", move || {
                std::fs::copy(&boot.kernel, folder.join(KERNEL))?;
                std::fs::copy(&boot.initrd, folder.join(INITRD))?;
                std::fs::write(folder.join(CMDLINE), boot.cmdline)
            })
            .await?;
        }
        self.publish(folder, &parts.source_format, &work).await
    }
}
