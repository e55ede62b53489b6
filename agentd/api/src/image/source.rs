//! Where an image's content comes from.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ImageFormat;
use super::reference::RegistryRef;
use crate::error::FieldError;

/// Where an image's content comes from. Exactly one of these.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ImageSource {
    /// Built on this host from the distribution's packages.
    Recipe(Recipe),
    /// Fetched, checked against its digest, converted. Disks only.
    Url(UrlSource),
    /// Sent by the client: `PUT /v1/images/{name}/content` after the image was created. A disk; or, where the format is
    /// `container`, an archive of Docker's or OCI's layout, or a tree of files.
    Upload(UploadSource),
    /// Pulled from a registry. Containers only.
    Registry(RegistrySource),
    /// Built by the container engine from a Dockerfile and what belongs to it, which are sent as an upload is. Containers
    /// only.
    Build(BuildSource),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Recipe {
    /// The distribution's kernel and busybox: DHCP, a shell on the console, an HTTP server, ACPI power-off. For containers
    /// busybox alone.
    Micro,
    /// A Debian 12 with systemd, cloud-init, the guest agent and sshd. For containers without these.
    #[serde(rename = "debian-12")]
    Debian12,
}

impl Recipe {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Micro => "micro",
            Self::Debian12 => "debian-12",
        }
    }
    pub fn by_name(name: &str) -> Option<Self> {
        [Self::Micro, Self::Debian12].into_iter().find(|r| r.as_str() == name)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UrlSource {
    /// `http://` or `https://`.
    pub url: String,
    /// SHA-256 of the file that the URL leads to, 64 hexadecimal digits.
    #[schema(pattern = "^[0-9a-f]{64}$")]
    pub sha256: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UploadSource {
    /// The length of the file that will be sent, in bytes.
    #[schema(minimum = 1)]
    pub size: u64,
    /// SHA-256 of that file, where the client knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^[0-9a-f]{64}$")]
    pub sha256: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RegistrySource {
    /// As Docker writes it: `debian:12`, `registry.example.com:5000/tool@sha256:...`. What a tag leads to is looked up once;
    /// its digest is the status's `registry_digest`. Credentials are the daemon's, by the registry's name.
    pub reference: RegistryRef,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BuildSource {
    /// The length of the tar archive that will be sent, in bytes.
    #[schema(minimum = 1)]
    pub size: u64,
    /// SHA-256 of that archive, where the client knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^[0-9a-f]{64}$")]
    pub sha256: Option<String>,
    /// The Dockerfile's path in the archive. Absent: `Dockerfile`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dockerfile: Option<String>,
    /// What the Dockerfile's ARGs are set to. They can be read in the image: nothing secret belongs here.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub args: BTreeMap<String, String>,
    /// The stage to build, where it is not the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}

impl BuildSource {
    pub fn upload(&self) -> UploadSource {
        UploadSource { size: self.size, sha256: self.sha256.clone() }
    }
}

impl ImageSource {
    /// What is sent by the client, where that is what it comes of.
    pub fn upload(&self) -> Option<UploadSource> {
        match self {
            Self::Upload(source) => Some(source.clone()),
            Self::Build(source) => Some(source.upload()),
            Self::Recipe(_) | Self::Url(_) | Self::Registry(_) => None,
        }
    }

    /// The only format that can come of it, where there is but one.
    pub(super) fn only(&self) -> Option<ImageFormat> {
        match self {
            Self::Url(_) => Some(ImageFormat::Disk),
            Self::Registry(_) | Self::Build(_) => Some(ImageFormat::Container),
            Self::Recipe(_) | Self::Upload(_) => None,
        }
    }

    pub(super) fn check(&self, errors: &mut Vec<FieldError>) {
        match self {
            // A reference is checked where it is read.
            Self::Recipe(_) | Self::Registry(_) => {}
            Self::Url(source) => source.check(errors),
            Self::Upload(source) => source.check("spec.source.upload", errors),
            Self::Build(source) => source.check(errors),
        }
    }
}

const NOT_A_DIGEST: &str = "must be 64 lower-case hexadecimal digits";

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

impl UrlSource {
    fn check(&self, errors: &mut Vec<FieldError>) {
        if !is_sha256(&self.sha256) {
            errors.push(FieldError::new("spec.source.url.sha256", NOT_A_DIGEST));
        }
        let rest = self.url.strip_prefix("https://").or_else(|| self.url.strip_prefix("http://"));
        let plain = |u: &str| !u.is_empty() && !u.starts_with('/') && u.bytes().all(|b| b.is_ascii_graphic());
        if self.url.len() > 2048 || !rest.is_some_and(plain) {
            errors.push(FieldError::new(
                "spec.source.url.url",
                "must be an http:// or https:// address of at most 2048 printable ASCII characters",
            ));
        }
    }
}

impl UploadSource {
    fn check(&self, at: &str, errors: &mut Vec<FieldError>) {
        if self.size == 0 {
            errors.push(FieldError::new(format!("{at}.size"), "is 0: an empty file is no image"));
        }
        if self.sha256.as_deref().is_some_and(|d| !is_sha256(d)) {
            errors.push(FieldError::new(format!("{at}.sha256"), NOT_A_DIGEST));
        }
    }
}

const ARGS_MAX: usize = 256;
const ARG_MAX: usize = 16 << 10;

impl BuildSource {
    fn check(&self, errors: &mut Vec<FieldError>) {
        let at = "spec.source.build";
        self.upload().check(at, errors);
        let below = |path: &String| {
            !path.is_empty()
                && path.len() <= 4096
                && !path.chars().any(char::is_control)
                && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
        };
        if self.dockerfile.as_ref().is_some_and(|path| !below(path)) {
            errors.push(FieldError::new(
                format!("{at}.dockerfile"),
                "must be a path in the archive, without '.', '..' and a '/' at its beginning",
            ));
        }
        let word = |name: &str| {
            (1..=128).contains(&name.len())
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
        };
        if self.target.as_deref().is_some_and(|name| !word(name)) {
            errors.push(FieldError::new(format!("{at}.target"), "must be a stage's name or number"));
        }
        if self.args.len() > ARGS_MAX {
            errors.push(FieldError::new(format!("{at}.args"), format!("are more than {ARGS_MAX}")));
        }
        for (name, value) in &self.args {
            let letter = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
            if name.is_empty() || name.len() > 255 || !name.bytes().all(letter) {
                errors.push(FieldError::new(
                    format!("{at}.args.{name}"),
                    "is no ARG's name: letters, digits and '_'",
                ));
            }
            if value.len() > ARG_MAX || value.contains('\0') {
                let why = format!("must be at most {ARG_MAX} bytes without NUL");
                errors.push(FieldError::new(format!("{at}.args.{name}"), why));
            }
        }
    }
}
