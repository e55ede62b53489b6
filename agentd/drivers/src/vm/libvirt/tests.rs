//! What needs no libvirt. The rest is in the contract suite.

use std::path::Path;
use std::time::{Duration, Instant};

use super::*;

fn driver(uri: &str) -> Arc<LibvirtVm> {
    let instance = Instance::new(Path::new("/nonexistent/agentd"));
    LibvirtVm::new(LibvirtOptions { uri: uri.to_owned(), instance, accel: AccelWish::Tcg })
}

#[tokio::test]
async fn without_libvirt_every_call_says_so_at_once_and_why() {
    let vm = driver("qemu+unix:///system?socket=/nonexistent/libvirt-sock");
    let began = Instant::now();
    for answer in
        [vm.list().await.map(drop), vm.start(Uuid::now_v7()).await.map(drop), vm.probe().await.map(drop)]
    {
        let error = answer.expect_err("there is no libvirt");
        assert!(
            matches!(&error, VmError::Unavailable { detail, .. } if detail.contains("/nonexistent/")),
            "{error}"
        );
    }
    assert!(began.elapsed() < Duration::from_secs(3));
    vm.close().await;
}

#[tokio::test]
async fn a_libvirt_that_never_answers_does_not_hold_callers_for_ever() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("sock");
    // Accepts into its backlog and says nothing.
    let _mute = std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
    let vm = driver(&format!("qemu+unix:///system?socket={}", socket.display()));
    let began = Instant::now();
    let error = vm.list().await.expect_err("it does not answer");
    assert!(matches!(error, VmError::Unavailable { .. }), "{error}");
    assert!(began.elapsed() < Duration::from_secs(8));
    let closing = Instant::now();
    vm.close().await;
    assert!(closing.elapsed() < Duration::from_secs(1));
    assert!(matches!(vm.list().await, Err(VmError::Unavailable { .. })));
}

#[test]
fn versions_are_read_as_libvirt_packs_them() {
    assert_eq!(version(9_000_000), "9.0.0");
    assert_eq!(version(10_000_002), "10.0.2");
}

#[tokio::test]
async fn a_definition_that_cannot_be_is_refused_before_libvirt_is_asked() {
    let vm = driver("qemu+unix:///system?socket=/nonexistent/libvirt-sock");
    let spec = DomainSpec {
        id: Uuid::now_v7(),
        project: "default".parse().expect("a name"),
        name: "web".parse().expect("a name"),
        cpus: 1,
        cpus_max: 1,
        memory: agentd_api::ByteSize::mib(128),
        memory_max: agentd_api::ByteSize::mib(128),
        disk: "/a\0b".into(),
        boot: None,
        seed: None,
        disks: Vec::new(),
        cdrom: None,
        nics: Vec::new(),
        console_log: "/c".into(),
        agent: None,
        accel: agentd_api::vm::Accel::Tcg,
        hardware: Default::default(),
        tuning: Default::default(),
        graphics: false,
    };
    assert!(matches!(vm.ensure_defined(&spec).await, Err(VmError::Nul(_))));
    vm.close().await;
}
