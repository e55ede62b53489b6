use std::io::Read;
use std::os::unix::fs::PermissionsExt;

use agentd_api::{Cidr, ObjectName};

use super::*;
use crate::volume::SeedNic;

fn seed(vm: Uuid) -> Seed {
    let name = |text: &str| ObjectName::parse(text).expect("a name");
    Seed {
        vm,
        hostname: name("web"),
        domain: Some("default.agentd".to_owned()),
        ssh_keys: vec!["ssh-ed25519 AAAAC3Nza me@\"there\": [x]\u{7f}é".to_owned()],
        user_data: None,
        network_config: None,
        nics: vec![SeedNic {
            mac: "52:54:00:aa:bb:cc".parse().expect("a MAC"),
            ip: [10, 77, 0, 2].into(),
            cidr: Cidr::new([10, 77, 0, 0].into(), 24).expect("a network"),
            gateway: [10, 77, 0, 1].into(),
        }],
        machine_id: None,
        guest_program: false,
    }
}

fn read(image: &[u8], file: &str) -> String {
    let mut image = std::io::Cursor::new(image.to_vec());
    let fs = fatfs::FileSystem::new(&mut image, fatfs::FsOptions::new()).expect("FAT");
    assert_eq!(fs.volume_label(), "CIDATA");
    let mut text = String::new();
    fs.root_dir().open_file(file).expect(file).read_to_string(&mut text).expect("text");
    text
}

#[test]
fn the_three_files_are_as_they_were_agreed() {
    let image = seed::render_image(&seed(Uuid::nil()), None).expect("an image");
    let all = ["meta-data", "user-data", "network-config"].map(|f| format!("--- {f}\n{}", read(&image, f)));
    insta::assert_snapshot!("seed", all.concat());
}

#[test]
fn equal_seeds_are_equal_bytes_and_own_user_data_is_given_on() {
    let mut own = seed(Uuid::nil());
    assert!(seed::render_image(&own, None).expect("one") == seed::render_image(&own, None).expect("two"));
    own.user_data = Some("#!/bin/sh\necho ünï\n".repeat(20_000));
    let image = seed::render_image(&own, None).expect("an image");
    assert!(Some(read(&image, "user-data")) == own.user_data);
    assert!(read(&image, "meta-data").contains("ssh-ed25519"));
}

#[test]
fn no_key_breaks_out_of_its_place() {
    let mut evil = seed(Uuid::nil());
    evil.ssh_keys = vec!["x\"\nlocal-hostname: y\n\u{85}\u{2028}z".to_owned()];
    let text = seed::render_meta_data(&evil);
    let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(value["local-hostname"], "web.default.agentd");
    assert_eq!(value["public-keys"][0], evil.ssh_keys[0]);
    assert!(!text.contains('\u{85}') && !text.contains('\u{2028}'));
}

#[tokio::test]
async fn a_seed_that_is_right_is_not_touched() {
    let state = tempfile::tempdir().expect("a folder");
    let driver = HostVolume::new(Instance::new(state.path()), None);
    let mut wanted = seed(Uuid::now_v7());
    let path = driver.ensure_seed(&wanted).await.expect("written");
    assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
    // As libvirt leaves it while a guest uses it.
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).expect("changed");
    driver.ensure_seed(&wanted).await.expect("again");
    assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o640);
    // A guest that has the file open goes on with what it has.
    let mut open = std::fs::File::open(&path).expect("open");
    wanted.ssh_keys.clear();
    driver.ensure_seed(&wanted).await.expect("changed");
    let mut old = Vec::new();
    open.read_to_end(&mut old).expect("read");
    assert!(read(&old, "meta-data").contains("ssh-ed25519"));
    assert!(!read(&std::fs::read(&path).expect("read"), "meta-data").contains("ssh-ed25519"));
}

#[tokio::test]
async fn a_disk_that_a_guest_holds_is_not_grown_and_says_so() {
    let (state, backing) = super::super::contract::host_image().await;
    let driver = HostVolume::new(Instance::new(state.path()), None);
    let vm = Uuid::now_v7();
    let mut spec = DiskSpec { vm, backing, size: None };
    let disk = driver.ensure_disk(&spec).await.expect("a disk");
    // QEMU's own lock of a writable image: bytes 100 to 103 and 200 to 203, shared between open files, not processes.
    let held = std::fs::OpenOptions::new().read(true).write(true).open(&disk).expect("open");
    let lock = nix::libc::flock {
        l_type: nix::libc::F_RDLCK as i16,
        l_whence: 0,
        l_start: 100,
        l_len: 110,
        l_pid: 0,
    };
    nix::fcntl::fcntl(&held, nix::fcntl::FcntlArg::F_OFD_SETLK(&lock)).expect("locked");
    spec.size = Some(ByteSize::mib(64));
    let error = driver.ensure_disk(&spec).await.expect_err("locked");
    assert!(matches!(&error, VolumeError::Failed { step, .. } if step == "growing the disk"), "{error:?}");
    drop(held);
    driver.ensure_disk(&spec).await.expect("grown");
    assert_eq!(driver.observe(vm).await.expect("seen").disk_size, spec.size);
}

#[test]
fn the_program_for_guests_goes_with_a_seed_beside_the_users_own_words() {
    let own = Seed { user_data: Some("#cloud-config\nruncmd: [ls]\n".to_owned()), ..seed(Uuid::nil()) };
    let program = "a program ".repeat(150_000);
    let image = seed::render_image(&own, Some(program.as_bytes())).expect("an image");
    assert!(read(&image, "agentd-guest") == program);
    assert_eq!(read(&image, "user-data"), "#cloud-config\nruncmd: [ls]\n");
    let script = read(&image, "vendor-data");
    assert!(
        script.starts_with("#!/bin/sh\n") && script.contains("\nExecStart=/usr/local/sbin/agentd-guest\n")
    );
    assert!(!script.contains('@'), "{script}");
}

#[test]
fn a_machine_id_goes_with_a_seed_alone_and_with_the_program() {
    let id = "0123456789abcdef0123456789abcdef";
    let renewed = Seed { machine_id: Some(id.to_owned()), ..seed(Uuid::nil()) };
    for program in [None, Some(&b"a program"[..])] {
        let script = read(&seed::render_image(&renewed, program).expect("an image"), "vendor-data");
        assert!(
            script.starts_with("#!/bin/sh\n") && script.contains(&format!("  echo {id} >/etc/machine-id\n"))
        );
        assert_eq!(script.contains("agentd-guest"), program.is_some(), "{script}");
        assert!(script.matches("#!/bin/sh").count() == 1 && !script.contains('@'), "{script}");
    }
}
