//! What a store names and this host has no content of, right after the store was restored: a backup has none.

use agentd_api::image::{Image, ImageFormat, ImageSource};
use agentd_api::kind::Kind;
use agentd_api::snapshot::Snapshot;
use agentd_api::vm::Vm;
use agentd_api::volume::Volume;
use agentd_api::{Object, ObjectKey};
use agentd_drivers::Instance;
use agentd_store::{Query, Store};

/// One line each, in the order in which a person would see to them.
pub fn lines(store: &Store, instance: &Instance) -> Vec<String> {
    let mut lines = Vec::new();
    for image in all::<Image>(store) {
        lines.extend(image_line(&image, instance));
    }
    for volume in all::<Volume>(store).into_iter().filter(|volume| volume.status.size.is_some()) {
        let folder = instance.volume_dir(volume.meta.id);
        if !folder.exists() {
            lines.push(format!("{}: its content, which was in {}", of(&volume.meta.key()), folder.display()));
        }
    }
    for vm in all::<Vm>(store).into_iter().filter(|vm| vm.status.started_at.is_some()) {
        let folder = instance.vm_dir(vm.meta.id);
        if !folder.exists() {
            lines.push(format!("{}: its disks, which were in {}", of(&vm.meta.key()), folder.display()));
        }
    }
    for snapshot in all::<Snapshot>(store) {
        let Some(vm) = snapshot.status.vm_id.filter(|vm| !instance.vm_dir(*vm).exists()) else { continue };
        let folder = instance.vm_dir(vm);
        lines.push(format!("{}: was in the disks in {}", of(&snapshot.meta.key()), folder.display()));
    }
    lines
}

fn image_line(image: &Object<Image>, instance: &Instance) -> Option<String> {
    let digest = image.status.digest.as_ref()?;
    let there = match image.spec.format() {
        // The engine's; it is asked once the daemon runs.
        ImageFormat::Container => false,
        ImageFormat::Disk => {
            // As it is stored: by the digest's hexadecimal part.
            instance.images_dir().join(digest.rsplit(':').next().unwrap_or(digest)).exists()
        }
    };
    let how = match &image.spec.source {
        ImageSource::Upload(_) | ImageSource::Build(_) => "has to be given to agentd again".to_owned(),
        _ => format!("`agentctl retry image/{}` makes it again", image.meta.name),
    };
    (!there).then(|| format!("{}: its content {digest}; {how}", of(&image.meta.key())))
}

fn of(key: &ObjectKey) -> String {
    format!("{}/{} (project {})", key.kind, key.name, key.project)
}

fn all<K: Kind>(store: &Store) -> Vec<Object<K>> {
    let items = store.list(&Query::kind(K::DEF.kind)).items;
    items.iter().filter_map(|stored| stored.object::<K>().ok()).collect()
}
