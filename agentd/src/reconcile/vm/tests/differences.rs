//! What differs between a spec and a running guest, and what is said of it.

use std::collections::BTreeMap;

use agentd_api::vm::{VmSpec, WatchdogAction};
use agentd_api::{ByteSize, MacAddr};
use agentd_drivers::vm::{HardwareSeen, LiveSeen, NicSeen};
use serde_json::json;

use super::super::live::{Change, Cure, Wanted, differences, left};

const A: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 1]);
const B: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 2]);
const FOREIGN: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 3]);

fn nic(mac: MacAddr, tap: &str) -> NicSeen {
    NicSeen { mac, bridge: "agb1".to_owned(), tap: tap.to_owned() }
}

/// Two of four CPUs, 256 of 512 MiB, one interface of ours and one of somebody else's.
fn seen() -> LiveSeen {
    LiveSeen {
        fixed: Some("f".to_owned()),
        cpus: 2,
        cpus_max: 4,
        memory: ByteSize::mib(256),
        memory_max: ByteSize::mib(512),
        nics: vec![nic(A, "agt1-0"), nic(FOREIGN, "vnet7")],
        hardware: HardwareSeen { watchdog: Some(WatchdogAction::Reset), ..HardwareSeen::default() },
    }
}

fn cures(more: serde_json::Value, nics: &[MacAddr], fixed: &str) -> Vec<(String, Cure)> {
    let mut spec = json!({"image": "micro", "cpus": 2, "memory": "256MiB", "watchdog": "reset"});
    spec.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    let spec: VmSpec = serde_json::from_value(spec).expect("a spec");
    let nics: Vec<_> = nics.iter().map(|mac| (*mac, "default".to_owned())).collect();
    let wanted = Wanted { spec: &spec, fixed, disk: Some(ByteSize::gib(1)), nics: &nics, taps: "agt1-" };
    differences(&wanted, &seen()).into_iter().map(|d| (d.what, d.cure)).collect()
}

#[test]
fn each_field_has_its_cure() {
    assert_eq!(cures(json!({}), &[A], "f"), [], "nothing differs; what others plugged in is theirs");
    let room = |room: &str| Cure::Restart(format!("it was started with room for {room}"));
    let restart = || Cure::Restart(String::new());
    for (more, what, cure) in [
        (json!({"cpus": 4}), "cpus 2 -> 4", Cure::Change(Change::Cpus(4))),
        (json!({"cpus": 1}), "cpus 2 -> 1", Cure::Guest(Change::Cpus(1))),
        (json!({"cpus": 5}), "cpus 2 -> 5", room("4")),
        (json!({"cpus_max": 8}), "cpus_max 4 -> 8", restart()),
        (
            json!({"memory": "128MiB"}),
            "memory 256MiB -> 128MiB",
            Cure::Guest(Change::Memory(ByteSize::mib(128))),
        ),
        (
            json!({"memory": "512MiB"}),
            "memory 256MiB -> 512MiB",
            Cure::Guest(Change::Memory(ByteSize::mib(512))),
        ),
        (json!({"memory": "1GiB"}), "memory 256MiB -> 1GiB", room("512MiB")),
        (json!({"memory_max": "1GiB"}), "memory_max 512MiB -> 1GiB", restart()),
        (json!({"watchdog": null}), "watchdog reset -> off", restart()),
        (json!({"watchdog": "record"}), "watchdog reset -> record", restart()),
        (json!({"huge_pages": true}), "huge_pages false -> true", restart()),
        (json!({"nested": true}), "nested false -> true", restart()),
        (json!({"graphics": true}), "graphics false -> true", restart()),
        (json!({"disk": "2GiB"}), "disk 1GiB -> 2GiB", Cure::Change(Change::Disk(ByteSize::gib(2)))),
    ] {
        assert_eq!(cures(more.clone(), &[A], "f"), [(what.to_owned(), cure)], "{more}");
    }
    assert_eq!(cures(json!({"disk": "512MiB"}), &[A], "f"), [], "a disk is never shrunk");
}

#[test]
fn interfaces_are_told_apart_by_their_mac_and_what_goes_goes_first() {
    let cures = cures(json!({}), &[B], "f");
    assert_eq!(cures[0].1, Cure::Guest(Change::Detach(A)));
    assert_eq!(cures[1], (format!("networks[0] ({B} on default)"), Cure::Change(Change::Attach(0))));
    assert_eq!(cures.len(), 2, "{cures:?}");
}

#[test]
fn what_cannot_be_named_waits_for_a_restart_too() {
    let only = cures(json!({}), &[A], "g");
    assert!(
        matches!(&only[..], [(what, Cure::Restart(_))] if what.starts_with("its definition")),
        "{only:?}"
    );
    let named = cures(json!({"cpus": 5}), &[A], "g");
    assert_eq!(named.len(), 1, "the field says it already: {named:?}");
}

#[test]
fn what_is_left_says_whom_it_waits_for() {
    let spec: VmSpec =
        serde_json::from_value(json!({"image": "micro", "cpus": 1, "memory": "1GiB", "watchdog": "reset"}))
            .expect("a spec");
    let nics = [(A, "default".to_owned()), (B, "lab".to_owned())];
    let wanted = Wanted { spec: &spec, fixed: "f", disk: None, nics: &nics, taps: "agt1-" };
    let all = differences(&wanted, &seen());
    let refused = BTreeMap::from([(Change::Attach(1), "no port is free".to_owned())]);
    let patient = left(&all, &refused, true);
    assert_eq!(patient.guest, ["cpus 2 -> 1"]);
    assert_eq!(
        patient.restart,
        [
            "memory 256MiB -> 1GiB waits for a restart: it was started with room for 512MiB".to_owned(),
            format!("networks[1] ({B} on lab) waits for a restart: no port is free"),
        ]
    );
    let over = left(&all, &refused, false);
    assert_eq!(over.guest, Vec::<String>::new());
    assert_eq!(over.restart[0], "cpus 2 -> 1 waits for a restart: the guest did not comply");
}
