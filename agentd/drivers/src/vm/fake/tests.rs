use std::path::PathBuf;
use std::time::Duration;

use agentd_api::ByteSize;
use agentd_api::vm::Accel;
use async_trait::async_trait;
use uuid::Uuid;

use super::FakeVm;
use crate::vm::contract::{self, Bed};
use crate::vm::guest::GuestDriver;
use crate::vm::{DiskFormat, DiskSource, DomainDisk, DomainSpec, VmDriver, VmError};

#[async_trait]
impl Bed for FakeVm {
    fn driver(&self) -> &dyn VmDriver {
        self
    }
    async fn spec(&self, name: &str) -> DomainSpec {
        DomainSpec {
            id: Uuid::now_v7(),
            project: "default".parse().expect("a name"),
            name: name.parse().expect("a name"),
            cpus: 1,
            cpus_max: 2,
            memory: ByteSize::mib(128),
            memory_max: ByteSize::mib(128),
            disk: "/nowhere/disk.qcow2".into(),
            boot: None,
            seed: None,
            disks: Vec::new(),
            cdrom: None,
            nics: Vec::new(),
            console_log: "/nowhere/console.log".into(),
            agent: None,
            accel: Accel::Tcg,
            hardware: Default::default(),
            tuning: Default::default(),
            graphics: false,
        }
    }
    async fn booted(&self, _spec: &DomainSpec, _time: usize) {}
    async fn disk(&self, _spec: &DomainSpec, serial: &str) -> DomainDisk {
        DomainDisk {
            serial: serial.to_owned(),
            source: DiskSource::File(format!("/nowhere/{serial}.qcow2").into()),
            format: DiskFormat::Qcow2,
            read_only: false,
        }
    }
    async fn iso(&self, _spec: &DomainSpec, number: u32) -> PathBuf {
        format!("/nowhere/{number}.iso").into()
    }
    async fn write_disk(&self, spec: &DomainSpec, byte: u8) {
        FakeVm::write_disk(self, spec.id, &byte.to_string());
    }
    async fn disk_holds(&self, spec: &DomainSpec, byte: u8) {
        assert_eq!(self.read_disk(spec.id), byte.to_string());
    }
    async fn booted_only(&self, _spec: &DomainSpec, _times: usize) {}
    async fn bridge(&self) -> String {
        "br-contract".to_owned()
    }
    async fn destroy_behind(&self, id: Uuid) {
        self.behind_our_back_destroy(id);
    }
    async fn undefine_behind(&self, id: Uuid) {
        self.behind_our_back_undefine(id);
    }
    async fn crash_behind(&self, id: Uuid) {
        self.guest_crashes(id);
    }
}

#[tokio::test]
async fn it_holds_the_contract() {
    contract::hold(&FakeVm::new()).await;
}

#[tokio::test]
async fn its_agents_hold_the_contract() {
    let fake = FakeVm::new();
    let spec = fake.spec("speaks").await;
    fake.ensure_defined(&spec).await.expect("define");
    fake.start(spec.id).await.expect("start");
    fake.set_agent(spec.id, true);
    contract::guest::of_an_agent(&fake, spec.id).await;
    assert_eq!(fake.console_size(spec.id), Some((132, 43)));
    fake.freeze(spec.id).await.expect("freeze");
    fake.destroy(spec.id).await.expect("destroy");
    fake.start(spec.id).await.expect("start");
    assert!(!fake.is_frozen(spec.id), "what was frozen is not after a power cut");
}

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

#[tokio::test(start_paused = true)]
async fn a_guest_can_be_deaf_or_slow_to_power_off() {
    let fake = FakeVm::new();
    let spec = fake.spec("deaf").await;
    fake.ensure_defined(&spec).await.expect("define");
    fake.start(spec.id).await.expect("start");
    fake.ignore_shutdown(spec.id, true);
    fake.shutdown(spec.id).await.expect("shutdown");
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert!(fake.observe(spec.id).await.expect("observe").is_some_and(|seen| seen.off.is_none()));
    fake.ignore_shutdown(spec.id, false);
    fake.set_shutdown_takes(Duration::from_secs(10));
    fake.shutdown(spec.id).await.expect("shutdown");
    tokio::time::sleep(Duration::from_secs(9)).await;
    assert!(fake.observe(spec.id).await.expect("observe").is_some_and(|seen| seen.off.is_none()));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(fake.observe(spec.id).await.expect("observe").is_some_and(|seen| seen.off.is_some()));
}

#[tokio::test]
async fn a_host_can_be_too_small() {
    let fake = FakeVm::new();
    fake.set_memory(Some(ByteSize::mib(64)));
    let spec = fake.spec("big").await;
    assert!(matches!(fake.ensure_defined(&spec).await, Err(VmError::Capacity(_))));
}
