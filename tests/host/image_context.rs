//! The folder that goes into a build: it comes through agentd and is not held there, however large it is.

use std::fs::{self, File};
use std::path::Path;

use agent_tests::host::Agentd;

use crate::exec::peak_kib;

const CONTEXT: u64 = 300 << 20;
/// Most of what agentd may grow by.
const GROWTH_KIB: u64 = 32 << 10;

/// Builds of a folder of that size, of which the image takes nothing.
pub fn is_passed_on(agentd: &Agentd, folder: &Path) {
    fs::create_dir_all(folder).expect("a folder");
    fs::write(folder.join("Dockerfile"), "FROM box:1\nCMD [\"true\"]\n").expect("written");
    // It takes no room here, and is sent as the zeros that it reads as.
    File::create(folder.join("much")).and_then(|file| file.set_len(CONTEXT)).expect("a file");
    let before = peak_kib(agentd.pid());
    agentd.ok(&["image", "build", &folder.to_string_lossy(), "--name", "large"]);
    let after = peak_kib(agentd.pid());
    let image = agentd.get("image", "large").expect("there");
    let sent = image["spec"]["source"]["build"]["size"].as_u64();
    assert!(sent >= Some(CONTEXT), "it was sent whole: {image}");
    println!("{CONTEXT} bytes went into a build; agentd's most was {before} KiB and is {after} KiB");
    assert!(after < before + GROWTH_KIB, "agentd grew from {before} to {after} KiB");
    agentd.ok(&["image", "rm", "large"]);
}
