//! Makes ssh keys ready: there is nothing to do on the host, only their fingerprint to be worked out.
//!
//! A key whose line cannot be decoded is `failed`; the intents refuse such a line, so that this is a store from elsewhere.

use std::time::Duration;

use agentd_api::ssh_key::{SshKey, SshKeyStatus};
use agentd_api::{ErrorCode, Object, State};
use async_trait::async_trait;
use sha2::{Digest, Sha256};

use super::runtime::{Fault, Note, Outcome, Pass, Reconciler};

pub struct SshKeys;

#[async_trait]
impl Reconciler for SshKeys {
    type Kind = SshKey;

    async fn reconcile(&self, _: &Pass, object: &Object<SshKey>) -> Outcome<SshKeyStatus> {
        let mut status = object.status.clone();
        let Some(print) = fingerprint(&object.spec.public_key) else {
            let message = "its second word is not the base64 of a key";
            return Outcome::failed(status, Fault::permanent(ErrorCode::Invalid, message));
        };
        let new = status.common.state != State::Ready;
        (status.common.state, status.common.reason) = (State::Ready, None);
        status.fingerprint = Some(print.clone());
        let outcome = Outcome::settled(status);
        if new { outcome.note(Note::done("created", print)) } else { outcome }
    }

    async fn finalize(&self, _: &Pass, _: &Object<SshKey>, finalizer: &str) -> Result<(), Fault> {
        Err(Fault::internal(format!("an ssh key has nothing to undo by the name of '{finalizer}'")))
    }

    fn resync(&self) -> Option<Duration> {
        None
    }
}

/// `SHA256:` and the unpadded base64 of the hash of the key's body, as `ssh-keygen -l` shows it.
fn fingerprint(line: &str) -> Option<String> {
    let body = line.split_ascii_whitespace().nth(1)?;
    let hash = Sha256::digest(decode(body)?);
    Some(format!("SHA256:{}", encode(&hash)))
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Base64 (RFC 4648, section 4) with or without its padding.
fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut held) = (0u32, 0u32);
    for letter in text.trim_end_matches('=').bytes() {
        let value = ALPHABET.iter().position(|a| *a == letter)?;
        bits = (bits << 6) | u32::try_from(value).ok()?;
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
            bits &= (1 << held) - 1;
        }
    }
    Some(bytes)
}

/// Base64 without padding.
fn encode(bytes: &[u8]) -> String {
    let letter = |bits: u32| char::from(ALPHABET[(bits & 63) as usize]);
    let mut text = String::with_capacity(bytes.len() * 4 / 3 + 2);
    for chunk in bytes.chunks(3) {
        let byte = |n: usize| u32::from(chunk.get(n).copied().unwrap_or_default());
        let bits = (byte(0) << 16) | (byte(1) << 8) | byte(2);
        text.extend((0..=chunk.len()).map(|n| letter(bits >> (18 - 6 * n))));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A key made for this test; the fingerprint is what `ssh-keygen -lf` says of it.
    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGO7ZmKVEt1Lrmcyv7pRhj6P5XZXVbahNiKGqpSVTtCx me@host";

    #[test]
    fn base64_goes_both_ways() {
        for (plain, text) in [("", ""), ("f", "Zg"), ("fo", "Zm8"), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(encode(plain.as_bytes()), text);
            assert_eq!(decode(text).as_deref(), Some(plain.as_bytes()));
        }
        assert_eq!(decode("Zg==").as_deref(), Some(b"f".as_slice()));
        assert_eq!(decode("Z-"), None);
    }

    #[test]
    fn a_fingerprint_is_the_one_of_ssh_keygen() {
        assert_eq!(fingerprint(KEY).as_deref(), Some("SHA256:eAamfwXGY1AhSahpWXesZztPL/QNPN7H9plFUJsw1/k"));
        assert_eq!(fingerprint("ssh-ed25519"), None);
    }
}
