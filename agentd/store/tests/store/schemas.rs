//! Stores as the daemons wrote them that had each schema there was: files of theirs, not made by the code of now. A new
//! schema gets one here when it is released, made by [`fill`].

use std::fs;
use std::path::PathBuf;

use agentd_store::{Expect, NewObject, OpenError, Options, Remembered, SCHEMA, Store, TxError, Update};
use bytes::Bytes;
use serde_json::json;

use crate::fixture::{Dump, done, dump, event, key, labels, new_vm, vm};

/// By the number of its schema, one less.
const FILES: &[&[u8]] = &[include_bytes!("schemas/1.db"), include_bytes!("schemas/2.db")];

struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new(content: &[u8]) -> Self {
        let place = Self { directory: tempfile::tempdir().expect("a directory") };
        fs::write(place.file(), content).expect("written");
        place
    }
    fn file(&self) -> PathBuf {
        self.directory.path().join("agentd.db")
    }
    fn copy_of(&self, schema: usize) -> PathBuf {
        self.directory.path().join(format!("agentd.db.v{schema}.bak"))
    }
}

/// What each of the files had done to it, by the daemon of its time.
async fn fill(store: &Store) {
    let network = || {
        let new = NewObject::new(key("network", "default"), json!({"cidr": "10.77.0.0/24"}));
        NewObject { status: json!({"state": "ready"}), ..new }
    };
    done(store, move |tx| tx.create(network())).await;
    for n in 1..=3_u8 {
        done(store, move |tx| {
            let new = NewObject { labels: labels(&[("tier", "front")]), ..new_vm(&format!("web-{n}")) };
            let of = new.key.clone();
            let made = tx.create(new)?;
            tx.allocate("ip", &format!("10.77.0.{}", n + 1), &of)?;
            tx.allocate("mac", &format!("52:54:00:00:00:0{n}"), &of)?;
            tx.record(event(of.name.as_str(), "created"));
            let body = Bytes::from(format!("{{\"of\":\"{}\"}}", of.name));
            tx.remember(of.name.as_str(), Remembered { fingerprint: "f".to_owned(), status: 201, body });
            Ok(made)
        })
        .await;
    }
    let running = Update { status: Some(json!({"state": "running"})), ..Update::default() };
    done(store, move |tx| tx.update(&vm("web-1"), Expect::Any, running.clone())).await;
    done(store, |tx| {
        tx.release("ip", "10.77.0.3", &vm("web-2"));
        tx.release("mac", "52:54:00:00:00:02", &vm("web-2"));
        tx.record(event("web-2", "deleted"));
        tx.remove(&vm("web-2"), Expect::Any)
    })
    .await;
}

/// Without what is different at each making: ids and times.
fn timeless(dump: &Dump) -> Vec<String> {
    let object = |json: &Bytes| {
        let mut value: serde_json::Value = serde_json::from_slice(json).expect("JSON");
        let fields = value.as_object_mut().expect("an object");
        fields.remove("id");
        fields.remove("created_at");
        value.to_string()
    };
    let mut all = vec![format!("revision {}", dump.revision)];
    all.extend(dump.objects.iter().map(object));
    all.extend(dump.allocations.iter().map(|(space, value, owner)| format!("{space} {value} {owner}")));
    all.extend(dump.events.iter().map(|event| format!("{} {} {}", event.seq, event.verb, event.name)));
    all.extend(dump.changes.iter().map(|(revision, what, after, before)| {
        format!("{revision} {what} {} {:?}", object(after), before.as_ref().map(object))
    }));
    all
}

#[tokio::test]
async fn each_that_there_was_is_opened_with_all_that_is_in_it_and_a_copy_is_kept() {
    assert_eq!(FILES.len(), SCHEMA as usize, "each released schema has a file here");
    let own = tempfile::tempdir().expect("a directory");
    let store = Store::open(&own.path().join("agentd.db"), Options::default()).expect("opened");
    fill(&store).await;
    let wanted = timeless(&dump(&store));
    assert!(wanted.len() > 15, "{wanted:?}");
    for (file, schema) in FILES.iter().zip(1..) {
        let place = Place::new(file);
        let store = Store::open(&place.file(), Options::default()).expect("it is opened");
        assert_eq!(timeless(&dump(&store)), wanted, "schema {schema}");
        assert_eq!(store.list(&agentd_store::Query::kind("vm")).items[0].label("tier"), Some("front"));
        // It is one to go on with.
        done(&store, |tx| tx.create(new_vm("later"))).await;
        assert_eq!(store.revision(), 7, "schema {schema}");
        store.close().await.expect("closed");
        let old = schema < SCHEMA as usize;
        assert_eq!(place.copy_of(schema).exists(), old, "schema {schema}");
        if old {
            assert_eq!(
                &fs::read(place.copy_of(schema)).expect("a copy"),
                file,
                "it is as it was, schema {schema}"
            );
        }
        let store = Store::open(&place.file(), Options::default()).expect("again");
        assert_eq!((store.revision(), store.stats().objects), (7, 4), "schema {schema}");
        assert_eq!(store.owner_of("ip", "10.77.0.4"), Some(vm("web-3")));
    }
}

/// The answer to a request that is repeated after the daemon was upgraded is the one that it had.
#[tokio::test]
async fn answers_to_repeated_requests_outlive_a_migration_as_long_as_they_may() {
    let place = Place::new(FILES[0]);
    let age = std::time::Duration::from_secs(1 << 36);
    let store =
        Store::open(&place.file(), Options { answer_age: age, ..Options::default() }).expect("opened");
    let known = done(&store, |tx| Ok::<_, TxError>(tx.recall("web-3"))).await.expect("it is remembered");
    assert_eq!((known.status, &known.body[..]), (201, &b"{\"of\":\"web-3\"}"[..]));
}

#[test]
fn one_of_a_newer_agentd_is_refused_with_what_to_do_and_left_as_it_is() {
    let place = Place::new(FILES[FILES.len() - 1]);
    let newer = i64::from(SCHEMA) + 1;
    let database = rusqlite::Connection::open(place.file()).expect("a database");
    database.pragma_update(None, "user_version", newer).expect("set");
    database.close().map_err(|(_, error)| error).expect("closed");
    let before = fs::read(place.file()).expect("read");
    let error = Store::open(&place.file(), Options::default()).map(drop).expect_err("it is newer");
    assert_eq!(error, OpenError::Newer { file: place.file(), is: newer, known: i64::from(SCHEMA) });
    let text = error.to_string();
    for word in ["written by a newer agentd", "Start that agentd again", &format!(".v{SCHEMA}.bak")] {
        assert!(text.contains(word), "{word} in {text}");
    }
    assert_eq!(fs::read(place.file()).expect("read"), before);
    assert!(!place.copy_of(SCHEMA as usize).exists());
}
