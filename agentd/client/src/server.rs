//! What the daemon says of itself.

use agentd_api::container::{AdoptWish, ForeignList};
use agentd_api::doctor::{RepairList, RepairWish, Report};
use agentd_api::server::{Readiness, ServerInfo};
use agentd_api::{ObjectName, paths};
use bytes::Bytes;
use http::Method;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::client::Client;
use crate::error::ClientError;
use crate::options::WriteOptions;
use crate::path::Path;
use crate::sub::Download;
use crate::transport::{Call, decode, refusal};

/// Whose figures. Everything absent leaves that open, but for the project, which is then `default`.
#[derive(Debug, Clone, Default)]
pub struct StatsQuery {
    pub project: Option<ObjectName>,
    /// Singular: "vm".
    pub kind: Option<&'static str>,
    pub name: Option<String>,
}

impl Client {
    async fn read<T: DeserializeOwned>(&self, path: &'static str) -> Result<T, ClientError> {
        decode(&format!("GET {path}"), &self.call(Call::get(Path::fixed(path))).await?)
    }

    pub async fn info(&self) -> Result<ServerInfo, ClientError> {
        self.read(paths::SERVER).await
    }
    /// Figures of the guests that run, taken now.
    pub async fn stats(&self, query: &StatsQuery) -> Result<Bytes, ClientError> {
        let path = Path::fixed(paths::STATS)
            .maybe("project", query.project.as_ref().map(ObjectName::as_str))
            .maybe("kind", query.kind)
            .maybe("name", query.name.as_deref());
        self.call(Call::get(path)).await
    }
    /// What the host's engine has that is none of the daemon's.
    pub async fn foreign(&self) -> Result<ForeignList, ClientError> {
        self.read(paths::FOREIGN).await
    }
    /// Makes an object of a container that somebody else made.
    pub async fn adopt(&self, wish: &AdoptWish, options: &WriteOptions) -> Result<Bytes, ClientError> {
        let body = serde_json::to_vec(wish).expect("a wish is JSON");
        let mut call = Call::new(Method::POST, options.put(Path::fixed(paths::ADOPT))).json(body);
        let key = options.idempotency_key.clone().unwrap_or_else(|| Uuid::new_v4().to_string());
        call.idempotency_key = Some(key);
        self.call(call).await
    }
    /// Discovery: a list of kinds with paths, verbs, columns and schemas.
    pub async fn kinds(&self) -> Result<serde_json::Value, ClientError> {
        self.read(paths::KINDS).await
    }
    pub async fn doctor(&self) -> Result<Report, ClientError> {
        self.read(paths::DOCTOR).await
    }
    /// Mends findings of [`Client::doctor`]. Takes as long as that takes.
    pub async fn repair(&self, wish: &RepairWish) -> Result<RepairList, ClientError> {
        let body = serde_json::to_vec(wish).expect("a wish is JSON");
        let call = Call::new(Method::POST, Path::fixed(paths::DOCTOR)).json(body);
        decode(&call.name(), &self.call(call).await?)
    }
    /// Answers also where the daemon is not ready, with its reasons.
    pub async fn readyz(&self) -> Result<Readiness, ClientError> {
        let call = Call::get(Path::fixed(paths::READYZ));
        let (status, body) = self.exchange(&call).await?;
        serde_json::from_slice(&body).map_err(|_| refusal(&call, status, &body))
    }
    /// Whether the daemon answers at all.
    pub async fn healthz(&self) -> Result<(), ClientError> {
        self.call(Call::get(Path::fixed(paths::HEALTHZ))).await.map(drop)
    }
    /// All that the daemon knows: a line of JSON, [`agentd_api::backup::Header`], and the store's file of which it tells. Has
    /// no time limit.
    pub async fn backup(&self) -> Result<Download, ClientError> {
        self.receive(Call::get(Path::fixed(paths::BACKUP))).await
    }
    /// The body of a path of the contract, such as [`paths::METRICS`].
    pub async fn raw(&self, path: &'static str) -> Result<Bytes, ClientError> {
        self.call(Call::get(Path::fixed(path))).await
    }
}
