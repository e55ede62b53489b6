//! The tree as a .rpm: a spec that only lists what is there, and rpmbuild, which finds the libraries by itself.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::run::{command, output, top};
use crate::tree::{self, Tree};
use crate::{DESCRIPTION, MAINTAINER, Release, SUMMARY};

/// What agentd does not work without, by the names of Fedora and its kin.
const REQUIRES: [&str; 6] = ["dnsmasq", "iproute", "kmod", "nftables", "qemu-img", "systemd"];
const RECOMMENDS: [&str; 9] = [
    "cpio",
    "curl",
    "e2fsprogs",
    "edk2-ovmf",
    "iptables",
    "libvirt-daemon-driver-qemu",
    "qemu-kvm",
    "swtpm",
    "xz",
];

pub fn make(tree: &Tree, release: &Release) -> Result<PathBuf> {
    let scratch = tempfile::tempdir().context("a scratch folder")?;
    let root = scratch.path().join("root");
    fs::create_dir(&root)?;
    tree.write(&root, &[])?;
    tree::date(&root, release.time)?;
    let spec = scratch.path().join("agentd.spec");
    fs::write(&spec, spec_of(tree, release)?)?;
    let define = |name: &str, value: &str| ["--define".to_owned(), format!("{name} {value}")];
    let top = scratch.path().join("rpmbuild").display().to_string();
    output(
        command("rpmbuild")
            .env("SOURCE_DATE_EPOCH", release.time.to_string())
            .args(["-bb", "--quiet", "--target", "x86_64", "--buildroot"])
            .arg(scratch.path().join("buildroot"))
            .args(define("_topdir", &top))
            .args(define("_rpmdir", &release.out.display().to_string()))
            .args(define("_rpmfilename", "%%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm"))
            .args(define("_buildhost", "reproducible"))
            .args(define("use_source_date_epoch_as_buildtime", "1"))
            .args(define("clamp_mtime_to_source_date_epoch", "1"))
            .args(define("source_date_epoch_from_changelog", "0"))
            .args(define("_binary_payload", if release.small { "w6.xzdio" } else { "w.ufdio" }))
            .args(define("tree", &root.display().to_string()))
            .arg(&spec),
    )
    .context("rpmbuild, of rpm-build or Debian's rpm")?;
    let name = format!("agentd-{}-{}.x86_64.rpm", release.version, release.revision);
    Ok(release.out.join(name))
}

fn spec_of(tree: &Tree, release: &Release) -> Result<String> {
    let mut spec = format!(
        "# The programs are built and stripped already.\n%global debug_package %{{nil}}\n%global __os_install_post %{{nil}}\n\
         %global _build_id_links none\nName: agentd\nVersion: {}\nRelease: {}\nSummary: {SUMMARY}\nLicense: Apache-2.0\n\
         Packager: {MAINTAINER}\n",
        release.version, release.revision
    );
    for name in REQUIRES {
        let _ = writeln!(spec, "Requires: {name}");
    }
    for name in RECOMMENDS {
        let _ = writeln!(spec, "Recommends: {name}");
    }
    let _ = write!(spec, "%description\n{DESCRIPTION}\n%install\ncp -a %{{tree}}/. %{{buildroot}}/\n");
    for (section, script) in [("post", "post"), ("preun", "preun"), ("postun", "postun")] {
        let from = top().join("packaging/rpm").join(script);
        let text = fs::read_to_string(&from).with_context(|| from.display().to_string())?;
        let _ = write!(spec, "%{section}\n{text}");
    }
    spec.push_str("%files\n%defattr(-,root,root,-)\n%dir /etc/agentd\n%dir /usr/lib/agentd\n");
    for folder in &tree.folders {
        let _ = writeln!(spec, "%dir %attr({:04o},root,root) /{}", folder.mode, folder.path);
    }
    for link in &tree.links {
        let _ = writeln!(spec, "/{}", link.path);
    }
    for file in &tree.files {
        let kept = if file.kept { "%config(noreplace) " } else { "" };
        let _ = writeln!(spec, "{kept}%attr({:04o},root,root) /{}", file.mode, file.path.display());
    }
    Ok(spec)
}
