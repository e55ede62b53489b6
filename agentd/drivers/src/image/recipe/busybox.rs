//! busybox for an initrd: one program without libraries that is a shell and all that it calls.

use std::path::Path;

use super::Kitchen;
use super::apt::Apt;
use crate::exec::Program;
use crate::image::ImageError;
use crate::image::host::run::files;

/// The host's busybox and the names it goes by, where it needs no libraries and has the applets that are wanted; else
/// the distribution's.
pub(super) async fn busybox(
    kitchen: &Kitchen<'_>,
    apt: Option<&Apt<'_>>,
    wanted: &[&str],
) -> Result<(Vec<u8>, Vec<String>), ImageError> {
    for path in ["/bin/busybox", "/usr/bin/busybox"] {
        match usable(kitchen, Path::new(path), wanted).await {
            Err(ImageError::Failed { .. }) => {}
            found => return found,
        }
    }
    let root = kitchen.scratch.join("busybox");
    match apt {
        Some(apt) => apt.unpack("busybox-static", &root).await?,
        None => Apt::open(kitchen).await?.unpack("busybox-static", &root).await?,
    }
    usable(kitchen, &root.join("bin/busybox"), wanted).await
}

async fn usable(
    kitchen: &Kitchen<'_>,
    path: &Path,
    wanted: &[&str],
) -> Result<(Vec<u8>, Vec<String>), ImageError> {
    const STEP: &str = "looking at busybox";
    let failed = |detail: String| ImageError::Failed { step: STEP.to_owned(), detail };
    let from = path.to_owned();
    let bytes = files(STEP, move || std::fs::read(from)).await?;
    if needs_libraries(&bytes) {
        return Err(failed(format!("{} needs libraries", path.display())));
    }
    let list = Program::new(path.to_string_lossy()).arg("--list");
    let text = kitchen.run(STEP, list).await?;
    let applets: Vec<String> = String::from_utf8_lossy(&text).lines().map(str::to_owned).collect();
    match wanted.iter().find(|wanted| !applets.iter().any(|a| a == *wanted)) {
        Some(lacks) => Err(failed(format!("{} has no {lacks}", path.display()))),
        None => Ok((bytes, applets)),
    }
}

/// Whether a 64-bit ELF asks for a loader (a program header of type PT_INTERP), or is none.
fn needs_libraries(elf: &[u8]) -> bool {
    let number = |at: usize, width: usize| {
        let bytes = elf.get(at..at + width).unwrap_or_default();
        bytes.iter().rev().fold(0usize, |n, b| n << 8 | usize::from(*b))
    };
    if !elf.starts_with(b"\x7fELF\x02\x01") {
        return true;
    }
    let (table, size, count) = (number(32, 8), number(54, 2), number(56, 2));
    (0..count).any(|n| number(table.saturating_add(n * size), 4) == 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_with_a_loader_is_told_from_one_without() {
        assert!(needs_libraries(b"#!/bin/sh\n"));
        assert!(needs_libraries(&std::fs::read("/usr/bin/env").expect("/usr/bin/env")));
        let busybox = std::fs::read("/bin/busybox").expect("the package busybox-static");
        assert!(!needs_libraries(&busybox));
    }
}
