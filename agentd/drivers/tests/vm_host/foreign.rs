//! What is not ours is not seen and not touched, whatever name, id or mark it has.

use agentd_drivers::vm::contract::Bed;
use agentd_drivers::vm::{Change, Power, VmDriver, VmError};
use uuid::Uuid;

use crate::bed::LibvirtBed;
use crate::host::{self, guest, virsh};
use crate::runtime;

fn define(name: &str, id: Uuid, metadata: &str) {
    let xml = format!(
        "<domain type='qemu'><name>{name}</name><uuid>{id}</uuid><metadata>{metadata}</metadata>\
         <memory unit='MiB'>64</memory><os><type machine='q35'>hvm</type></os>\
         <features><acpi/></features></domain>"
    );
    let file = std::env::temp_dir().join(format!("agentd-foreign-{id}.xml"));
    std::fs::write(&file, xml).expect("a file");
    virsh(&["define", file.to_str().expect("UTF-8")]).expect("virsh define");
    std::fs::remove_file(&file).expect("removed");
}

#[test]
#[ignore = "needs the test host: run by tests/run"]
fn vm_domains_of_others_are_neither_seen_nor_touched() {
    guest::ensure();
    host::inside("foreign::vm_domains_of_others_are_neither_seen_nor_touched", |host| {
        host.start_libvirt();
        let bed = LibvirtBed::new(host, "state");
        runtime().block_on(others(&bed));
    });
}

async fn others(bed: &LibvirtBed) {
    let vm = &bed.vm;
    // One with the id of a VM of ours.
    let spec = bed.spec("theirs").await;
    define("pet", spec.id, "");
    virsh(&["start", "pet"]).expect("virsh start");
    assert!(matches!(vm.ensure_defined(&spec).await, Err(VmError::Conflict(_))));
    assert_eq!(vm.observe(spec.id).await.expect("observe"), None);
    assert_eq!(vm.destroy(spec.id).await.expect("destroy"), Change::AlreadySo);
    assert_eq!(vm.undefine(spec.id).await.expect("undefine"), Change::AlreadySo);
    assert!(matches!(vm.start(spec.id).await, Err(VmError::Missing(_))));
    assert_eq!(virsh(&["domstate", "pet"]).expect("domstate").trim(), "running");

    // One with the name of a domain of ours.
    let spec = bed.spec("named").await;
    define(&bed.domain(&spec), Uuid::now_v7(), "");
    assert!(matches!(vm.ensure_defined(&spec).await, Err(VmError::Conflict(_))));
    assert_eq!(vm.observe(spec.id).await.expect("observe"), None);

    // One with the mark of ours, as virt-clone leaves it: another id, the same metadata.
    let spec = bed.spec("cloned").await;
    assert_eq!(vm.ensure_defined(&spec).await.expect("define"), Change::Made);
    let mark =
        virsh(&["metadata", &spec.id.to_string(), "https://agentd.invalid/libvirt/1"]).expect("a mark");
    define("clone", Uuid::now_v7(), &mark);
    // And one with the mark of another daemon.
    let tag = bed.instance.tag();
    let other = Uuid::now_v7();
    let foreign = mark.replace(tag, "00000000").replace(&spec.id.to_string(), &other.to_string());
    assert_ne!(foreign, mark);
    define("agentd-00000000-default.web", other, &foreign);
    assert_eq!(vm.observe(other).await.expect("observe"), None);
    let seen = vm.list().await.expect("list");
    assert_eq!(seen.iter().map(|seen| seen.id).collect::<Vec<_>>(), [spec.id]);
    assert_eq!(virsh(&["list", "--all", "--name"]).expect("list").split_whitespace().count(), 5);
    virsh(&["destroy", "pet"]).expect("virsh destroy");
}

#[test]
#[ignore = "needs the test host: run by tests/run"]
fn vm_two_daemons_do_not_see_each_other() {
    guest::ensure();
    host::inside("foreign::vm_two_daemons_do_not_see_each_other", |host| {
        host.start_libvirt();
        let (one, two) = (LibvirtBed::new(host, "one"), LibvirtBed::new(host, "two"));
        runtime().block_on(async {
            // The same name in both.
            let (a, b) = (one.running("web").await, two.running("web").await);
            let ids =
                |seen: Vec<agentd_drivers::vm::DomainSeen>| seen.iter().map(|s| s.id).collect::<Vec<_>>();
            assert_eq!(ids(one.vm.list().await.expect("list")), [a.id]);
            assert_eq!(ids(two.vm.list().await.expect("list")), [b.id]);
            assert_eq!(one.vm.destroy(b.id).await.expect("destroy"), Change::AlreadySo);
            let seen = two.vm.observe(b.id).await.expect("observe").expect("there");
            assert_eq!(seen.power, Power::Running);
            let mut events = two.vm.events();
            one.vm.destroy(a.id).await.expect("destroy");
            two.vm.destroy(b.id).await.expect("destroy");
            // The first event that the second daemon is told is of its own domain.
            let event = events.recv().await.expect("an event");
            assert_eq!(event.id, Some(b.id));
        });
    });
}
