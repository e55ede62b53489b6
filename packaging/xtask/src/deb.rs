//! The tree as a .deb: what dpkg wants to know beside it, and dpkg-deb, which makes the same bytes of the same files.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::manual::gzip;
use crate::run::{command, date, output, top};
use crate::tree::{self, File, Tree};
use crate::{DESCRIPTION, MAINTAINER, Release, SUMMARY};

/// What agentd does not work without, beside the libraries that it is linked with.
const DEPENDS: &str = "systemd (>= 252), dnsmasq-base, iproute2, kmod, nftables, qemu-utils";
/// What most hosts want: VMs, and images of one's own.
const RECOMMENDS: &str = "busybox-static, cpio, curl, debian-archive-keyring, e2fsprogs, iptables, libvirt-daemon-system, \
mmdebstrap, mount, openssh-client, ovmf, qemu-system-x86, swtpm, swtpm-tools, xz-utils, zstd";
const SUGGESTS: &str = "docker.io | docker-ce | podman, lvm2, thin-provisioning-tools";

pub fn make(tree: &Tree, release: &Release) -> Result<PathBuf> {
    let scratch = tempfile::tempdir().context("a scratch folder")?;
    let root = scratch.path().join("root");
    fs::create_dir(&root)?;
    fs::set_permissions(&root, fs::Permissions::from_mode(0o755))?;
    tree.write(&root, &documents(release)?)?;
    let control = root.join("DEBIAN");
    fs::create_dir(&control)?;
    fs::set_permissions(&control, fs::Permissions::from_mode(0o755))?;
    let sums = sums(&root)?;
    let put = |name: &str, text: &str, mode: u32| -> Result<()> {
        let path = control.join(name);
        fs::write(&path, text).with_context(|| path.display().to_string())?;
        Ok(fs::set_permissions(&path, fs::Permissions::from_mode(mode))?)
    };
    put("control", &fields(tree, release, scratch.path())?, 0o644)?;
    put("md5sums", &sums, 0o644)?;
    let kept = tree.files.iter().filter(|file| file.kept);
    put("conffiles", &kept.map(|file| format!("/{}\n", file.path.display())).collect::<String>(), 0o644)?;
    for script in ["postinst", "prerm", "postrm"] {
        let from = top().join("packaging/deb").join(script);
        put(script, &fs::read_to_string(&from).with_context(|| from.display().to_string())?, 0o755)?;
    }
    tree::date(&root, release.time)?;
    let package = release.out.join(format!("agentd_{}_amd64.deb", version(release)));
    let compression: &[&str] = if release.small { &["-Zxz", "-z6"] } else { &["-Znone"] };
    output(
        command("dpkg-deb")
            .env("SOURCE_DATE_EPOCH", release.time.to_string())
            .args(["--root-owner-group", "--threads-max=1"])
            .args(compression)
            .arg("--build")
            .arg(&root)
            .arg(&package),
    )?;
    Ok(package)
}

fn version(release: &Release) -> String {
    format!("{}-{}", release.version, release.revision)
}

/// What a package of Debian has of documents.
fn documents(release: &Release) -> Result<Vec<File>> {
    let changes = format!(
        "agentd ({}) unstable; urgency=medium\n\n  * As of this commit.\n\n -- {MAINTAINER}  {}\n",
        version(release),
        date(release.time, "%a, %d %b %Y %H:%M:%S +0000")?,
    );
    let rights = format!(
        "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\nUpstream-Name: agentd\n\n\
         Files: *\nCopyright: {} the agentd authors\nLicense: Apache-2.0\n On Debian systems the text of this licence is in \
         /usr/share/common-licenses/Apache-2.0.\n",
        date(release.time, "%Y")?,
    );
    let overrides = top().join("packaging/deb/lintian-overrides");
    let overrides = fs::read(&overrides).with_context(|| overrides.display().to_string())?;
    Ok(vec![
        File::plain("usr/share/doc/agentd/changelog.Debian.gz", gzip(changes.as_bytes())?),
        File::plain("usr/share/doc/agentd/copyright", rights.into_bytes()),
        File::plain("usr/share/lintian/overrides/agentd", overrides),
    ])
}

fn fields(tree: &Tree, release: &Release, scratch: &Path) -> Result<String> {
    let libraries = libraries(tree, scratch)?;
    Ok(format!(
        "Package: agentd\nVersion: {}\nArchitecture: amd64\nMaintainer: {MAINTAINER}\nInstalled-Size: {}\n\
         Depends: {libraries}, {DEPENDS}\nRecommends: {RECOMMENDS}\nSuggests: {SUGGESTS}\nSection: admin\n\
         Priority: optional\nDescription: {SUMMARY}\n{}",
        version(release),
        tree.kilobytes(),
        folded(DESCRIPTION),
    ))
}

/// The packages of the libraries that the program is linked with, in the versions that it needs.
fn libraries(tree: &Tree, scratch: &Path) -> Result<String> {
    let debian = scratch.join("debian");
    fs::create_dir(&debian)?;
    fs::write(debian.join("control"), "Source: agentd\n\nPackage: agentd\nArchitecture: any\n")?;
    let mut shlibdeps = command("dpkg-shlibdeps");
    shlibdeps.current_dir(scratch).args(["-O", "-xagentd"]).arg("-e").arg(&tree.program);
    let text = output(&mut shlibdeps).context("dpkg-shlibdeps, of dpkg-dev")?;
    let found = text.lines().find_map(|line| line.strip_prefix("shlibs:Depends="));
    let found = found.context("dpkg-shlibdeps names no libraries")?;
    // It looks at functions, and not at what the loader has to know.
    let versions = output(command("readelf").args(["--version-info", "--wide"]).arg(&tree.program));
    let packed = versions.context("readelf, of binutils")?.contains("GLIBC_ABI_DT_RELR");
    Ok(if packed { format!("libc6 (>= 2.36), {found}") } else { found.to_owned() })
}

/// The checksums of all files, as dpkg keeps them.
fn sums(root: &Path) -> Result<String> {
    let script = "find . -type f ! -path './DEBIAN/*' -printf '%P\\0' | LC_ALL=C sort -z | xargs -0 md5sum";
    output(command("sh").current_dir(root).args(["-c", script]))
}

/// A text as the continuation lines of a field.
fn folded(text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        if lines.last().is_some_and(|line| line.len() + word.len() > 76) {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            line.push(' ');
            line.push_str(word);
        }
    }
    lines.iter().map(|line| format!("{line}\n")).collect()
}
