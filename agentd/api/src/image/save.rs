//! How an image for containers comes out again: `images/{name}/save`.

use crate::kind::{ParamDef, SubAnswer, SubDef};

/// Of which layout the archive is that an image is saved as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SaveFormat {
    /// As the engine packs it.
    #[default]
    Docker,
    Oci,
}

impl SaveFormat {
    /// The first is what it is where nobody says.
    pub const NAMES: [&'static str; 2] = [Self::Docker.as_str(), Self::Oci.as_str()];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Oci => "oci",
        }
    }
    pub fn by_name(name: &str) -> Option<Self> {
        [Self::Docker, Self::Oci].into_iter().find(|format| format.as_str() == name)
    }
}

pub(super) const SAVE: SubDef = SubDef::get(
    "save",
    SubAnswer::Content("application/x-tar"),
    &[ParamDef::one_of(
        "format",
        &SaveFormat::NAMES,
        "The archive's layout: Docker's, as the engine packs it, or OCI's, made of that.",
    )],
    "A container's image as an archive, which an upload of format `container` takes",
);
