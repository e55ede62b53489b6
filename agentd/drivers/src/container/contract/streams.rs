//! What goes to a container and comes from it.

use std::time::Duration;

use super::{Bed, Does, PROGRAM_LIMIT, gone, run, see};
use crate::container::{Commit, ContainerDriver, ContainerError, Logs, Sitting};
use crate::fault::Classed;
use crate::vm::guest::{ExecWish, GuestError, GuestOut, Said};

/// All that it says, and its last word.
async fn hear(mut out: GuestOut) -> (Vec<u8>, Vec<u8>, Said) {
    let (mut told, mut erred) = (Vec::new(), Vec::new());
    let all = async {
        loop {
            match out.next().await.expect("it says how it ends") {
                Said::Out(bytes) => told.extend(bytes),
                Said::Err(bytes) => erred.extend(bytes),
                last => return last,
            }
        }
    };
    let last = tokio::time::timeout(PROGRAM_LIMIT, all).await.expect("it ends");
    (told, erred, last)
}

fn wish(argv: &[&str]) -> ExecWish {
    ExecWish { argv: argv.iter().map(|&word| word.to_owned()).collect(), ..ExecWish::default() }
}

async fn exec(driver: &dyn ContainerDriver, id: uuid::Uuid, wish: ExecWish) -> (Vec<u8>, Vec<u8>, Said) {
    let (_input, output) = driver.exec(id, wish).await.expect("it runs");
    hear(output).await
}

pub(super) async fn programs_run_in_it(bed: &dyn Bed) {
    let driver = bed.driver();
    let def = bed.def("busy", Does::Stays);
    let id = def.id;
    let missing = driver.exec(id, wish(&["echo"])).await.err().expect("there is none");
    assert!(matches!(missing, GuestError::Container(ContainerError::Missing(_))), "{missing:?}");
    driver.ensure_created(&def).await.expect("made");
    let off = driver.exec(id, wish(&["echo"])).await.err().expect("it is off");
    assert!(matches!(off, GuestError::NotRunning("off")), "{off:?}");
    driver.start(id).await.expect("started");

    assert_eq!(exec(driver, id, wish(&["echo", "a b"])).await, (b"a b\n".to_vec(), vec![], Said::Exit(0)));
    let failing = ExecWish { argv: bed.exits(3), ..ExecWish::default() };
    assert_eq!(exec(driver, id, failing).await.2, Said::Exit(3));
    let erring = ExecWish { argv: bed.says_to_err("oh"), ..ExecWish::default() };
    let (told, erred, last) = exec(driver, id, erring).await;
    assert_eq!((told, String::from_utf8_lossy(&erred).trim(), last), (vec![], "oh", Said::Exit(0)));
    let env = ExecWish { env: vec![("COLOR".to_owned(), "a=b c".to_owned())], ..wish(&["env"]) };
    let (told, ..) = exec(driver, id, env).await;
    assert!(String::from_utf8_lossy(&told).lines().any(|line| line == "COLOR=a=b c"));
    assert_eq!(exec(driver, id, wish(&["no-such-program"])).await.2, Said::Exit(127));

    let (mut input, output) =
        driver.exec(id, ExecWish { input: true, ..wish(&["cat"]) }).await.expect("it runs");
    let long = vec![b'x'; 300_000];
    let feed = async {
        for piece in long.chunks(10_000) {
            input.data(piece).await.expect("it takes that");
        }
        input.end().await.expect("it takes the end");
    };
    let (_, (told, _, last)) = tokio::join!(feed, hear(output));
    assert_eq!((told.len(), last), (long.len(), Said::Exit(0)));

    let (mut input, output) = driver.exec(id, wish(&["sleep", "1000"])).await.expect("it runs");
    input.signal(15).await.expect("signalled");
    assert_eq!(hear(output).await.2, Said::Exit(128 + 15));

    driver.pause(id).await.expect("paused");
    let paused = driver.exec(id, wish(&["echo"])).await.err().expect("it is paused");
    assert!(matches!(paused, GuestError::NotRunning("paused")), "{paused:?}");
    gone(driver, id).await;
}

async fn log(driver: &dyn ContainerDriver, id: uuid::Uuid, logs: Logs) -> (String, String) {
    let (told, erred, last) = hear(driver.logs(id, logs).await.expect("it has a log")).await;
    assert!(matches!(last, Said::Done { .. }), "{last:?}");
    (String::from_utf8_lossy(&told).into_owned(), String::from_utf8_lossy(&erred).into_owned())
}

