//! The kind `image`: what a VM's disk starts as. Its content is named by its digest and stored once.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::FieldError;
use crate::kind::{ColumnDef, FieldDef, Kind, KindDef, RECONCILE, RETRY};
use crate::quantity::ByteSize;
use crate::status::{State, StatusCommon};

/// The names that agentd knows how to build an image for.
pub const RECIPES: [&str; 2] = ["micro", "debian-12"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Image;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImageSpec {
    pub source: ImageSource,
}

/// Where an image's content comes from. Exactly one of these.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ImageSource {
    /// Built on this host from the distribution's packages.
    Recipe(Recipe),
    /// Fetched, checked against its digest, converted.
    Url(UrlSource),
    /// Sent by the client: `PUT /v1/images/{name}/content` after the image was created.
    Upload(UploadSource),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Recipe {
    /// The distribution's kernel and busybox: DHCP, a shell on the console, an HTTP server, ACPI power-off.
    Micro,
    /// A Debian 12 with systemd, cloud-init, the guest agent and sshd.
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

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct ImageStatus {
    #[serde(flatten)]
    pub common: StatusCommon,
    /// `sha256:` and 64 digits: of the disk, or of the list of files where the image has a kernel of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// The size of the disk that a guest sees.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub virtual_size: Option<ByteSize>,
    /// What it takes on this host's disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stored_size: Option<ByteSize>,
    /// What the content was recognised as before it was converted: qcow2, raw, vmdk, vhdx, iso.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_format: Option<String>,
    /// Whether it boots by a kernel of its own, without firmware and boot loader.
    pub direct_boot: bool,
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
        summary: "What a VM's disk starts as",
        states: &[State::Pending, State::Provisioning, State::Ready, State::Failed, State::Deleting],
        columns: &[
            ColumnDef::text("NAME", "/name"),
            ColumnDef::text("STATE", "/status/state"),
            ColumnDef::text("SIZE", "/status/virtual_size"),
            ColumnDef::text("STORED", "/status/stored_size"),
            ColumnDef::age("AGE", "/created_at"),
            ColumnDef::text("DIGEST", "/status/digest").wide(),
            ColumnDef::text("REASON", "/status/reason").wide(),
        ],
        fields: &[
            FieldDef { name: "state", path: "/status/state" },
            FieldDef { name: "digest", path: "/status/digest" },
        ],
        actions: &[RECONCILE, RETRY],
        subs: &[],
    };

    fn check(spec: &ImageSpec) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let digest = |text: &str| {
            text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        };
        let not_a_digest = "must be 64 lower-case hexadecimal digits";
        match &spec.source {
            ImageSource::Recipe(_) => {}
            ImageSource::Url(source) => {
                if !digest(&source.sha256) {
                    errors.push(FieldError::new("spec.source.url.sha256", not_a_digest));
                }
                let rest = source.url.strip_prefix("https://").or_else(|| source.url.strip_prefix("http://"));
                let plain =
                    |u: &str| !u.is_empty() && !u.starts_with('/') && u.bytes().all(|b| b.is_ascii_graphic());
                if source.url.len() > 2048 || !rest.is_some_and(plain) {
                    errors.push(FieldError::new(
                        "spec.source.url.url",
                        "must be an http:// or https:// address of at most 2048 printable ASCII characters",
                    ));
                }
            }
            ImageSource::Upload(source) => {
                if source.size == 0 {
                    errors
                        .push(FieldError::new("spec.source.upload.size", "is 0: an empty file is no image"));
                }
                if source.sha256.as_deref().is_some_and(|d| !digest(d)) {
                    errors.push(FieldError::new("spec.source.upload.sha256", not_a_digest));
                }
            }
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
    fn a_source_is_one_of_three() {
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
}
