//! A guest whose memory was written, by whoever, has let go of its disks: QEMU ends by itself when it is told anything
//! about them then.

use std::time::Duration;

use agentd_api::ByteSize;
use agentd_drivers::vm::contract::{self, Bed};
use agentd_drivers::vm::{Change, DomainSpec, Power, Unplugged, VmDisks, VmDriver};

use crate::bed::LibvirtBed;
use crate::host::virsh;
use crate::with_libvirt;

/// Has libvirt write the memory of a guest that is paused, as a process would that is killed right after.
fn write_memory(bed: &LibvirtBed, spec: &DomainSpec, number: u32) {
    let file = spec.disk.with_file_name(format!("memory-{number}"));
    let domain = bed.domain(spec);
    let memory = format!("file={},snapshot=external", file.display());
    let targets = virsh(&["domblklist", &domain]).expect("its disks");
    let disks: Vec<String> = targets
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .map(|target| format!("{target},snapshot=no"))
        .collect();
    let mut arguments = vec!["snapshot-create-as", &domain, "behind", "--no-metadata", "--memspec", &memory];
    for disk in &disks {
        arguments.extend(["--diskspec", disk]);
    }
    virsh(&arguments).expect("its memory is written");
    assert_eq!(status(bed, spec), "postmigrate", "this is what the test is about");
}

/// What QEMU says of itself.
fn status(bed: &LibvirtBed, spec: &DomainSpec) -> String {
    let said = virsh(&["qemu-monitor-command", &bed.domain(spec), r#"{"execute": "query-status"}"#]);
    let said: serde_json::Value = serde_json::from_str(&said.expect("QEMU answers")).expect("JSON");
    said["return"]["status"].as_str().expect("a status").to_owned()
}

#[test]
#[ignore = "needs the test host: run by tests/run"]
fn vm_disks_of_a_guest_whose_memory_was_written_come_and_go() {
    with_libvirt("memory::vm_disks_of_a_guest_whose_memory_was_written_come_and_go", async |bed| {
        let spec = bed.running("written").await;
        let (id, disk) = (spec.id, bed.disk(&spec, "one").await);
        bed.vm.pause(id).await.expect("pause");
        write_memory(&bed, &spec, 1);
        assert_eq!(bed.vm.attach_disk(id, &disk).await.expect("plug"), Change::Made);
        assert_eq!(status(&bed, &spec), "paused", "it has its disks back, and did not run on");
        write_memory(&bed, &spec, 2);
        let size = ByteSize::mib(48);
        assert_eq!(bed.vm.resize_disk(id, "one", size).await.expect("grow"), Change::Made);
        write_memory(&bed, &spec, 3);
        let asked = bed.vm.detach_disk(id, "one").await.expect("unplug");
        assert_eq!(asked, Unplugged::Asked, "a guest that is paused lets go of nothing");
        let seen = bed.vm.observe(id).await.expect("observe").expect("there");
        assert_eq!(seen.power, Power::Paused);
        // The guest lives, and heard it all.
        bed.vm.resume(id).await.expect("resume");
        contract::until(&*bed.vm, id, Duration::from_secs(60), |seen| seen.disk("one").is_none()).await;
        bed.vm.shutdown(id).await.expect("shutdown");
        contract::until(&*bed.vm, id, Duration::from_secs(60), |seen| seen.power == Power::Off).await;
        bed.booted_only(&spec, 1).await;
    });
}
