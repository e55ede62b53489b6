use super::*;

fn trial(steps: usize, trouble: Option<&str>) -> Trial {
    let next = payload::STEPS.get(steps).copied();
    Trial { steps, of: payload::STEPS.len(), next, trouble: trouble.map(str::to_owned), late: false }
}

#[test]
fn only_a_guest_that_did_all_proves_kvm() {
    assert_eq!(judge(&trial(8, None), None).expect("told").accel, Accel::Kvm);
    assert_eq!(judge(&trial(8, Some("QEMU: aborted")), None).expect("told").accel, Accel::Tcg);
    let seven = judge(&trial(6, None), None).expect("told");
    assert_eq!(seven.accel, Accel::Tcg);
    assert!(
        seven.reason.contains("6 of its 8 steps") && seven.reason.contains("SYSCALL"),
        "{}",
        seven.reason
    );
}

#[test]
fn a_guest_that_was_late_tells_nothing_of_kvm_where_one_without_is_late_too() {
    let late = Trial { late: true, ..trial(0, Some("was not done after 20 s")) };
    let hung = judge(&late, Some(&trial(8, None))).expect("told");
    assert_eq!(hung.accel, Accel::Tcg);
    assert!(hung.reason.contains("was not done after 20 s"), "{}", hung.reason);
    let why = judge(&late, Some(&late)).expect_err("not told");
    assert!(why.contains("with KVM or without"), "{why}");
}

#[test]
fn the_guest_is_a_multiboot_kernel_with_a_right_checksum() {
    let word = |at: usize| {
        u32::from_le_bytes(payload::GUEST[at..at + 4].try_into().expect("four bytes are four bytes"))
    };
    assert_eq!(word(0), 0x1BAD_B002);
    assert_eq!(word(0).wrapping_add(word(4)).wrapping_add(word(8)), 0);
    assert_eq!(word(28), 0x10_0020);
}

#[tokio::test]
async fn what_the_configuration_says_holds_without_a_trial() {
    let folder = tempfile::tempdir().expect("a folder");
    let tcg = AccelProbe::new(AccelWish::Tcg, folder.path()).answer().await;
    assert_eq!((tcg.accel, tcg.reason.as_str()), (Accel::Tcg, "[vm] accel = \"tcg\" in the configuration"));
    let kvm = AccelProbe::new(AccelWish::Kvm, folder.path()).answer().await;
    assert!(kvm.accel == Accel::Kvm && kvm.reason.starts_with("[vm] accel = \"kvm\""), "{kvm:?}");
    assert!(!folder.path().join("accel.json").exists());
}

#[test]
fn an_answer_is_kept_and_a_broken_one_is_no_answer() {
    let folder = tempfile::tempdir().expect("a folder");
    let probe = AccelProbe::new(AccelWish::Auto, folder.path());
    assert_eq!(probe.read_kept(), None);
    let kept = Kept {
        boot_id: "b".to_owned(),
        qemu: "/usr/bin/q 1 2".to_owned(),
        accel: Accel::Tcg,
        reason: "r".to_owned(),
    };
    probe.keep(&kept).expect("kept");
    assert_eq!(probe.read_kept(), Some(kept));
    std::fs::write(folder.path().join("accel.json"), b"{\"boot_id\":").expect("written");
    assert_eq!(probe.read_kept(), None);
}
