use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use proptest::prelude::*;

use super::tar::{self, Entry, Kind};
use super::*;

const ALL: Rules = Rules { modes: 0o7777, owned_as_above: false };
const STRANGE: Rules = Rules { modes: 0o777, owned_as_above: false };

fn packed(path: &Path) -> Vec<u8> {
    let mut out = Vec::new();
    pack(path, &mut out, &mut |_, _| ()).expect("packed");
    out
}

fn unpacked(target: &Path, archive: &[u8]) -> Result<Unpacked, TreeError> {
    unpack(target, STRANGE, archive, &mut |_, _| ())
}

/// All below a folder, as what each is.
fn listing(top: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut todo = vec![top.to_owned()];
    while let Some(path) = todo.pop() {
        let meta = fs::symlink_metadata(&path).expect("it is there");
        let name = path.strip_prefix(top).expect("below").display().to_string();
        let content = if meta.is_dir() {
            todo.extend(fs::read_dir(&path).expect("a folder").map(|e| e.expect("an entry").path()));
            "folder".to_owned()
        } else if meta.is_symlink() {
            format!("->{}", fs::read_link(&path).expect("a link").display())
        } else {
            format!("{:?}", fs::read(&path).expect("a file"))
        };
        let mode = if meta.is_symlink() { 0 } else { meta.mode() & 0o7777 };
        found.push(format!("{name} {mode:o} {}.{} {content}", meta.mtime(), meta.mtime_nsec()));
    }
    found.sort();
    found
}

fn tree(top: &Path) -> PathBuf {
    let tree = top.join("tree");
    fs::create_dir_all(tree.join("a/b")).expect("folders");
    fs::write(tree.join("a/file"), "content").expect("a file");
    fs::write(tree.join("a/b/empty"), "").expect("a file");
    fs::write(tree.join("x".repeat(200)), vec![7; 70_000]).expect("a file");
    fs::set_permissions(tree.join("a/file"), fs::Permissions::from_mode(0o640)).expect("a mode");
    symlink("../../nowhere", tree.join("a/link")).expect("a link");
    symlink("y".repeat(300), tree.join("long")).expect("a link");
    let old = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_789);
    fs::File::open(tree.join("a/file")).and_then(|f| f.set_modified(old)).expect("a time");
    fs::set_permissions(tree.join("a"), fs::Permissions::from_mode(0o500)).expect("a mode");
    fs::File::open(tree.join("a")).and_then(|f| f.set_modified(old)).expect("a time");
    tree
}

