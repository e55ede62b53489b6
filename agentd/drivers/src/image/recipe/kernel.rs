//! A kernel of the distribution and the few of its modules that an initrd carries.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::Kitchen;
use super::cpio::Archive;
use crate::image::ImageError;
use crate::image::host::run::files;

const STEP: &str = "choosing the kernel's modules";

/// A kernel below a folder that packages were unpacked into.
#[derive(Debug)]
pub(super) struct Kernel {
    pub image: PathBuf,
    modules: PathBuf,
    release: String,
}

impl Kernel {
    /// The one kernel in `root`. Its modules are indexed where the package has not done that itself.
    pub(super) async fn find(kitchen: &Kitchen<'_>, root: &Path) -> Result<Self, ImageError> {
        let boot = root.join("boot");
        let names = files(STEP, move || {
            let entries = std::fs::read_dir(boot)?;
            Ok(entries.filter_map(|e| e.ok()?.file_name().into_string().ok()).collect::<Vec<_>>())
        })
        .await?;
        let release = names.iter().filter_map(|name| name.strip_prefix("vmlinuz-")).max();
        let Some(release) = release.map(str::to_owned) else {
            return Err(failed(format!("there is no kernel in {}", root.display())));
        };
        let modules = root.join("lib/modules").join(&release);
        if !modules.join("modules.dep").is_file() {
            let depmod = kitchen.program("depmod")?.arg("-b").arg(root).arg(&release);
            kitchen.run(STEP, depmod).await?;
        }
        Ok(Self { image: root.join("boot").join(format!("vmlinuz-{release}")), modules, release })
    }

    /// Adds the modules of each list with what they need, and the list in the order in which they load. What is built into
    /// the kernel needs no file. That one needs another is not said to the guest: a list has what each needs before it.
    pub(super) async fn add_modules(
        &self,
        kitchen: &Kitchen<'_>,
        archive: &mut Archive,
        lists: &[(&str, &[&str])],
    ) -> Result<(), ImageError> {
        let folder = self.modules.clone();
        let (dependencies, builtin) = files(STEP, move || {
            let read = |name: &str| std::fs::read_to_string(folder.join(name));
            Ok((read("modules.dep")?, read("modules.builtin")?))
        })
        .await?;
        let release = format!("lib/modules/{}", self.release);
        archive.folder("lib/modules");
        archive.folder(&release);
        let mut all = BTreeSet::new();
        for (list, wanted) in lists {
            let order = load_order(&dependencies, &builtin, wanted)
                .map_err(|module| failed(format!("kernel {} has no module {module}", self.release)))?;
            let mut names = Vec::new();
            for path in order {
                let name = module_name(&path);
                if all.insert(format!("{name}.ko:")) {
                    archive.file(&format!("{release}/{name}.ko"), &self.read_module(kitchen, &path).await?);
                }
                names.push(name);
            }
            archive.file(&format!("lib/modules/{list}"), text(names).as_bytes());
        }
        archive.file(&format!("{release}/modules.dep"), text(all).as_bytes());
        Ok(())
    }

    /// A module as the guest's modprobe wants it: not compressed.
    async fn read_module(&self, kitchen: &Kitchen<'_>, path: &str) -> Result<Vec<u8>, ImageError> {
        let whole = self.modules.join(path);
        let unpacker = match path.rsplit('.').next() {
            Some("xz") => "xz",
            Some("zst") => "zstd",
            Some("gz") => "gzip",
            _ => return files(STEP, move || std::fs::read(whole)).await,
        };
        kitchen.run(STEP, kitchen.program(unpacker)?.arg("-dc").arg(whole)).await
    }
}

fn text(lines: impl IntoIterator<Item = String>) -> String {
    lines.into_iter().map(|line| line + "\n").collect()
}

fn failed(detail: String) -> ImageError {
    ImageError::Failed { step: STEP.to_owned(), detail }
}

/// "kernel/drivers/net/virtio_net.ko.xz" is virtio_net; a dash and an underscore are the same in a module's name.
fn module_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split(".ko").next().unwrap_or(file).replace('-', "_")
}

/// The files of `wanted` with all that they need before them; Err with a name that is neither module nor built in.
fn load_order(dependencies: &str, builtin: &str, wanted: &[&str]) -> Result<Vec<String>, String> {
    let mut known: BTreeMap<String, (&str, Vec<&str>)> = BTreeMap::new();
    for line in dependencies.lines() {
        if let Some((path, needs)) = line.split_once(':') {
            known.insert(module_name(path), (path, needs.split_whitespace().collect()));
        }
    }
    let builtin: BTreeSet<String> = builtin.lines().map(module_name).collect();
    let (mut order, mut seen) = (Vec::new(), BTreeSet::new());
    for name in wanted {
        let name = name.replace('-', "_");
        let Some((path, needs)) = known.get(&name) else {
            if builtin.contains(&name) {
                continue;
            }
            return Err(name);
        };
        // modules.dep lists all that a module needs, directly or not, the nearest first.
        for path in needs.iter().rev().chain([path]) {
            if seen.insert(*path) {
                order.push((*path).to_owned());
            }
        }
    }
    Ok(order)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEP: &str = "kernel/a/virtio_net.ko.xz: kernel/a/net_failover.ko.xz kernel/b/failover.ko.xz\n\
                       kernel/a/net_failover.ko.xz: kernel/b/failover.ko.xz\n\
                       kernel/b/failover.ko.xz:\nkernel/c/virtio-rng.ko:\n";

    #[test]
    fn what_a_module_needs_comes_before_it_and_once() {
        let order =
            load_order(DEP, "kernel/fs/ext4/ext4.ko\n", &["virtio_net", "ext4", "virtio_rng", "failover"]);
        let expected = [
            "kernel/b/failover.ko.xz",
            "kernel/a/net_failover.ko.xz",
            "kernel/a/virtio_net.ko.xz",
            "kernel/c/virtio-rng.ko",
        ];
        assert_eq!(order, Ok(expected.map(str::to_owned).to_vec()));
    }

    #[test]
    fn a_module_that_is_nowhere_is_named() {
        assert_eq!(load_order(DEP, "", &["virtio_gpu"]), Err("virtio_gpu".to_owned()));
    }
}
