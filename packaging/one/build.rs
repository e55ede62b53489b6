//! How the program of the packages is linked for a release: what the loader has to add an address to, which is a twentieth
//! of the file as a list, is a bitmap where the C library of this host knows such (2.36). A program that is built here is for
//! hosts like this, which its package says.

use std::process::Command;

#[expect(clippy::disallowed_methods, reason = "a build asks its host; the rule is for the daemon")]
fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let is = |name: &str, wanted: &str| std::env::var(name).is_ok_and(|value| value == wanted);
    if !is("PROFILE", "release") || !is("CARGO_CFG_TARGET_ENV", "gnu") {
        return;
    }
    let said = Command::new("getconf").arg("GNU_LIBC_VERSION").output();
    let version = said.map(|said| String::from_utf8_lossy(&said.stdout).into_owned()).unwrap_or_default();
    let minor = version.trim().strip_prefix("glibc 2.").and_then(|minor| minor.parse::<u32>().ok());
    if minor.is_some_and(|minor| minor >= 36) {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}
