//! The kind `image`: what a VM's disk starts as, or what a container is made of. Its content is named by its digest and
//! stored once.

mod reference;
mod save;
mod source;

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::FieldError;
use crate::kind::{ColumnDef, FieldDef, Kind, KindDef, RECONCILE, RETRY};
use crate::name::ObjectName;
use crate::quantity::ByteSize;
use crate::status::{State, StatusCommon};

pub use reference::{ReferenceError, RegistryRef, is_digest};
pub use save::SaveFormat;
pub use source::{BuildSource, ImageSource, Recipe, RegistrySource, UploadSource, UrlSource};

/// The names that agentd knows how to build an image for.
pub const RECIPES: [&str; 2] = ["micro", "debian-12"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Image;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImageSpec {
    pub source: ImageSource,
    /// Absent: what comes of the source; a disk, where both may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<ImageFormat>,
}

/// What an image is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ImageFormat {
    /// A disk, which VMs start from. agentd keeps it.
    #[default]
    Disk,
    /// What containers are made of. The container engine keeps it, under a name of agentd's.
    Container,
}

impl fmt::Display for ImageFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Disk => "disk",
            Self::Container => "container",
        })
    }
}

impl ImageSpec {
    pub fn format(&self) -> ImageFormat {
        self.format.or_else(|| self.source.only()).unwrap_or_default()
    }
}

/// What a container's image of a recipe is called where nobody says otherwise: the recipe's own name is the disk's.
pub fn container_name(recipe: Recipe) -> String {
    format!("{}-container", recipe.as_str())
}

