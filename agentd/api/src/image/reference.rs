//! Where an image is in a registry, as Docker writes it: `[HOST[:PORT]/]PATH[:TAG][@sha256:DIGEST]`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::schema::text_schema;

const NAME_MAX: usize = 255;
const TAG_MAX: usize = 128;
/// Whose images have no host before them.
const USUAL_HOST: &str = "docker.io";

/// A reference whose every part was checked. Without tag and digest it means the tag `latest`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RegistryRef {
    given: String,
    host: String,
    path: String,
    tag: Option<String>,
    digest: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    #[error("must name an image as HOST[:PORT]/PATH[:TAG] or PATH@sha256:DIGEST")]
    Shape,
    #[error("has capital letters in its path; registries have none")]
    Capitals,
    #[error("has a tag that is none: at most {TAG_MAX} letters, digits, '_', '.' and '-'")]
    Tag,
    #[error("has a digest that is none: 'sha256:' and 64 lower-case hexadecimal digits")]
    Digest,
    #[error("is longer than {NAME_MAX} characters")]
    Long,
}

impl RegistryRef {
    /// The registry, with its port where it was given one.
    pub fn host(&self) -> &str {
        &self.host
    }
    /// Host and path.
    pub fn name(&self) -> String {
        format!("{}/{}", self.host, self.path)
    }
    /// The last part of the path: what an image is called where nobody says otherwise.
    pub fn short(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }
    pub fn tag(&self) -> &str {
        self.tag.as_deref().unwrap_or("latest")
    }
    /// `sha256:` and 64 digits, where it was given: then the tag says nothing.
    pub fn digest(&self) -> Option<&str> {
        self.digest.as_deref()
    }
    pub fn as_str(&self) -> &str {
        &self.given
    }
}

/// `sha256:` and 64 digits.
pub fn is_digest(text: &str) -> bool {
    let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    text.strip_prefix("sha256:").is_some_and(|digits| digits.len() == 64 && digits.bytes().all(hex))
}

impl FromStr for RegistryRef {
    type Err = ReferenceError;

    fn from_str(given: &str) -> Result<Self, ReferenceError> {
        let (rest, digest) = match given.split_once('@') {
            Some((rest, digest)) if is_digest(digest) => (rest, Some(digest.to_owned())),
            Some(_) => return Err(ReferenceError::Digest),
            None => (given, None),
        };
        // A ':' behind the last '/' is a tag's; one before it is a port's.
        let last = rest.rfind('/').map_or(0, |at| at + 1);
        let (name, tag) = match rest[last..].split_once(':') {
            Some((short, tag)) if is_tag(tag) => (&rest[..last + short.len()], Some(tag.to_owned())),
            Some(_) => return Err(ReferenceError::Tag),
            None => (rest, None),
        };
        if name.len() > NAME_MAX {
            return Err(ReferenceError::Long);
        }
        let host = name.split_once('/').filter(|(first, _)| {
            first.contains(['.', ':'])
                || *first == "localhost"
                || first.bytes().any(|b| b.is_ascii_uppercase())
        });
        let (host, path) = match host {
            Some((host, path)) if is_host(host) => (host.to_owned(), path.to_owned()),
            Some(_) => return Err(ReferenceError::Shape),
            None if name.contains('/') => (USUAL_HOST.to_owned(), name.to_owned()),
            None => (USUAL_HOST.to_owned(), format!("library/{name}")),
        };
        let host = if host == "index.docker.io" { USUAL_HOST.to_owned() } else { host };
        if path.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(ReferenceError::Capitals);
        }
        if !path.split('/').all(is_component) {
            return Err(ReferenceError::Shape);
        }
        Ok(Self { given: given.to_owned(), host, path, tag, digest })
    }
}

fn is_tag(tag: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    (1..=TAG_MAX).contains(&tag.len())
        && tag.bytes().next().is_some_and(inner)
        && tag.bytes().all(|b| inner(b) || matches!(b, b'.' | b'-'))
}

fn is_host(host: &str) -> bool {
    let (name, port) = host.split_once(':').map_or((host, None), |(name, port)| (name, Some(port)));
    let label = |label: &str| {
        let inner = |b: u8| b.is_ascii_alphanumeric();
        let ends = label.bytes().next().is_some_and(inner) && label.bytes().next_back().is_some_and(inner);
        ends && label.bytes().all(|b| inner(b) || b == b'-')
    };
    name.split('.').all(label) && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|n| n > 0))
}

/// Lower-case letters and digits, with '.', '_', '__' or any number of '-' between them.
fn is_component(part: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let ends = part.bytes().next().is_some_and(inner) && part.bytes().next_back().is_some_and(inner);
    let between = part.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    ends && between
        .into_iter()
        .all(|gap| matches!(gap, "" | "." | "_" | "__") || gap.bytes().all(|b| b == b'-'))
}

impl fmt::Display for RegistryRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.given)
    }
}

impl Serialize for RegistryRef {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.given)
    }
}

impl<'de> Deserialize<'de> for RegistryRef {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

text_schema!(RegistryRef, "^[a-z0-9]{1,20}(/[a-z0-9]{1,20})?(:[a-z0-9]{1,20})?$");

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> (String, String, Option<String>) {
        let it: RegistryRef = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!(it.to_string(), text);
        (it.name(), it.tag().to_owned(), it.digest().map(str::to_owned))
    }

    #[test]
    fn references_are_read_as_docker_reads_them() {
        let digest = format!("sha256:{}", "0".repeat(64));
        for (text, name, tag) in [
            ("debian", "docker.io/library/debian", "latest"),
            ("debian:12", "docker.io/library/debian", "12"),
            ("me/tool", "docker.io/me/tool", "latest"),
            ("localhost/tool:1", "localhost/tool", "1"),
            ("127.0.0.1:5000/a/b-c__d:v1.2-x", "127.0.0.1:5000/a/b-c__d", "v1.2-x"),
            ("Registry.example.com/x", "Registry.example.com/x", "latest"),
            ("index.docker.io/library/debian", "docker.io/library/debian", "latest"),
        ] {
            assert_eq!(parts(text), (name.to_owned(), tag.to_owned(), None), "{text}");
        }
        let (name, _, pinned) = parts(&format!("host:5000/a:1@{digest}"));
        assert_eq!((name.as_str(), pinned), ("host:5000/a", Some(digest)));
        assert_eq!("h:5000/x/web:1".parse::<RegistryRef>().expect("one").short(), "web");
    }

    #[test]
    fn what_is_no_reference_is_refused_by_what_is_wrong() {
        for (text, error) in [
            ("", ReferenceError::Shape),
            ("/x", ReferenceError::Shape),
            ("a//b", ReferenceError::Shape),
            ("../x", ReferenceError::Shape),
            ("a b", ReferenceError::Shape),
            ("host:99999/x", ReferenceError::Shape),
            ("host:0/x", ReferenceError::Shape),
            ("-x", ReferenceError::Shape),
            ("x?y=1", ReferenceError::Shape),
            ("https://host/x", ReferenceError::Shape),
            ("me/Tool", ReferenceError::Capitals),
            ("x:", ReferenceError::Tag),
            ("x:-a", ReferenceError::Tag),
            ("x:a/b:c d", ReferenceError::Tag),
            ("x@sha256:00", ReferenceError::Digest),
            ("x@md5:00", ReferenceError::Digest),
            (&"a".repeat(300), ReferenceError::Long),
        ] {
            assert_eq!(text.parse::<RegistryRef>().expect_err(text), error, "{text}");
        }
    }
}
