//! Admission of images.

use std::collections::BTreeMap;

use agentd_api::image::{Image, ImageSource, ImageSpec, ImageStatus, Recipe};
use agentd_api::{ErrorCode, Object, ObjectKey, ObjectName, Problem};
use agentd_store::Query;
use serde_json::json;

use super::admission::{Admission, Desk};
use super::draft::Draft;
use super::guest::refuse_used;
use super::write;

impl Admission for Image {
    const FINALIZERS: &'static [&'static str] = &["content"];

    fn create(_: &mut Desk<'_>, _: &ObjectKey, spec: &ImageSpec) -> Result<ImageStatus, Problem> {
        let received = matches!(spec.source, ImageSource::Upload(_)).then_some(0);
        Ok(ImageStatus { received, ..ImageStatus::default() })
    }
    fn change(_: &mut Desk<'_>, is: &Object<Self>, spec: &ImageSpec) -> Result<Option<ImageStatus>, Problem> {
        if is.spec == *spec {
            return Ok(None);
        }
        Err(Problem::field("spec.source", "cannot be changed: VMs stand on what it brought")
            .hint("create another image"))
    }
    fn delete(desk: &mut Desk<'_>, key: &ObjectKey) -> Result<(), Problem> {
        refuse_used(desk, key, "image")?;
        refuse_used(desk, key, "iso")
    }
}

/// Sees to it that the image a VM names is there, or on its way: one that has a recipe is created with the VM.
pub(super) fn refer(desk: &mut Desk<'_>, vm: &ObjectKey, name: &ObjectName) -> Result<(), Problem> {
    let key = ObjectKey::of::<Image>(vm.project.clone(), name.clone());
    match desk.tx.get(&key) {
        Some(image) if image.deleting() => {
            Err(Problem::new(ErrorCode::Conflict, format!("{key} is being deleted")).at("spec.image"))
        }
        Some(_) => Ok(()),
        None => match Recipe::by_name(name.as_str()) {
            Some(recipe) => {
                let spec = json!({"source": {"recipe": recipe.as_str()}});
                let draft =
                    Draft { labels: BTreeMap::new(), annotations: BTreeMap::new(), spec, given: Vec::new() };
                let made = write::create(desk, &key, draft)?;
                desk.record(&made, "created", format!("wanted by {vm}"));
                Ok(())
            }
            None => Err(unknown(desk, &key)),
        },
    }
}

fn unknown(desk: &mut Desk<'_>, key: &ObjectKey) -> Problem {
    let query = Query { project: Some(key.project.clone()), limit: Some(10), ..Query::kind("image") };
    let mut there: Vec<String> = desk.tx.list(&query).iter().map(|i| i.name().to_string()).collect();
    for recipe in agentd_api::image::RECIPES {
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
