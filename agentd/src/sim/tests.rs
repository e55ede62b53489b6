use std::path::Path;

use agentd_drivers::vm::VmDriver;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use super::*;

fn fakes() -> Fakes {
    Fakes::new(&Instance::new(Path::new("/nowhere")))
}

#[test]
fn arguments_are_orders() {
    let target = "vm.start".to_owned();
    assert_eq!(Order::fault("vm.start=hang"), Ok(Order::Hang { target: target.clone() }));
    let fail = |times, how| Ok(Order::Fail { target: target.clone(), times, how });
    assert_eq!(Order::fault("vm.start=fail"), fail(1, How::Transient));
    assert_eq!(Order::fault("vm.start=fail:3"), fail(3, How::Transient));
    assert_eq!(Order::fault("vm.start=fail:3:permanent"), fail(3, How::Permanent));
    let by = agentd_api::Span(std::time::Duration::from_millis(200));
    assert_eq!(Order::delay("vm.start=200ms"), Ok(Order::Slow { target: target.clone(), by }));
    for bad in [
        "vm.start",
        "vm.start=",
        "vm.start=fail:x",
        "vm.start=fail:1:no",
        "vm.start=hang:1",
        "vm.strat=hang",
        "=hang",
    ] {
        assert!(Order::fault(bad).is_err(), "{bad}");
    }
    for bad in ["vm.start=soon", "vm=1s", "vm.start"] {
        assert!(Order::delay(bad).is_err(), "{bad}");
    }
}

#[tokio::test]
async fn every_target_is_a_method_that_can_be_hung_and_released() {
    let fakes = fakes();
    for target in ["vm.probe", "vm.undefine", "image.build", "volume.ensure_disk", "network.ensure_firewall"]
    {
        let target = target.to_owned();
        fakes.obey(&Order::Hang { target: target.clone() }).expect("obeyed");
        fakes.obey(&Order::Release { target: target.clone() }).expect("obeyed");
        assert_eq!(fakes.obey(&Order::Calls { target }), Ok(Some(0)));
    }
    fakes.obey(&Order::Fail { target: "vm.probe".to_owned(), times: 1, how: How::Capacity }).expect("obeyed");
    assert!(matches!(fakes.vm.probe().await, Err(VmError::Capacity(_))));
    assert!(fakes.vm.probe().await.is_ok());
}

#[tokio::test]
async fn orders_are_taken_on_a_socket() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("control.sock");
    let fakes = fakes();
    listen(&path, fakes.clone()).expect("bound");
    let mut stream = UnixStream::connect(&path).await.expect("connected");
    let lines = "{\"do\":\"available\",\"available\":false}\n{\"do\":\"calls\",\"target\":\"vm.probe\"}\n{\"do\":\"dance\"}\n{\"do\":\"hang\",\"target\":\"vm.walk\"}\n";
    stream.write_all(lines.as_bytes()).await.expect("sent");
    let mut answers = BufReader::new(stream).lines();
    let mut next = async || answers.next_line().await.expect("read").expect("a line");
    assert_eq!(next().await, r#"{"ok":true}"#);
    assert!(fakes.vm.probe().await.is_err(), "libvirt is away");
    let calls = next().await;
    assert!(calls.contains("\"ok\":true") && calls.contains("\"calls\":"), "{calls}");
    assert!(next().await.contains("dance"));
    assert!(next().await.contains("vm.walk"));
}