pub(super) async fn what_it_says_is_kept_and_told(bed: &dyn Bed) {
    let driver = bed.driver();
    let def = run(bed, "talks", Does::Says).await;
    let all = Logs { out: true, err: true, ..Logs::default() };
    let both = ("to out\n".to_owned(), "to err\n".to_owned());
    assert_eq!(log(driver, def.id, all).await, both);
    assert_eq!(log(driver, def.id, Logs { err: false, ..all }).await, (both.0.clone(), String::new()));
    assert_eq!(log(driver, def.id, Logs { tail: Some(0), ..all }).await, (String::new(), String::new()));
    let (told, _) = log(driver, def.id, Logs { timestamps: true, ..all }).await;
    let (time, text) = told.split_once(' ').expect("a time first");
    assert!(time.parse::<agentd_api::Timestamp>().is_ok() && text == "to out\n", "{told:?}");
    let later = agentd_api::Timestamp::now().plus(Duration::from_secs(3600));
    assert_eq!(log(driver, def.id, Logs { since: Some(later), ..all }).await, (String::new(), String::new()));

    // Both who follow and who attach are told of the end.
    let follow = driver.logs(def.id, Logs { follow: true, ..all }).await.expect("it has a log");
    let (_input, attached) = driver.attach(def.id, Sitting::default()).await.expect("attached");
    let (kill, followed, attached) = tokio::join!(driver.kill(def.id), hear(follow), hear(attached));
    kill.expect("killed");
    assert_eq!(followed.0, b"to out\n");
    assert!(matches!(followed.2, Said::Done { .. }));
    assert_eq!(attached.2, Said::Exit(137));
    assert_eq!(log(driver, def.id, all).await, both, "the log of one that is off");
    let off = driver.attach(def.id, Sitting::default()).await.err().expect("it is off");
    assert!(matches!(off, GuestError::NotRunning(_)), "{off:?}");
    // Who sits there before it is started hears its end, and what a real one says first.
    let early = Sitting { early: true, ..Sitting::default() };
    let (_input, attached) = driver.attach(def.id, early).await.expect("attached");
    driver.start(def.id).await.expect("started again");
    let again = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        driver.kill(def.id).await.expect("killed");
    };
    let ((), attached) = tokio::join!(again, hear(attached));
    assert_eq!(attached.2, Said::Exit(137));
    gone(driver, def.id).await;
    let missing = driver.logs(def.id, all).await.err().expect("there is none");
    assert!(matches!(missing, GuestError::Container(ContainerError::Missing(_))), "{missing:?}");
}

/// A tar archive of one file.
fn archive(name: &str, content: &[u8]) -> Vec<u8> {
    let mut head = [0; 512];
    let mut put = |at: usize, text: &str| head[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, "0000644");
    put(124, &format!("{:011o}", content.len()));
    put(148, "        0");
    put(257, "ustar");
    put(263, "00");
    let sum: u32 = head.iter().map(|byte| u32::from(*byte)).sum();
    head[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut whole = [&head[..], content].concat();
    whole.resize(whole.len().next_multiple_of(512) + 1024, 0);
    whole
}

pub(super) async fn files_go_in_and_come_out(bed: &dyn Bed) {
    let driver = bed.driver();
    let def = run(bed, "filed", Does::Stays).await;
    let none = driver.pack(def.id, "/tmp/none".to_owned()).await.err().expect("there is none");
    assert!(matches!(none, GuestError::Missing(_)), "{none:?}");
    assert_eq!(none.code(), agentd_api::ErrorCode::NotFound);
    let (mut input, output) = driver.unpack(def.id, "/tmp/notes".to_owned()).await.expect("it takes files");
    let content = archive("other", b"what is said\n");
    let feed = async {
        for piece in content.chunks(700) {
            input.data(piece).await.expect("it takes that");
        }
        input.end().await.expect("it takes the end");
    };
    let (_, (.., last)) = tokio::join!(feed, hear(output));
    assert!(matches!(last, Said::Done { count: 1, .. }), "{last:?}");

    let out = driver.pack(def.id, "/tmp/notes".to_owned()).await.expect("it is there");
    let (archive, _, last) = hear(out).await;
    assert!(matches!(last, Said::Done { count: 1, .. }), "{last:?}");
    let content = b"what is said\n";
    let at = archive.windows(content.len()).position(|bytes| bytes == content).expect("the file's content");
    assert_eq!(at % 512, 0, "it begins a block");
    assert!(driver.diff(def.id).await.expect("told").iter().any(|changed| changed.path == "/tmp/notes"));
    gone(driver, def.id).await;
}

pub(super) async fn figures_processes_and_changes(bed: &dyn Bed) {
    let driver = bed.driver();
    let def = run(bed, "counted", Does::Stays).await;
    let stats = driver.stats().await.expect("figures");
    let of = stats.iter().find(|stats| stats.id == def.id).expect("it is counted");
    assert!(of.pids > 0 && of.memory.limit_bytes > 0, "{of:?}");
    let top = driver.top(def.id).await.expect("processes");
    assert!(!top.titles.is_empty() && !top.rows.is_empty(), "{top:?}");
    assert!(top.rows.iter().all(|row| row.len() == top.titles.len()), "{top:?}");
    let commit = Commit { repository: "agentd-test".to_owned(), tag: "one".to_owned(), ..Commit::default() };
    let image = driver.commit(def.id, &commit).await.expect("an image");
    assert!(image.starts_with("sha256:"), "{image}");
    let mut again = bed.def("again", Does::Stays);
    again.image.clone_from(&image);
    driver.ensure_created(&again).await.expect("of that image");
    assert_eq!(see(driver, again.id).await.image, image);
    gone(driver, again.id).await;
    driver.kill(def.id).await.expect("killed");
    assert!(driver.stats().await.expect("figures").iter().all(|stats| stats.id != def.id));
    assert!(matches!(driver.top(def.id).await, Err(ContainerError::Off(_))));
    gone(driver, def.id).await;
}
