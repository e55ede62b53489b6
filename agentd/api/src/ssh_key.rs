//! The kind `ssh-key`: a public key that VMs are given.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::FieldError;
use crate::kind::{ColumnDef, FieldDef, Kind, KindDef, RECONCILE, RETRY};
use crate::status::{State, StatusCommon};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SshKey;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SshKeySpec {
    /// One line of OpenSSH's public key format: type, base64, comment.
    #[schema(max_length = 16384)]
    pub public_key: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct SshKeyStatus {
    #[serde(flatten)]
    pub common: StatusCommon,
    /// `SHA256:...`, as ssh-keygen -l shows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
}

const TYPES: [&str; 8] = [
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
    "ssh-dss",
];

/// What is wrong with a public key's line, or nothing.
pub fn public_key_error(line: &str) -> Option<&'static str> {
    let line = line.trim_end_matches(['\n', '\r']);
    if line.contains("PRIVATE KEY") {
        return Some("is a private key; give the .pub file beside it");
    }
    if line.len() > 16_384 {
        return Some("is longer than 16384 characters");
    }
    if line.chars().any(char::is_control) {
        return Some("must be one line without control characters");
    }
    let mut words = line.split(' ').filter(|w| !w.is_empty());
    let (Some(kind), Some(body)) = (words.next(), words.next()) else {
        return Some("must be a line of OpenSSH's public key format, as in \"ssh-ed25519 AAAA... me@host\"");
    };
    if !TYPES.contains(&kind) {
        return Some("is of no key type that OpenSSH knows; it begins with one such as ssh-ed25519");
    }
    let base64 = body.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'='));
    if body.len() < 64 || body.len() % 4 != 0 || !base64 || !body.starts_with("AAAA") {
        return Some("has a damaged key: its second word is not the base64 of one");
    }
    None
}

impl Kind for SshKey {
    type Spec = SshKeySpec;
    type Status = SshKeyStatus;

    const DEF: &'static KindDef = &KindDef {
        kind: "ssh-key",
        plural: "ssh-keys",
        summary: "A public key that VMs are given",
        states: &[State::Pending, State::Ready, State::Failed, State::Deleting],
        columns: &[
            ColumnDef::text("NAME", "/name"),
            ColumnDef::text("FINGERPRINT", "/status/fingerprint"),
            ColumnDef::age("AGE", "/created_at"),
        ],
        fields: &[
            FieldDef { name: "state", path: "/status/state" },
            FieldDef { name: "fingerprint", path: "/status/fingerprint" },
        ],
        actions: &[RECONCILE, RETRY],
        subs: &[],
    };

    fn check(spec: &SshKeySpec) -> Vec<FieldError> {
        public_key_error(&spec.public_key)
            .map(|m| FieldError::new("spec.public_key", m))
            .into_iter()
            .collect()
    }
    fn common(status: &SshKeyStatus) -> &StatusCommon {
        &status.common
    }
    fn common_mut(status: &mut SshKeyStatus) -> &mut StatusCommon {
        &mut status.common
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_recognised() {
        let body = "A".repeat(68);
        assert_eq!(public_key_error(&format!("ssh-ed25519 {body} me@host")), None);
        assert_eq!(public_key_error(&format!("ssh-ed25519 {body}\n")), None);
        for bad in [
            "",
            "ssh-ed25519",
            "-----BEGIN OPENSSH PRIVATE KEY-----",
            &format!("ssh-foo {body}"),
            &format!("ssh-rsa {body}\nssh-rsa {body}"),
            "ssh-ed25519 AAAA me",
        ] {
            assert!(public_key_error(bad).is_some(), "{bad:?}");
        }
    }
}
