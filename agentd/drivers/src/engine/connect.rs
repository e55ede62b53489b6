//! Finding the engine, and agreeing on a version of its API.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use agentd_api::Timestamp;
use bollard::{BollardRequest, Docker};
use serde::Deserialize;

use super::outage::{self, Outage};
use super::wire::Wire;
use super::{Engine, EngineError, EngineProbe, Linked};

/// The least version of the API that is spoken here: Docker Engine 20.10's.
pub const API_LEAST: (u32, u32) = (1, 41);
/// bollard's own limit on a call, in seconds. Ours are shorter; those that wait for a container's end are not bollard's.
const CALL_MAX: u64 = 600;
const HELLO: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Flavor {
    Docker,
    Podman,
}

impl fmt::Display for Flavor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Docker => "Docker",
            Self::Podman => "Podman",
        })
    }
}

/// What `/version` says, of what is looked at.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Hello {
    version: String,
    api_version: String,
    #[serde(default)]
    components: Vec<Component>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Component {
    name: String,
}

impl Engine {
    /// The connection that is there, or a new one.
    pub(crate) async fn linked(&self) -> Result<Arc<Linked>, EngineError> {
        if let Some(linked) = self.link.lock().linked.clone() {
            return Ok(linked);
        }
        let mut why = None;
        for socket in &self.sockets {
            match link(socket).await {
                Ok(linked) => {
                    let linked = Arc::new(linked);
                    // Podman's containers do without it.
                    let began = match (linked.flavor, self.outage()) {
                        (Flavor::Docker, None) => outage::dockerd_began(socket).await,
                        _ => None,
                    };
                    self.found(&linked, began);
                    return Ok(linked);
                }
                // The first says more: it is the one that is wanted most. One that is there and refuses says most.
                Err(error) if why.is_none() || !matches!(error, EngineError::Unavailable { .. }) => {
                    why = Some(error);
                }
                Err(_) => {}
            }
        }
        let none =
            || EngineError::Unavailable { socket: String::new(), detail: "no socket is known".to_owned() };
        let why = why.unwrap_or_else(none);
        self.failed(&why);
        Err(why)
    }

    /// It is there; `began` says since when, where it is the first time that it is found.
    fn found(&self, linked: &Arc<Linked>, began: Option<Timestamp>) {
        let mut link = self.link.lock();
        link.outage = match link.outage {
            Some(outage) => Some(outage.end(Timestamp::now())),
            None => began.map(|began| Outage { from: began, to: Some(began) }),
        };
        link.linked = Some(linked.clone());
    }

    /// A call came back with this. One that means that the engine is away has the next call look for it anew: it may have been
    /// started again as another version.
    pub(crate) fn failed(&self, error: &EngineError) {
        if let EngineError::Unavailable { .. } = error {
            self.lost();
        }
    }

    /// It has gone.
    pub(super) fn lost(&self) {
        let mut link = self.link.lock();
        link.outage = Some(Outage::begin(link.outage, Timestamp::now()));
        link.linked = None;
    }

    /// It is there, and does not do as it should.
    pub(super) fn unlink(&self) {
        self.link.lock().linked = None;
    }
}

impl Linked {
    /// Whether that version of the API, or a later one, was agreed on.
    pub(crate) fn speaks(&self, version: (u32, u32)) -> bool {
        is_at_least(&self.api, version)
    }
}

impl EngineProbe {
    /// Whether its API is of that version, or of a later one.
    pub fn speaks(&self, version: (u32, u32)) -> bool {
        is_at_least(&self.api, version)
    }
}

fn is_at_least(api: &str, version: (u32, u32)) -> bool {
    parse(api).is_some_and(|api| api >= version)
}

async fn link(socket: &Path) -> Result<Linked, EngineError> {
    let bare = Wire::new(socket, "");
    let hello = tokio::time::timeout(HELLO, bare.json::<Hello>("say its version", "/version"));
    let late = |_| EngineError::Deadline { call: "say its version", seconds: HELLO.as_secs() };
    let hello = hello.await.map_err(late)??;
    if !is_at_least(&hello.api_version, API_LEAST) {
        let (major, minor) = API_LEAST;
        return Err(EngineError::Unsupported(format!(
            "{} speaks version {} of Docker's API; at least {major}.{minor} is needed, of Docker Engine 20.10",
            socket.display(),
            hello.api_version
        )));
    }
    let podman = hello.components.iter().any(|part| part.name.starts_with("Podman"));
    let prefix = format!("/v{}", hello.api_version);
    Ok(Linked {
        docker: pinned(socket, &prefix)?,
        wire: Wire::new(socket, &prefix),
        flavor: if podman { Flavor::Podman } else { Flavor::Docker },
        version: hello.version,
        api: hello.api_version,
    })
}

/// bollard never says which version of the API it means, so the engine takes its newest, which may differ from what was
/// agreed on when dockerd is replaced under us.
fn pinned(socket: &Path, prefix: &str) -> Result<Docker, EngineError> {
    let gone = |error: bollard::errors::Error| EngineError::Unavailable {
        socket: socket.display().to_string(),
        detail: error.to_string(),
    };
    let path = socket.to_str().ok_or_else(|| EngineError::Unavailable {
        socket: socket.display().to_string(),
        detail: "its path is no UTF-8".to_owned(),
    })?;
    let docker = Docker::connect_with_unix(path, CALL_MAX, bollard::API_DEFAULT_VERSION).map_err(gone)?;
    let prefix = prefix.to_owned();
    Ok(docker.with_request_modifier(move |request| versioned(request, &prefix)))
}

fn versioned(mut request: BollardRequest, prefix: &str) -> BollardRequest {
    let mut parts = request.uri().clone().into_parts();
    let path = parts.path_and_query.as_ref().map_or("/", |path| path.as_str());
    // What was a URI stays one with a path in front.
    if let Ok(path) = format!("{prefix}{path}").parse() {
        parts.path_and_query = Some(path);
        if let Ok(uri) = http::Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
    }
    request
}

/// The two numbers of "1.41".
pub(super) fn parse(version: &str) -> Option<(u32, u32)> {
    let (major, minor) = version.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