fn two_folders() -> (tempfile::TempDir, tempfile::TempDir) {
    (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"))
}

#[test]
fn a_tree_comes_out_as_it_went_in() {
    let (from, to) = two_folders();
    let tree = tree(from.path());
    let done = unpacked(to.path(), &packed(&tree)).expect("unpacked");
    assert_eq!((done.entries, done.bytes), (8, 70_007));
    assert_eq!(listing(&to.path().join("tree")), listing(&tree));
    // To a name that is not there yet.
    unpacked(&to.path().join("other"), &packed(&tree)).expect("unpacked");
    assert_eq!(listing(&to.path().join("other")), listing(&tree));
    // Onto itself: merged.
    fs::write(tree.join("more"), "more").expect("a file");
    fs::write(to.path().join("tree/kept"), "kept").expect("a file");
    unpacked(to.path(), &packed(&tree)).expect("unpacked");
    fs::remove_file(to.path().join("tree/kept")).expect("it was kept");
    let time = fs::metadata(&tree).and_then(|m| m.modified()).expect("a time");
    fs::File::open(to.path().join("tree")).and_then(|f| f.set_modified(time)).expect("a time");
    assert_eq!(listing(&to.path().join("tree")), listing(&tree));
}

#[test]
fn a_file_replaces_a_file_and_a_link_but_no_folder() {
    let (from, to) = two_folders();
    let outside = from.path().join("outside");
    fs::write(&outside, "outside").expect("a file");
    let file = from.path().join("file");
    fs::write(&file, "new").expect("a file");
    symlink(&outside, to.path().join("file")).expect("a link");
    unpacked(to.path(), &packed(&file)).expect("unpacked");
    assert_eq!(fs::read(to.path().join("file")).expect("a file"), b"new");
    assert!(!fs::symlink_metadata(to.path().join("file")).expect("there").is_symlink());
    assert_eq!(fs::read(&outside).expect("a file"), b"outside", "no link was written through");
    fs::remove_file(to.path().join("file")).expect("removed");
    fs::create_dir(to.path().join("file")).expect("a folder");
    assert!(matches!(unpacked(to.path(), &packed(&file)), Err(TreeError::Refused(_))));
    assert!(matches!(unpacked(&to.path().join("no/file"), &packed(&file)), Err(TreeError::Missing(_))));
    assert!(matches!(unpacked(&to.path().join("no/"), &packed(&file)), Err(TreeError::Missing(_))));
    assert!(matches!(
        pack(&to.path().join("no"), &mut Vec::new(), &mut |_, _| ()),
        Err(TreeError::Missing(_))
    ));
    assert!(matches!(
        pack(Path::new("/dev/null"), &mut Vec::new(), &mut |_, _| ()),
        Err(TreeError::Refused(_))
    ));
}

fn entry(kind: Kind, path: &str, target: &str, content: &[u8]) -> Vec<u8> {
    let entry = Entry {
        kind,
        path: path.as_bytes().to_vec(),
        target: target.as_bytes().to_vec(),
        mode: 0o6755,
        size: content.len() as u64,
        seconds: 0,
        nanos: 0,
    };
    let mut out = tar::header(&entry);
    out.extend_from_slice(content);
    tar::fill(&mut out, entry.size).expect("filled");
    out
}

/// Whatever the archive says, nothing outside of the target is touched, and nothing is left in it.
fn is_refused(parts: &[Vec<u8>]) {
    let top = tempfile::tempdir().expect("a folder");
    let target = top.path().join("target");
    fs::create_dir(&target).expect("a folder");
    fs::create_dir(top.path().join("outside")).expect("a folder");
    fs::write(top.path().join("outside/file"), "as it was").expect("a file");
    let before = listing(&top.path().join("outside"));
    let archive = [parts.concat(), tar::END.to_vec()].concat();
    let error = unpacked(&target, &archive).expect_err("refused");
    assert_eq!(listing(&top.path().join("outside")), before, "{error}");
    assert_eq!(fs::read_dir(top.path()).expect("the top").count(), 2, "{error}");
    assert_eq!(fs::read_dir(&target).expect("the target").count(), 0, "{error}");
}

#[test]
fn no_archive_writes_outside_of_the_target() {
    let file = |path: &str| entry(Kind::File, path, "", b"bad");
    let folder = |path: &str| entry(Kind::Folder, path, "", b"");
    let link = |path: &str, to: &str| entry(Kind::Link, path, to, b"");
    for path in ["../outside/file", "/tmp/x", "a/../../outside/file", "..", "a/..", "../outside"] {
        is_refused(&[file(path)]);
        is_refused(&[folder(path)]);
        is_refused(&[folder("a/"), link(path, "x")]);
    }
    // Through a link that the archive made itself.
    is_refused(&[folder("a/"), link("a/l", "../../outside"), file("a/l/file")]);
    is_refused(&[folder("a/"), link("a/l", "../../outside"), folder("a/l/"), file("a/l/file")]);
    is_refused(&[link("l", "../outside"), file("l/file")]);
    // The same name as a link and then as a file.
    is_refused(&[folder("a/"), link("a/l", "../../outside/file"), file("a/l")]);
    let mut hard = link("h", "../outside/file");
    hard[156] = b'1';
    let sum: u32 = hard[..148].iter().chain(&[b' '; 8]).chain(&hard[156..512]).map(|b| u32::from(*b)).sum();
    hard[148..154].copy_from_slice(format!("{sum:06o}").as_bytes());
    is_refused(&[hard]);
    is_refused(&[]);
}

#[test]
fn a_link_that_is_there_is_not_written_through_when_merging() {
    let top = tempfile::tempdir().expect("a folder");
    let (target, outside) = (top.path().join("target"), top.path().join("outside"));
    fs::create_dir_all(target.join("a")).expect("a folder");
    fs::create_dir(&outside).expect("a folder");
    symlink(&outside, target.join("a/l")).expect("a link");
    let file = entry(Kind::File, "a/l/file", "", b"bad");
    let archive = [entry(Kind::Folder, "a/", "", b""), file, tar::END.to_vec()].concat();
    unpacked(&target, &archive).expect_err("refused");
    assert_eq!(fs::read_dir(&outside).expect("a folder").count(), 0);
}

#[test]
fn set_id_bits_of_a_stranger_are_not_kept() {
    let top = tempfile::tempdir().expect("a folder");
    let archive = [entry(Kind::File, "f", "", b"x"), tar::END.to_vec()].concat();
    let mode = || fs::metadata(top.path().join("f")).expect("a file").mode() & 0o7777;
    unpacked(top.path(), &archive).expect("unpacked");
    assert_eq!(mode(), 0o755);
    unpack(top.path(), ALL, &archive[..], &mut |_, _| ()).expect("unpacked");
    assert_eq!(mode(), 0o6755);
}

#[test]
fn what_is_cut_leaves_nothing_and_what_failed_says_why() {
    let (from, to) = two_folders();
    let archive = packed(&tree(from.path()));
    for cut in (0..archive.len() - 1024).step_by(1511) {
        assert!(unpacked(to.path(), &archive[..cut]).is_err(), "{cut}");
        assert_eq!(fs::read_dir(to.path()).expect("the target").count(), 0, "{cut}");
    }
    let told = [tar::total(5), tar::failed("the disk\nis gone")].concat();
    let error = unpacked(to.path(), &told).expect_err("it failed").to_string();
    assert_eq!(error, "the disk is gone");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test asks the system's own tar")]
fn the_systems_tar_reads_ours_and_we_read_its() {
    let (from, to) = two_folders();
    let tree = tree(from.path());
    let archive = to.path().join("archive");
    fs::File::create(&archive).and_then(|mut f| f.write_all(&packed(&tree))).expect("written");
    let tar = |arguments: &[&str]| {
        let output = std::process::Command::new("/bin/tar").args(arguments).output().expect("tar");
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    };
    let text = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    tar(&["-xpf", &text(&archive), "-C", &text(to.path())]);
    assert_eq!(listing(&to.path().join("tree")), listing(&tree));
    for format in ["pax", "gnu"] {
        let (made, into) = (to.path().join("made"), to.path().join(format));
        tar(&["-cf", &text(&made), "--format", format, "-C", &text(from.path()), "./tree"]);
        unpacked(&into, &fs::read(&made).expect("an archive")).expect("unpacked");
        // GNU's own format has whole seconds only.
        let timeless = |line: String| {
            let words =
                line.split(' ').filter(|word| format == "pax" || !word.contains('.') || word.len() > 30);
            words.collect::<Vec<_>>().join(" ")
        };
        let listed = |top: &Path| listing(top).into_iter().map(timeless).collect::<Vec<_>>();
        assert_eq!(listed(&into), listed(&tree), "{format}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic_or_climb(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..2048),
        cut in 0_usize..600,
    ) {
        let top = tempfile::tempdir().expect("a folder");
        let target = top.path().join("t");
        fs::create_dir(&target).expect("a folder");
        let _ = unpacked(&target, &bytes);
        let mut good = entry(Kind::File, "f", "", &bytes);
        good.truncate(512 + cut);
        good.append(&mut bytes);
        let _ = unpacked(&target, &good);
        prop_assert_eq!(fs::read_dir(top.path()).expect("the top").count(), 1);
    }
}
