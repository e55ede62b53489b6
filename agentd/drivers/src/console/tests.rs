use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::*;

struct Log {
    folder: tempfile::TempDir,
}

impl Log {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder") }
    }
    fn path(&self) -> PathBuf {
        self.folder.path().join("console.log")
    }
    fn says(&self, text: &str) {
        let mut file = OpenOptions::new().create(true).append(true).open(self.path()).expect("the log");
        file.write_all(text.as_bytes()).expect("written");
    }
    /// As virtlogd rotates, keeping two.
    fn rotate(&self) {
        let name = |n: usize| self.folder.path().join(format!("console.log.{n}"));
        let _ = std::fs::remove_file(name(1));
        let _ = std::fs::rename(name(0), name(1));
        std::fs::rename(self.path(), name(0)).expect("renamed");
    }
    fn snapshot(&self) -> Snapshot {
        Snapshot::take(&self.path()).expect("a snapshot")
    }
    fn from(&self, position: u64) -> Reader {
        Reader::new(self.snapshot(), position)
    }
}

/// All that there is to read now, with `<gap>` where something is missing.
fn rest(reader: &mut Reader) -> String {
    let (mut out, mut buffer) = (String::new(), [0; 7]);
    loop {
        match reader.read(&mut buffer).expect("read") {
            Piece::Data(read) => out.push_str(std::str::from_utf8(&buffer[..read]).expect("text")),
            Piece::Gap => out.push_str("<gap>"),
            Piece::Nothing => return out,
        }
    }
}

#[test]
fn what_is_not_there_yet_is_read_once_it_is() {
    let log = Log::new();
    let mut reader = log.from(0);
    assert_eq!(rest(&mut reader), "");
    log.says("one\n");
    assert_eq!(rest(&mut reader), "one\n");
    assert_eq!(rest(&mut reader), "");
    log.says("two\n");
    assert_eq!(rest(&mut reader), "two\n");
}

#[test]
fn each_byte_is_read_once_over_rotations() {
    let log = Log::new();
    log.says("a 1\n");
    let mut reader = log.from(0);
    assert_eq!(rest(&mut reader), "a 1\n");
    log.says("a 2\n");
    log.rotate();
    assert_eq!(rest(&mut reader), "a 2\n", "between two names");
    log.says("b\n");
    log.rotate();
    log.says("c\n");
    assert_eq!(rest(&mut reader), "b\nc\n");
    assert_eq!(rest(&mut log.from(0)), "a 1\na 2\nb\nc\n");
}

#[test]
fn what_is_no_longer_kept_is_a_gap_and_not_silence() {
    let log = Log::new();
    log.says("a\n");
    let mut reader = log.from(0);
    assert_eq!(rest(&mut reader), "a\n");
    for text in ["b\n", "c\n", "d\n"] {
        log.rotate();
        log.says(text);
    }
    assert_eq!(rest(&mut reader), "<gap>b\nc\nd\n");
    std::fs::write(log.path(), "").expect("emptied");
    assert_eq!(rest(&mut reader), "<gap>");
    log.says("e\n");
    assert_eq!(rest(&mut reader), "e\n");
}

#[test]
fn the_last_lines_are_found_over_files() {
    let long = format!("{}\n", "x".repeat(100_000));
    for (files, lines, wanted) in [
        (vec!["a\nb\nc\n"], 2, "b\nc\n"),
        (vec!["a\nb\nc"], 2, "b\nc"),
        (vec!["a\nb\n"], 5, "a\nb\n"),
        (vec!["a\n\n\n"], 1, "\n"),
        (vec![], 3, ""),
        (vec!["a\n"], 0, ""),
        (vec!["a\nb", "b\nc\n"], 2, "bb\nc\n"),
        (vec!["a\n", "b\n", "c\n"], 2, "b\nc\n"),
        (vec![&long, &long], 1, &long),
    ] {
        let log = Log::new();
        for (n, file) in files.iter().enumerate() {
            if n > 0 {
                log.rotate();
            }
            log.says(file);
        }
        let snapshot = log.snapshot();
        let position = snapshot.last_lines(lines).expect("found");
        let found = rest(&mut Reader::new(snapshot, position));
        assert!(found == wanted, "{lines} of {files:.30?} gave {} bytes", found.len());
    }
}

#[test]
fn a_snapshot_knows_its_length() {
    let log = Log::new();
    assert_eq!(log.snapshot().length(), 0);
    log.says("four");
    log.rotate();
    log.says("five5");
    assert_eq!(log.snapshot().length(), 9);
    assert!(Snapshot::take(Path::new("/proc/self/mem/x")).is_err(), "what cannot be read is told");
}
