//! Disks that are full or cannot be written to: real ones, a tmpfs in a mount namespace of the test's own thread, which
//! goes when the thread ends. Needs to be root, and fails where it is not.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use agentd_store::{OpenError, Options, Query, Store, StoreError, Transact};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::fixture::{create, dump, new_vm, vm};

/// Runs on a thread that sees a small file system at the given path, and nobody else does.
fn on_small_disk(size: &'static str, test: impl FnOnce(PathBuf) + Send + 'static) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().to_owned();
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace: this test must be run as root");
        let none: Option<&str> = None;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("private mounts");
        let options = format!("size={size}");
        mount(Some("tmpfs"), &path, Some("tmpfs"), MsFlags::empty(), Some(options.as_str()))
            .expect("a tmpfs");
        test(path);
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(future)
}

/// Takes all the space that is left.
fn fill(path: &Path) -> PathBuf {
    let filler = path.join("filler");
    let mut file = File::create(&filler).expect("a file");
    let mut block = vec![0xa5_u8; 1 << 16];
    while !block.is_empty() {
        if file.write_all(&block).is_err() {
            let half = block.len() / 2;
            block.truncate(half);
        }
    }
    filler
}

#[test]
fn a_full_disk_loses_nothing_and_writing_goes_on_when_there_is_room() {
    on_small_disk("4M", |path| {
        block_on(async {
            let file = path.join("agentd.db");
            let store = Store::open(&file, Options::default()).expect("opened");
            create(&store, "first").await;
            let filler = fill(&path);
            let mut watch = store.watch(None).expect("from now");
            let mut made = 1;
            // What the log has blocks for already may still be written.
            let error = loop {
                let new = new_vm(&format!("vm-{made}"));
                let kept = new.key.clone();
                match store.transact(move |tx| tx.create(new.clone())).await {
                    Ok(_) => made += 1,
                    Err(error) => {
                        assert_eq!(store.get(&kept), None, "what was not acknowledged is not shown");
                        break error;
                    }
                }
                assert!(made < 10_000, "the disk is full at last");
            };
            let full = StoreError::Full { file: file.clone() };
            assert_eq!(error, Transact::Failed(full.clone()));
            assert!(error.to_string().contains("no space is left"), "{error}");
            assert_eq!(store.health(), Err(full));
            let before = dump(&store);
            assert_eq!(store.list(&Query::kind("vm")).items.len(), made, "reading goes on");
            fs::remove_file(filler).expect("removed");
            let began = Instant::now();
            while store.health().is_err() {
                assert!(began.elapsed() < Duration::from_secs(20), "it finds by itself that there is room");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            assert_eq!(dump(&store), before);
            assert_eq!(create(&store, "last").await.revision(), before.revision + 1);
            for revision in 2..=before.revision + 1 {
                assert_eq!(watch.next().await.expect("kept").revision, revision, "no gap where it failed");
            }
            let after = dump(&store);
            store.close().await.expect("closed");
            let store = Store::open(&file, Options::default()).expect("opened");
            assert_eq!(dump(&store), after);
            store.close().await.expect("closed");
        });
    });
}

#[test]
fn a_store_on_a_full_disk_opens_and_can_be_read() {
    on_small_disk("4M", |path| {
        block_on(async {
            let file = path.join("agentd.db");
            let store = Store::open(&file, Options::default()).expect("opened");
            create(&store, "web").await;
            store.close().await.expect("closed");
            let filler = fill(&path);
            let store = Store::open(&file, Options::default()).expect("opened");
            assert!(store.get(&vm("web")).is_some());
            let refused = store.transact(|tx| tx.create(new_vm("more"))).await;
            assert_eq!(refused.err(), Some(Transact::Failed(StoreError::Full { file: file.clone() })));
            fs::remove_file(filler).expect("removed");
            create(&store, "more").await;
            store.close().await.expect("closed");
        });
    });
}

#[test]
fn a_new_store_on_a_full_disk_says_so() {
    on_small_disk("4M", |path| {
        let filler = fill(&path);
        let file = path.join("agentd.db");
        let error = Store::open(&file, Options::default()).map(drop).expect_err("there is no room");
        assert_eq!(error, OpenError::Full { file: file.clone() });
        fs::remove_file(filler).expect("removed");
        let store = Store::open(&file, Options::default()).expect("and now there is");
        block_on(create(&store, "web"));
        block_on(store.close()).expect("closed");
    });
}

#[test]
fn a_disk_or_a_file_that_is_read_only_is_refused_and_left_alone() {
    on_small_disk("4M", |path| {
        let file = path.join("agentd.db");
        let store = Store::open(&file, Options::default()).expect("opened");
        block_on(create(&store, "web"));
        block_on(store.close()).expect("closed");
        let before = fs::read(&file).expect("read");
        let none: Option<&str> = None;
        // Only the database, as with `chattr +i`.
        mount(Some(&file), &file, none, MsFlags::MS_BIND, none).expect("a bind mount");
        let readonly = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(none, &file, none, readonly, none).expect("read-only");
        let error = Store::open(&file, Options::default()).map(drop).expect_err("it cannot be written to");
        assert_eq!(error, OpenError::ReadOnly { file: file.clone() });
        nix::mount::umount(&file).expect("unmounted");
        // All of it.
        mount(none, &path, none, MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY, none).expect("read-only");
        let error = Store::open(&file, Options::default()).map(drop).expect_err("it cannot be written to");
        assert!(matches!(error, OpenError::ReadOnly { .. }), "{error:?}");
        assert!(error.to_string().contains("agentd.db"), "{error}");
        assert_eq!(fs::read(&file).expect("read"), before);
    });
}
