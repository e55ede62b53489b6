//! Recipes for containers: the same system as a tree of files, without what only a machine needs. No kernel, no
//! initrd, nothing that boots, configures or updates it by itself; a shell is what runs unless something else is told.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use agentd_api::image::Recipe;

use super::busybox::busybox;
use super::{Kitchen, debian};
use crate::image::ImageError;
use crate::image::host::run::{files, report};

/// A tree, packed, and what an image made of it runs.
pub(in crate::image) struct Tree {
    pub(in crate::image) archive: PathBuf,
    pub(in crate::image) command: &'static str,
}

const DEBIAN_PACKAGES: [&str; 6] =
    ["ca-certificates", "iproute2", "iputils-ping", "less", "netbase", "procps"];
const APPLETS: [&str; 6] = ["sh", "httpd", "nslookup", "ping", "sleep", "wget"];

pub(in crate::image) async fn tree(recipe: Recipe, kitchen: &Kitchen<'_>) -> Result<Tree, ImageError> {
    if std::env::consts::ARCH != "x86_64" {
        let why = format!("{} is built on x86-64 only, and this host is not", recipe.as_str());
        return Err(ImageError::Refused(why));
    }
    let root = kitchen.scratch.join("root");
    let command = match recipe {
        Recipe::Debian12 => {
            debian::bootstrap(kitchen, &root, &DEBIAN_PACKAGES).await?;
            let tree = root.clone();
            files("setting up the system", move || settle(&tree)).await?;
            "[\"bash\"]"
        }
        Recipe::Micro => {
            report(kitchen.work, "fetching busybox", 0, None, "steps");
            let (busybox, applets) = busybox(kitchen, None, &APPLETS).await?;
            let tree = root.clone();
            files("making the tree", move || micro(&tree, &busybox, &applets)).await?;
            "[\"sh\"]"
        }
    };
    report(kitchen.work, "packing the tree", 0, None, "steps");
    let archive = kitchen.scratch.join("root.tar");
    let pack = kitchen
        .program("tar")?
        .args(["--create", "--numeric-owner", "--xattrs", "--one-file-system", "--exclude=./dev/*", "--file"])
        .arg(&archive)
        .arg("--directory")
        .arg(&root)
        .arg(".");
    kitchen.run("packing the tree", pack).await?;
    Ok(Tree { archive, command })
}

/// What the build left behind, and what each container has of its own.
fn settle(root: &Path) -> std::io::Result<()> {
    debian::forget_build(root)?;
    for path in ["etc/hostname", "etc/hosts", "etc/resolv.conf", "etc/machine-id"] {
        match std::fs::remove_file(root.join(path)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    std::fs::write(root.join("etc/machine-id"), "")
}

fn micro(root: &Path, busybox: &[u8], applets: &[String]) -> std::io::Result<()> {
    for folder in ["bin", "dev", "etc", "proc", "root", "run", "sys", "tmp", "var"] {
        std::fs::create_dir_all(root.join(folder))?;
    }
    std::fs::set_permissions(root, std::fs::Permissions::from_mode(0o755))?;
    std::fs::set_permissions(root.join("tmp"), std::fs::Permissions::from_mode(0o1777))?;
    std::fs::set_permissions(root.join("root"), std::fs::Permissions::from_mode(0o700))?;
    let program = root.join("bin/busybox");
    std::fs::write(&program, busybox)?;
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755))?;
    // An applet's name is never a path.
    for applet in applets.iter().filter(|a| !a.contains('/') && *a != "busybox") {
        symlink("busybox", root.join("bin").join(applet))?;
    }
    std::fs::write(
        root.join("etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    )?;
    std::fs::write(root.join("etc/group"), "root:x:0:\nnogroup:x:65534:\n")?;
    std::fs::write(root.join("etc/nsswitch.conf"), "hosts: files dns\n")
}
