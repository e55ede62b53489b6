use std::time::Duration;

use super::FakeVm;
use crate::vm::{VmDriver, VmError};

fn failed() -> VmError {
    VmError::Failed { call: "list", detail: "as told".to_owned() }
}

#[tokio::test]
async fn it_fails_as_often_as_told() {
    let fake = FakeVm::new();
    fake.fail_next("list", 2, failed);
    assert!(fake.list().await.is_err());
    assert!(fake.list().await.is_err());
    assert!(fake.list().await.is_ok());
    assert_eq!(fake.calls("list"), 3);
}

#[tokio::test(start_paused = true)]
async fn it_hangs_until_released_and_then_goes_on() {
    let fake = FakeVm::new();
    fake.hang("list");
    assert!(tokio::time::timeout(Duration::from_secs(3600), fake.list()).await.is_err());
    fake.release("list");
    assert!(fake.list().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn it_is_as_slow_as_told() {
    let fake = FakeVm::new();
    fake.slow("probe", Duration::from_secs(9));
    let began = tokio::time::Instant::now();
    assert!(fake.probe().await.is_ok());
    assert!(began.elapsed() >= Duration::from_secs(9));
}

#[tokio::test]
async fn it_can_be_away_and_tells_when_it_is_back() {
    let fake = FakeVm::new();
    let mut events = fake.events();
    fake.set_available(false);
    assert!(matches!(fake.list().await, Err(VmError::Unavailable { .. })));
    fake.set_available(true);
    assert!(fake.list().await.is_ok());
    assert_eq!(events.recv().await.map(|event| event.id), Ok(None));
}

#[test]
#[should_panic(expected = "no method 'lsit'")]
fn a_method_that_is_none_ends_the_test() {
    FakeVm::new().hang("lsit");
}
