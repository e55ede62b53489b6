//! Who we are to a registry: a file of the administrator's for each, read anew whenever it is needed.
//!
//! What is in a file goes to the engine in a header of one call, and nowhere else: no error, log or `Debug` has it.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use parking_lot::RwLock;
use serde::Deserialize;
use serde_json::json;

use crate::image::ImageError;

const LONGEST: u64 = 64 << 10;
/// What Docker's own registry is called by engines that ask for credentials.
const DOCKER_IO: &str = "https://index.docker.io/v1/";

/// Registries by their host (with the port, where they have one), and the files that say who we are to them. Clones are
/// one: what is replaced in it is replaced for all that share it.
#[derive(Debug, Clone, Default)]
pub struct Registries(Arc<RwLock<BTreeMap<String, PathBuf>>>);

/// A user's name and password, or a token in place of them.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Secret {
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    identitytoken: String,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Registries {
    pub fn new(files: BTreeMap<String, PathBuf>) -> Self {
        Self(Arc::new(RwLock::new(files)))
    }

    /// What is pulled from now on is pulled by these.
    pub fn replace(&self, files: BTreeMap<String, PathBuf>) {
        *self.0.write() = files;
    }

    /// The value of X-Registry-Auth for that registry, where there are credentials for it.
    pub(super) fn one(&self, host: &str) -> Result<Option<String>, ImageError> {
        let Some(file) = self.0.read().get(host).cloned() else { return Ok(None) };
        let document = document(host, &read(&file)?);
        Ok(Some(URL_SAFE.encode(document.to_string())))
    }

    /// The value of X-Registry-Config: all of them, for a build that may pull from any.
    pub(super) fn all(&self) -> Result<Option<String>, ImageError> {
        let mut all = serde_json::Map::new();
        let files = self.0.read().clone();
        for (host, file) in &files {
            all.insert(server(host).to_owned(), document(host, &read(file)?));
        }
        Ok((!all.is_empty()).then(|| URL_SAFE.encode(serde_json::Value::Object(all).to_string())))
    }

    pub fn knows(&self, host: &str) -> bool {
        self.0.read().contains_key(host)
    }
}

fn server(host: &str) -> &str {
    if host == "docker.io" { DOCKER_IO } else { host }
}

fn document(host: &str, secret: &Secret) -> serde_json::Value {
    if secret.identitytoken.is_empty() {
        json!({"username": secret.username, "password": secret.password, "serveraddress": server(host)})
    } else {
        json!({"identitytoken": secret.identitytoken, "serveraddress": server(host)})
    }
}

fn read(path: &Path) -> Result<Secret, ImageError> {
    let refused = |why: String| ImageError::Refused(format!("the credentials in {} {why}", path.display()));
    let unreadable = |error: std::io::Error| refused(format!("cannot be read: {error}"));
    let no_link = nix::fcntl::OFlag::O_NOFOLLOW.bits();
    let file = std::fs::File::options().read(true).custom_flags(no_link).open(path).map_err(unreadable)?;
    let meta = file.metadata().map_err(unreadable)?;
    if !meta.is_file() || meta.len() > LONGEST {
        return Err(refused("are no file of a few lines".to_owned()));
    }
    if meta.mode() & 0o077 != 0 {
        let mode = meta.mode() & 0o777;
        return Err(refused(format!("can be read by others (mode {mode:04o}); it must be 0600")));
    }
    let owner = nix::unistd::geteuid().as_raw();
    if meta.uid() != 0 && meta.uid() != owner {
        return Err(refused(format!("belong to user {}, not to root", meta.uid())));
    }
    let mut text = String::new();
    file.take(LONGEST).read_to_string(&mut text).map_err(unreadable)?;
    parse(&text).ok_or_else(|| {
        refused("are neither USER:PASSWORD nor JSON with username and password, or identitytoken".to_owned())
    })
}

fn parse(text: &str) -> Option<Secret> {
    let text = text.trim_matches(['\n', '\r', ' ']);
    if text.starts_with('{') {
        let secret: Secret = serde_json::from_str(text).ok()?;
        return (!secret.username.is_empty() || !secret.identitytoken.is_empty()).then_some(secret);
    }
    let (username, password) =
        text.split_once(':').filter(|(user, _)| !user.is_empty() && !text.contains('\n'))?;
    Some(Secret {
        username: username.to_owned(),
        password: password.to_owned(),
        identitytoken: String::new(),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn with(text: &str, mode: u32) -> (tempfile::TempDir, Registries) {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("secret");
        std::fs::write(&file, text).expect("written");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).expect("set");
        let registries = Registries::new(BTreeMap::from([("host:5000".to_owned(), file)]));
        (folder, registries)
    }

    fn decoded(value: &str) -> serde_json::Value {
        serde_json::from_slice(&URL_SAFE.decode(value).expect("base64")).expect("json")
    }

    #[test]
    fn a_file_says_who_we_are_to_one_registry() {
        for text in ["me:se:cret\n", "{\"username\": \"me\", \"password\": \"se:cret\"}"] {
            let (_folder, registries) = with(text, 0o600);
            let value = registries.one("host:5000").expect("read").expect("credentials");
            let expected = json!({"username": "me", "password": "se:cret", "serveraddress": "host:5000"});
            assert_eq!(decoded(&value), expected);
            let all = registries.all().expect("read").expect("credentials");
            assert_eq!(decoded(&all), json!({"host:5000": expected}));
            assert_eq!(registries.one("host").expect("another registry"), None);
        }
    }

    #[test]
    fn a_file_that_others_can_read_or_nobody_understands_is_refused_and_never_shown() {
        for (text, mode, why) in [
            ("me:secret", 0o640, "0640"),
            ("me:secret", 0o604, "0600"),
            ("mesecret", 0o600, "neither"),
            ("me:secret\nyou:too", 0o600, "neither"),
            ("{\"username\": \"me\", \"pass\": \"secret\"}", 0o600, "neither"),
        ] {
            let (_folder, registries) = with(text, mode);
            let error = registries.one("host:5000").expect_err(why).to_string();
            assert!(error.contains(why) && !error.contains("me:") && !error.ends_with("secret"), "{error}");
        }
        let (folder, _) = with("me:secret", 0o600);
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(folder.path().join("secret"), &link).expect("a link");
        for path in [link, folder.path().join("nowhere"), folder.path().to_owned()] {
            let registries = Registries::new(BTreeMap::from([("h".to_owned(), path.clone())]));
            assert!(matches!(registries.one("h"), Err(ImageError::Refused(_))), "{}", path.display());
        }
        assert!(!format!("{:?}", parse("me:secret")).contains("secret"));
    }
}
