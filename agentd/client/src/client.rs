//! The handle that callers hold.

use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use agentd_api::KindDef;
use hyper_util::client::legacy::Client as HttpClient;
use hyperlocal::{UnixClientExt, UnixConnector};

use crate::transport::Body;
use crate::untyped::KindClient;

/// How long the daemon has to begin its answer, and each part of it to arrive.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A connection pool to one daemon. Cheap to clone; opens nothing until the first call.
#[derive(Debug, Clone)]
pub struct Client {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug, Clone)]
pub(crate) struct Inner {
    pub http: HttpClient<UnixConnector, Body>,
    pub socket: PathBuf,
    pub timeout: Duration,
}

impl Client {
    /// Needs a Tokio runtime when it is used, not when it is made.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        let inner = Inner { http: HttpClient::unix(), socket: socket.into(), timeout: TIMEOUT };
        Self { inner: Arc::new(inner) }
    }
    /// Another limit for each answer. Watches and uploads have none.
    pub fn with_timeout(self, timeout: Duration) -> Self {
        let mut inner = Arc::unwrap_or_clone(self.inner);
        inner.timeout = timeout;
        Self { inner: Arc::new(inner) }
    }
    pub fn socket(&self) -> &FsPath {
        &self.inner.socket
    }
    /// The calls for a kind that is known only when the program runs.
    pub fn kind(&self, def: &'static KindDef) -> KindClient<'_> {
        KindClient { client: self, def }
    }
}
