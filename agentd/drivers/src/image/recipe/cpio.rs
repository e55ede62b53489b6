//! Writes the archive that a kernel unpacks as its first file system (cpio, "newc"; the kernel's
//! Documentation/driver-api/early-userspace/buffer-format.rst).

/// Grows in memory; an initrd of ours is a few MiB.
#[derive(Debug, Default)]
pub(super) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

const DIRECTORY: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;
const CHARACTER: u32 = 0o020_000;

impl Archive {
    pub(super) fn folder(&mut self, path: &str) {
        self.entry(path, DIRECTORY | 0o755, (0, 0), &[]);
    }
    pub(super) fn file(&mut self, path: &str, content: &[u8]) {
        self.entry(path, FILE | 0o644, (0, 0), content);
    }
    pub(super) fn program(&mut self, path: &str, content: &[u8]) {
        self.entry(path, FILE | 0o755, (0, 0), content);
    }
    pub(super) fn link(&mut self, path: &str, target: &str) {
        self.entry(path, LINK | 0o777, (0, 0), target.as_bytes());
    }
    pub(super) fn device(&mut self, path: &str, major: u32, minor: u32) {
        self.entry(path, CHARACTER | 0o600, (major, minor), &[]);
    }
    /// The whole archive, ended as it must be.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), content: &[u8]) {
        self.entries += 1;
        let length = u32::try_from(content.len()).expect("no file of an initrd has 4 GiB");
        let named = u32::try_from(path.len() + 1).expect("a path is short");
        let links = if mode & DIRECTORY == DIRECTORY { 2 } else { 1 };
        let fields = [self.entries, mode, 0, 0, links, 0, length, 0, 0, device.0, device.1, named, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::Program;

    #[tokio::test]
    async fn cpio_reads_what_was_written() {
        let mut archive = Archive::default();
        archive.folder("bin");
        archive.program("bin/run", b"#!/bin/sh\n");
        archive.link("bin/sh", "run");
        archive.device("console", 5, 1);
        let bytes = archive.finish();
        let list = Program::new("cpio")
            .args(["--list", "--verbose", "--quiet"])
            .stdin(bytes)
            .run()
            .await
            .expect("cpio");
        let text = String::from_utf8(list).expect("text");
        for (mode, name) in [
            ("drwxr-xr-x", "bin"),
            ("-rwxr-xr-x", "bin/run"),
            ("lrwxrwxrwx", "bin/sh -> run"),
            ("crw-------", "console"),
        ] {
            assert!(
                text.lines().any(|l| l.starts_with(mode) && l.ends_with(name)),
                "{mode} {name} in {text}"
            );
        }
        assert!(text.contains("5,   1"), "{text}");
    }
}
