//! The handle that callers hold.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use agentd_api::KindDef;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::rt::TokioExecutor;
use hyperlocal::UnixConnector;

use crate::address::{Address, AddressError, RemoteAddress};
use crate::connect::{Connector, Target};
use crate::identity::Identity;
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
    pub http: HttpClient<Connector, Body>,
    pub address: Address,
    pub timeout: Duration,
}

impl Client {
    /// Of this host's daemon. Needs a Tokio runtime when it is used, not when it is made.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self::by(Connector::Unix(UnixConnector), Address::Socket(socket.into()))
    }
    /// Of another machine's daemon, over TLS.
    pub fn remote(address: RemoteAddress, identity: &Identity) -> Result<Self, AddressError> {
        let target = Target::new(address.clone(), identity)?;
        Ok(Self::by(Connector::Tls(target), Address::Remote(address)))
    }
    fn by(connector: Connector, address: Address) -> Self {
        let http = HttpClient::builder(TokioExecutor::new()).build(connector);
        Self { inner: Arc::new(Inner { http, address, timeout: TIMEOUT }) }
    }
    /// Another limit for each answer. Watches and uploads have none.
    pub fn with_timeout(self, timeout: Duration) -> Self {
        let mut inner = Arc::unwrap_or_clone(self.inner);
        inner.timeout = timeout;
        Self { inner: Arc::new(inner) }
    }
    pub fn address(&self) -> &Address {
        &self.inner.address
    }
    /// The calls for a kind that is known only when the program runs.
    pub fn kind(&self, def: &'static KindDef) -> KindClient<'_> {
        KindClient { client: self, def }
    }
}
