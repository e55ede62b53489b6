//! Real files of each format, made and spoiled with qemu-img.

use std::path::PathBuf;

use super::*;
use crate::exec::Program;
use crate::image::contract::{disk, import};

/// A disk of so many MiB, full of data, as a file of that format.
async fn made(folder: &Path, format: &str, options: &[&str], mib: usize) -> PathBuf {
    let (raw, file) = (folder.join("raw"), folder.join(format!("disk.{format}")));
    let mut bytes = disk(7);
    bytes.resize(mib << 20, 0);
    for (n, byte) in bytes[512..].iter_mut().enumerate() {
        *byte = (n % 251) as u8;
    }
    std::fs::write(&raw, bytes).expect("written");
    let program = Program::new("qemu-img").args(["convert", "-f", "raw", "-O", format]).args(options);
    program.arg(&raw).arg(&file).run().await.expect("qemu-img");
    file
}

async fn refusal(driver: &HostImage, bytes: &[u8]) -> String {
    match import(driver, bytes).await {
        Err(ImageError::Refused(why)) => why,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn each_format_is_recognised_and_converted() {
    let (state, driver) = driver();
    let mut seen = Vec::new();
    for (format, options) in [
        ("qcow2", &[][..]),
        ("qcow2", &["-c"]),
        ("vmdk", &[]),
        ("vmdk", &["-o", "subformat=streamOptimized"]),
        ("vhdx", &[]),
    ] {
        let file = made(state.path(), format, options, 1).await;
        let content = import(&*driver, &std::fs::read(&file).expect("read")).await.expect(format);
        assert_eq!(content.source_format, format);
        let raw = state.path().join("back");
        let program = Program::new("qemu-img").args(["convert", "-f", "qcow2", "-O", "raw"]);
        program.arg(&content.disk).arg(&raw).run().await.expect("qemu-img");
        let bytes = std::fs::read(&raw).expect("read");
        seen.push((content.virtual_size.bytes(), bytes.len(), sha256(&bytes[..1 << 20])));
        std::fs::remove_file(file).expect("removed");
    }
    // vhdx rounds the size of the disk up; what is on it is the same.
    assert!(seen.iter().all(|one| one.2 == seen[0].2 && one.0 == one.1 as u64), "{seen:?}");
}

#[tokio::test]
async fn a_file_that_was_cut_off_is_refused() {
    let (state, driver) = driver();
    for format in ["qcow2", "vmdk", "vhdx"] {
        let file = made(state.path(), format, &[], 24).await;
        let bytes = std::fs::read(&file).expect("read");
        for keep in [bytes.len() / 2, bytes.len() * 9 / 10 / 512 * 512, 700] {
            let why = refusal(&driver, &bytes[..keep]).await;
            assert!(why.contains("damaged") || why.contains("version"), "{format} {keep}: {why}");
        }
    }
    let raw = disk(1);
    assert!(refusal(&driver, &raw[..raw.len() - 100]).await.contains("sectors"));
}

#[tokio::test]
async fn what_qemu_img_itself_makes_to_lead_out_is_refused() {
    let (state, driver) = driver();
    let at = |name: &str| state.path().join(name);
    std::fs::write(at("secret"), disk(9)).expect("written");
    let run = async |arguments: &[&str]| {
        let program = Program::new("qemu-img").folder(state.path()).args(arguments);
        program.run().await.expect("qemu-img");
    };
    run(&["create", "-f", "qcow2", "-F", "raw", "-b", "secret", "backed"]).await;
    assert!(refusal(&driver, &std::fs::read(at("backed")).expect("read")).await.contains("backing"));
    run(&["create", "-f", "qcow2", "-o", "data_file=secret,data_file_raw=on", "external", "1M"]).await;
    assert!(refusal(&driver, &std::fs::read(at("external")).expect("read")).await.contains("external data"));
    run(&["convert", "-f", "raw", "-O", "vmdk", "secret", "base.vmdk"]).await;
    run(&["create", "-f", "vmdk", "-F", "vmdk", "-b", "base.vmdk", "child.vmdk"]).await;
    assert!(refusal(&driver, &std::fs::read(at("child.vmdk")).expect("read")).await.contains("parent"));
    run(&["create", "-f", "vmdk", "-o", "subformat=monolithicFlat", "flat.vmdk", "1M"]).await;
    assert!(refusal(&driver, &std::fs::read(at("flat.vmdk")).expect("read")).await.contains("descriptor"));
    run(&[
        "create",
        "-f",
        "qcow2",
        "-o",
        "encrypt.format=luks,encrypt.key-secret=s",
        "--object",
        "secret,id=s,data=x",
        "locked",
        "1M",
    ])
    .await;
    assert!(refusal(&driver, &std::fs::read(at("locked")).expect("read")).await.contains("encrypted"));
}

#[tokio::test]
async fn a_second_upload_does_not_change_what_is_being_converted() {
    let (state, driver) = driver();
    let (work, bytes) = (Work::detached(Uuid::now_v7()), disk(4));
    let source = UploadSource { size: bytes.len() as u64, sha256: None };
    driver.receive(work.image, &source, &mut &bytes[..]).await.expect("received");
    let scratch = state.path().join("scratch");
    let upload = driver.incoming(work.image).join(incoming::UPLOAD);
    let (folder, _) = convert::convert(&upload, &scratch, &work).await.expect("converted");
    // The link that a conversion holds is another name of the first upload, not of what came later.
    driver.receive(work.image, &source, &mut &disk(5)[..]).await.expect("received");
    assert_eq!(std::fs::read(scratch.join("source")).expect("read"), bytes);
    assert!(folder.join(store::DISK).is_file());
}
