//! Admission of images, and what those who name one mean by that.

use std::collections::BTreeMap;

use agentd_api::container::Container;
use agentd_api::image::{
    Image, ImageFormat, ImageSpec, ImageStatus, RECIPES, Recipe, container_name, for_containers,
};
use agentd_api::vm::Vm;
use agentd_api::{ErrorCode, Kind, KindDef, Object, ObjectKey, ObjectName, Problem};
use agentd_store::Query;
use serde_json::json;

use super::admission::{Admission, Desk, object};
use super::draft::Draft;
use super::guest::{refuse_users, users};
use super::write;

impl Admission for Image {
    const FINALIZERS: &'static [&'static str] = &["content"];

    fn create(_: &mut Desk<'_>, _: &ObjectKey, spec: &ImageSpec) -> Result<ImageStatus, Problem> {
        let received = spec.source.upload().map(|_| 0);
        Ok(ImageStatus { received, format: spec.format(), ..ImageStatus::default() })
    }
    fn change(_: &mut Desk<'_>, is: &Object<Self>, spec: &ImageSpec) -> Result<Option<ImageStatus>, Problem> {
        if is.spec == *spec {
            return Ok(None);
        }
        let field = if is.spec.source == spec.source { "spec.format" } else { "spec.source" };
        Err(Problem::field(field, "cannot be changed: VMs and containers stand on what it brought")
            .hint("create another image"))
    }
    fn delete(desk: &mut Desk<'_>, key: &ObjectKey) -> Result<(), Problem> {
        let Some(there) = desk.tx.get(key) else { return Ok(()) };
        let name = key.name.as_str();
        let of = |def: &'static KindDef, field: &str, name: &str| users(desk, key, def, field, name);
        let users = match object::<Image>(&there)?.spec.format() {
            ImageFormat::Disk => [of(Vm::DEF, "image", name), of(Vm::DEF, "iso", name)].concat(),
            ImageFormat::Container => {
                // A recipe's name means this one as well, unless that is an image for containers itself.
                let recipe = RECIPES.into_iter().filter_map(Recipe::by_name);
                let alias = recipe.into_iter().find(|recipe| container_name(*recipe) == name);
                let alias = alias.filter(|recipe| !shadowed(desk, key, *recipe));
                let of = |name: &str| users(desk, key, Container::DEF, "image", name);
                [of(name), alias.map(|recipe| of(recipe.as_str())).unwrap_or_default()].concat()
            }
        };
        refuse_users(key, &users)
    }
}

fn format_of(desk: &Desk<'_>, key: &ObjectKey) -> Option<ImageFormat> {
    let there = desk.tx.get(key)?;
    object::<Image>(&there).ok().map(|image| image.spec.format())
}

fn shadowed(desk: &Desk<'_>, beside: &ObjectKey, recipe: Recipe) -> bool {
    let name = ObjectName::parse(recipe.as_str());
    let key = name.map(|name| ObjectKey::of::<Image>(beside.project.clone(), name));
    key.is_ok_and(|key| format_of(desk, &key) == Some(ImageFormat::Container))
}

/// Sees to it that the image a VM names is there, or on its way: one that has a recipe is created with the VM.
pub(super) fn refer(desk: &mut Desk<'_>, vm: &ObjectKey, name: &ObjectName) -> Result<(), Problem> {
    let key = ObjectKey::of::<Image>(vm.project.clone(), name.clone());
    if let Some(there) = desk.tx.get(&key) {
        usable(&key, there.deleting())?;
        if format_of(desk, &key) == Some(ImageFormat::Container) {
            let what = format!("{key} is an image for containers, which no VM can start from");
            return Err(
                Problem::field("spec.image", what).hint("`agentctl image list` tells which are disks")
            );
        }
        return Ok(());
    }
    match Recipe::by_name(name.as_str()) {
        Some(recipe) => make(desk, vm, &key, recipe, ImageFormat::Disk),
        None => Err(unknown(desk, &key)),
    }
}

/// What a container's `spec.image` means among the objects of its project.
pub(super) enum Meant {
    /// One that is there, or was created with the container.
    Object,
    /// A disk of that name is there, and nothing for containers.
    Disk,
    None,
}

/// Finds the image that a container names. `create`: one that has a recipe is created where there is none.
pub(super) fn refer_container(
    desk: &mut Desk<'_>,
    container: &ObjectKey,
    name: &ObjectName,
    create: bool,
) -> Result<Meant, Problem> {
    let mut meant = Meant::None;
    let mut free = None;
    for name in for_containers(name) {
        let key = ObjectKey::of::<Image>(container.project.clone(), name);
        let Some(there) = desk.tx.get(&key) else {
            free = Some(key);
            continue;
        };
        if format_of(desk, &key) == Some(ImageFormat::Container) {
            usable(&key, there.deleting())?;
            return Ok(Meant::Object);
        }
        (meant, free) = (Meant::Disk, None);
    }
    // The recipe's own name is left to the disk.
    match (Recipe::by_name(name.as_str()), free.filter(|key| key.name != *name)) {
        (Some(recipe), Some(key)) if create || matches!(meant, Meant::Disk) => {
            make(desk, container, &key, recipe, ImageFormat::Container)?;
            Ok(Meant::Object)
        }
        _ => Ok(meant),
    }
}

fn usable(key: &ObjectKey, deleting: bool) -> Result<(), Problem> {
    if deleting {
        return Err(Problem::new(ErrorCode::Conflict, format!("{key} is being deleted")).at("spec.image"));
    }
    Ok(())
}

fn make(
    desk: &mut Desk<'_>,
    guest: &ObjectKey,
    key: &ObjectKey,
    recipe: Recipe,
    format: ImageFormat,
) -> Result<(), Problem> {
    let mut spec = json!({"source": {"recipe": recipe.as_str()}});
    if format == ImageFormat::Container {
        spec["format"] = json!(format);
    }
    let draft = Draft { labels: BTreeMap::new(), annotations: BTreeMap::new(), spec, given: Vec::new() };
    let made = write::create(desk, key, draft)?;
    desk.record(&made, "created", format!("wanted by {guest}"));
    Ok(())
}

fn unknown(desk: &mut Desk<'_>, key: &ObjectKey) -> Problem {
    let query = Query { project: Some(key.project.clone()), limit: Some(10), ..Query::kind("image") };
    let mut there: Vec<String> = desk.tx.list(&query).iter().map(|i| i.name().to_string()).collect();
    for recipe in RECIPES {
        if !there.iter().any(|n| n == recipe) {
            there.push(format!("{recipe} (would be built)"));
        }
    }
    Problem::field("spec.image", format!("there is no image '{}' in project '{}'", key.name, key.project))
        .hint(format!(
            "there are {}; `agentctl image build`, `import` and `pull` bring more",
            there.join(", ")
        ))
}