/// The objects that a container may mean by that name, in the order in which they count: the first that is for containers.
pub fn for_containers(name: &ObjectName) -> Vec<ObjectName> {
    let of_recipe = Recipe::by_name(name.as_str()).map(container_name);
    let of_recipe = of_recipe.and_then(|name| ObjectName::parse(&name).ok());
    std::iter::once(name.clone()).chain(of_recipe).collect()
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct ImageStatus {
    #[serde(flatten)]
    pub common: StatusCommon,
    pub format: ImageFormat,
    /// `sha256:` and 64 digits: of the disk, or of the list of files where the image has a kernel of its own. A container's
    /// image: the engine's own id of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// The size of the disk that a guest sees.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub virtual_size: Option<ByteSize>,
    /// What it takes on this host's disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stored_size: Option<ByteSize>,
    /// What the content was recognised as before it was converted: qcow2, raw, vmdk, vhdx, iso. A container's image: registry,
    /// docker archive, oci archive, root tree, dockerfile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_format: Option<String>,
    /// Whether it boots by a kernel of its own, without firmware and boot loader.
    pub direct_boot: bool,
    /// What a registry's tag led to when it was pulled: `HOST/PATH@sha256:...`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registry_digest: Option<String>,
    /// How many bytes of an upload or a pull have arrived and are on disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub received: Option<u64>,
}

impl Kind for Image {
    type Spec = ImageSpec;
    type Status = ImageStatus;

    const DEF: &'static KindDef = &KindDef {
        kind: "image",
        plural: "images",
        summary: "What a VM's disk starts as, or what a container is made of",
        states: &[State::Pending, State::Provisioning, State::Ready, State::Failed, State::Deleting],
        columns: &[
            ColumnDef::text("NAME", "/name"),
            ColumnDef::text("STATE", "/status/state"),
            ColumnDef::text("FORMAT", "/status/format"),
            ColumnDef::text("SIZE", "/status/virtual_size"),
            ColumnDef::text("STORED", "/status/stored_size"),
            ColumnDef::age("AGE", "/created_at"),
            ColumnDef::text("DIGEST", "/status/digest").wide(),
            ColumnDef::text("REASON", "/status/reason").wide(),
        ],
        fields: &[
            FieldDef { name: "state", path: "/status/state" },
            FieldDef { name: "digest", path: "/status/digest" },
            FieldDef { name: "format", path: "/status/format" },
        ],
        actions: &[RECONCILE, RETRY],
        subs: &[save::SAVE],
    };

    fn check(spec: &ImageSpec) -> Vec<FieldError> {
        let mut errors = Vec::new();
        spec.source.check(&mut errors);
        if let (Some(wanted), Some(only)) = (spec.format, spec.source.only())
            && wanted != only
        {
            errors.push(FieldError::new(
                "spec.format",
                format!("must be {only}: nothing else comes of this source"),
            ));
        }
        errors
    }
    fn common(status: &ImageStatus) -> &StatusCommon {
        &status.common
    }
    fn common_mut(status: &mut ImageStatus) -> &mut StatusCommon {
        &mut status.common
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_one_of_five() {
        let recipe: ImageSpec =
            serde_json::from_value(serde_json::json!({"source": {"recipe": "debian-12"}})).expect("ok");
        assert_eq!(recipe.source, ImageSource::Recipe(Recipe::Debian12));
        for bad in [
            serde_json::json!({"source": {}}),
            serde_json::json!({"source": {"recipe": "windows"}}),
            serde_json::json!({"source": {"recipe": "micro", "upload": {"size": 1}}}),
            serde_json::json!({"source": {"file": "/etc/shadow"}}),
        ] {
            assert!(serde_json::from_value::<ImageSpec>(bad.clone()).is_err(), "{bad}");
        }
    }

    #[test]
    fn urls_and_digests_are_checked() {
        let url = |url: &str, sha256: &str| ImageSpec {
            source: ImageSource::Url(UrlSource { url: url.to_owned(), sha256: sha256.to_owned() }),
            format: None,
        };
        let good = "0".repeat(64);
        assert_eq!(Image::check(&url("https://example.com/a.qcow2", &good)), []);
        for bad in [
            "file:///etc/shadow",
            "ftp://x/y",
            "https://",
            "http:///x",
            "https://a b",
            "-o/etc/x",
            "https://a\nb",
        ] {
            assert_eq!(Image::check(&url(bad, &good))[0].field, "spec.source.url.url", "{bad}");
        }
        assert_eq!(Image::check(&url("https://x/y", "ABC"))[0].field, "spec.source.url.sha256");
    }

    #[test]
    fn a_format_is_what_comes_of_the_source() {
        let spec = |value: serde_json::Value| serde_json::from_value::<ImageSpec>(value);
        let format =
            |value| spec(value).map(|spec| (spec.format(), Image::check(&spec).len())).expect("a spec");
        assert_eq!(format(serde_json::json!({"source": {"recipe": "micro"}})), (ImageFormat::Disk, 0));
        let container = serde_json::json!({"source": {"recipe": "micro"}, "format": "container"});
        assert_eq!(format(container), (ImageFormat::Container, 0));
        let registry = |text: &str| serde_json::json!({"source": {"registry": {"reference": text}}});
        assert_eq!(format(registry("h:5000/a:1")), (ImageFormat::Container, 0));
        let mut disk = registry("debian");
        disk["format"] = serde_json::json!("disk");
        assert_eq!(Image::check(&spec(disk).expect("a spec"))[0].field, "spec.format");
        assert!(spec(registry("a b")).is_err());
    }

    #[test]
    fn what_is_wrong_in_a_build_is_told_by_its_field() {
        let wrong = |more: serde_json::Value| {
            let mut build = serde_json::json!({"size": 1});
            build.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
            let spec = serde_json::from_value::<ImageSpec>(serde_json::json!({"source": {"build": build}}));
            Image::check(&spec.expect("a spec")).iter().map(|e| e.field.clone()).collect::<Vec<_>>()
        };
        let none: [&str; 0] = [];
        assert_eq!(
            wrong(serde_json::json!({"dockerfile": "a/Dockerfile", "args": {"A": "b c"}, "target": "x"})),
            none
        );
        assert_eq!(wrong(serde_json::json!({"dockerfile": "../x"})), ["spec.source.build.dockerfile"]);
        assert_eq!(wrong(serde_json::json!({"dockerfile": "/x"})), ["spec.source.build.dockerfile"]);
        assert_eq!(wrong(serde_json::json!({"args": {"A B": ""}})), ["spec.source.build.args.A B"]);
        assert_eq!(wrong(serde_json::json!({"target": "a b"})), ["spec.source.build.target"]);
        assert_eq!(wrong(serde_json::json!({"size": 0})), ["spec.source.build.size"]);
    }
}
