//! The shortest way through: write, read, watch, close, open again.
use agentd_api::{ObjectKey, ObjectName};
use agentd_store::*;
use serde_json::json;

#[tokio::test]
async fn written_is_there_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("agentd.db");
    let store = Store::open(&file, Options::default()).expect("a new store");
    let key = ObjectKey::new("vm", ObjectName::parse("default").unwrap(), ObjectName::parse("web").unwrap());
    let mut watch = store.watch(None).unwrap();
    let k = key.clone();
    let made = store
        .transact(move |tx| {
            tx.allocate("ip/x", "10.0.0.1", &k)?;
            tx.create(NewObject::new(k.clone(), json!({"image": "micro", "networks": [{"network": "n"}]})))
        })
        .await
        .expect("created");
    assert_eq!(watch.next().await.unwrap().object, made);
    store.close().await.unwrap();
    let store = Store::open(&file, Options::default()).expect("opened again");
    assert_eq!(store.get(&key).unwrap().json(), made.json());
    assert_eq!(store.get(&key).unwrap().field("network").collect::<Vec<_>>(), ["n"]);
    assert_eq!(store.owner_of("ip/x", "10.0.0.1"), Some(key.clone()));
    assert_eq!(store.watch(Some(0)).unwrap().next().await.unwrap().revision, 1);
    store.transact(move |tx| tx.remove(&key, Expect::Any)).await.expect("removed");
    assert!(store.allocations().is_empty());
}
