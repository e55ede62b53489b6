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

fn at(millis: u64) -> agentd_api::Timestamp {
    agentd_api::Timestamp(millis)
}

/// What is given for that time, by marks read from their file.
fn since(log: &Log, millis: u64) -> String {
    let (snapshot, marks) = (log.snapshot(), Marks::read(&log.path()).expect("marks"));
    let position = marks.since(&snapshot, at(millis)).expect("a position");
    rest(&mut Reader::new(snapshot, position))
}

impl Log {
    /// Says this at that time, and has it marked where somebody follows.
    fn says_at(&self, text: &str, millis: u64, marks: Option<&mut Marks>) {
        self.says(text);
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_millis(millis);
        OpenOptions::new()
            .write(true)
            .open(self.path())
            .expect("the log")
            .set_modified(time)
            .expect("a time");
        if let Some(marks) = marks {
            marks.keep_up().expect("marked");
        }
    }
    fn marks(&self) -> Marks {
        Marks::read(&self.path()).expect("marks")
    }
}

#[test]
fn marks_tell_when_something_was_said() {
    let log = Log::new();
    let mut marks = log.marks();
    marks.keep_up().expect("nothing to mark");
    log.says_at("a\n", 10_000, Some(&mut marks));
    log.says_at("a again\n", 10_500, Some(&mut marks));
    log.says_at("b\n", 20_000, Some(&mut marks));
    log.rotate();
    log.says_at("c\n", 30_000, Some(&mut marks));
    for (time, wanted) in [
        (0, "a\na again\nb\nc\n"),
        (10_900, "a\na again\nb\nc\n"),
        (12_000, "b\nc\n"),
        (20_900, "b\nc\n"),
        (25_000, "c\n"),
        (40_000, ""),
    ] {
        assert_eq!(since(&log, time), wanted, "{time}");
    }
}

#[test]
fn what_nobody_followed_counts_as_of_its_files_last_write() {
    let log = Log::new();
    log.says_at("before\n", 5_000, None);
    log.rotate();
    log.says_at("early\n", 10_000, None);
    assert_eq!(since(&log, 7_000), "early\n", "no marks at all");
    let mut marks = log.marks();
    marks.keep_up().expect("marked");
    log.says_at("seen\n", 20_000, Some(&mut marks));
    drop(marks);
    log.says_at("unseen\n", 30_000, None);
    assert_eq!(since(&log, 29_000), "seen\nunseen\n", "it begins too early rather than too late");
    let mut marks = log.marks();
    marks.keep_up().expect("marked");
    log.says_at("seen again\n", 40_000, Some(&mut marks));
    assert_eq!(since(&log, 35_000), "seen again\n");
    assert_eq!(since(&log, 50_000), "");
}

#[test]
fn a_mark_that_was_cut_short_spoils_no_other() {
    let log = Log::new();
    log.says_at("a\n", 10_000, Some(&mut log.marks()));
    let file = log.path().with_extension("marks");
    OpenOptions::new().append(true).open(file).expect("marks").write_all(b"half a record").expect("written");
    let mut marks = log.marks();
    log.says_at("b\n", 20_000, Some(&mut marks));
    log.says_at("c\n", 30_000, Some(&mut marks));
    assert_eq!(since(&log, 25_000), "c\n");
    assert_eq!(since(&log, 5_000), "a\nb\nc\n");
}

#[test]
fn marks_are_bounded_and_never_begin_too_late() {
    let log = Log::new();
    let mut marks = log.marks();
    for n in 0..20_000u64 {
        log.says_at(&format!("{n}\n"), n * 2_000, Some(&mut marks));
    }
    let size = std::fs::metadata(log.path().with_extension("marks")).expect("marks").len();
    assert!(size <= 32 * (16 << 10), "{size} bytes of marks");
    for n in [0u64, 1, 5_000, 12_345, 19_999] {
        let found = since(&log, n * 2_000);
        let first: u64 = found.lines().next().and_then(|l| l.parse().ok()).expect("a line");
        assert!(first <= n && n - first <= 2, "since {n} it begins with {first}");
    }
}

#[tokio::test]
async fn growth_and_rotation_are_told() {
    let limit = std::time::Duration::from_secs(10);
    let log = Log::new();
    let watches = Watches::begin();
    let (mut one, mut other) = (watches.on(&log.path()), watches.on(&log.path()));
    let mut reader = log.from(0);
    for round in 0..3 {
        for text in ["a\n", "b\n"] {
            log.says(text);
            let told = async {
                let mut said = String::new();
                while said != text {
                    one.changed().await;
                    said.push_str(&rest(&mut reader));
                }
            };
            tokio::time::timeout(limit, told).await.unwrap_or_else(|_| panic!("{text:?} in round {round}"));
        }
        log.rotate();
    }
    tokio::time::timeout(limit, other.changed()).await.expect("told too");
    drop(one);
    log.says("c\n");
    tokio::time::timeout(limit, other.changed()).await.expect("one that leaves takes nothing from the other");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_typed_arrives_and_what_is_said_is_read_away() {
    use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};
    use std::io::Read;
    let pair = nix::pty::openpty(None, None).expect("a terminal");
    let mut raw = tcgetattr(&pair.slave).expect("its settings");
    cfmakeraw(&mut raw);
    tcsetattr(&pair.slave, SetArg::TCSANOW, &raw).expect("set");
    let name = nix::unistd::ttyname(&pair.slave).expect("a name");
    let input = Input::open(&name).expect("opened");
    drop(pair.slave);
    let mut guest = std::fs::File::from(pair.master);
    // More than a terminal holds: it is taken only because it is read.
    guest.write_all(&vec![b'x'; 1 << 20]).expect("said");
    input.write(b"typed\r".to_vec()).await.expect("typed");
    let mut typed = [0; 6];
    guest.read_exact(&mut typed).expect("read");
    assert_eq!(&typed, b"typed\r");
    assert!(!input.is_gone());
    drop(guest);
    let gone = async {
        while input.write(b"x".to_vec()).await.is_ok() {}
        while !input.is_gone() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), gone).await.expect("the end is seen");
}

#[tokio::test]
async fn what_was_typed_last_has_time_to_be_taken() {
    use std::io::Read;
    use std::os::fd::AsFd;

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    let pair = nix::pty::openpty(None, None).expect("a terminal");
    let name = nix::unistd::ttyname(&pair.slave).expect("a name");
    let open = || Input::open(&name).expect("opened");
    let (input, untouched) = (open(), open());
    drop(pair.slave);
    let mut guest = std::fs::File::from(pair.master);
    let hung_up = |guest: &std::fs::File| {
        let mut seen = [PollFd::new(guest.as_fd(), PollFlags::POLLOUT)];
        poll(&mut seen, PollTimeout::ZERO).expect("polled");
        seen[0].revents().is_some_and(|events| events.contains(PollFlags::POLLHUP))
    };
    let began = std::time::Instant::now();
    input.write(b"typed\r".to_vec()).await.expect("typed");
    // Nothing was typed into the other: it is no reason to wait.
    drop((input, untouched));
    // QEMU looks at it no sooner than this.
    tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
    assert!(!hung_up(&guest), "closed {:?} after the last was typed", began.elapsed());
    let mut typed = [0; 6];
    guest.read_exact(&mut typed).expect("read");
    assert_eq!(&typed, b"typed\r");
    while !hung_up(&guest) {
        assert!(began.elapsed() < std::time::Duration::from_secs(10), "it is never closed");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}
