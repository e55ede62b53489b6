//! The calls that every kind has, for a kind that is known when the program is compiled.

use agentd_api::list::List;
use agentd_api::object::Draft;
use agentd_api::{Kind, Object, ObjectName};
use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;

use crate::client::Client;
use crate::error::ClientError;
use crate::options::{ListOptions, WriteOptions};
use crate::transport::decode;

fn object<K: Kind>(method: &str, body: &Bytes) -> Result<Object<K>, ClientError> {
    decode(&format!("{method} /v1/{}", K::DEF.plural), body)
}

fn value<K: Kind>(method: &str, draft: &impl Serialize) -> Result<Value, ClientError> {
    serde_json::to_value(draft).map_err(|error| ClientError::Unsendable {
        request: format!("{method} /v1/{}", K::DEF.plural),
        why: error.to_string(),
    })
}

impl Client {
    pub async fn get<K: Kind>(
        &self,
        project: &ObjectName,
        name: &ObjectName,
    ) -> Result<Object<K>, ClientError> {
        object("GET", &self.kind(K::DEF).get(Some(project), name.as_str()).await?)
    }

    /// All that match, over as many pages as the daemon makes of them; one page where `options` has a limit. The
    /// revision is the first page's, so that a watch since it misses nothing that changed while the others came.
    pub async fn list<K: Kind>(&self, options: &ListOptions) -> Result<List<K>, ClientError> {
        let pages = self.kind(K::DEF).pages(options).await?;
        let mut whole: Option<List<K>> = None;
        for page in pages {
            let page: List<K> = decode(&format!("GET /v1/{}", K::DEF.plural), &page)?;
            whole = Some(match whole.take() {
                None => page,
                Some(mut list) => {
                    list.items.extend(page.items);
                    list.next = page.next;
                    list
                }
            });
        }
        Ok(whole.unwrap_or(List { items: Vec::new(), revision: 0, next: None }))
    }

    /// Sent with an `Idempotency-Key`, so that the one retry after a broken connection makes no second object.
    pub async fn create<K: Kind>(
        &self,
        draft: &Draft<K>,
        options: &WriteOptions,
    ) -> Result<Object<K>, ClientError> {
        let draft = value::<K>("POST", draft)?;
        object("POST", &self.kind(K::DEF).create(&draft, options).await?)
    }

    pub async fn replace<K: Kind>(
        &self,
        draft: &Draft<K>,
        options: &WriteOptions,
    ) -> Result<Object<K>, ClientError> {
        let body = value::<K>("PUT", draft)?;
        object("PUT", &self.kind(K::DEF).replace(draft.name.as_str(), &body, options).await?)
    }

    /// A JSON merge patch (RFC 7396) of `{"labels","annotations","spec"}`.
    pub async fn patch<K: Kind>(
        &self,
        name: &ObjectName,
        patch: &Value,
        options: &WriteOptions,
    ) -> Result<Object<K>, ClientError> {
        object("PATCH", &self.kind(K::DEF).patch(name.as_str(), patch, options).await?)
    }

    /// Marks for deletion and answers the marked object, which is gone once the host is clean.
    pub async fn delete<K: Kind>(
        &self,
        name: &ObjectName,
        options: &WriteOptions,
    ) -> Result<Object<K>, ClientError> {
        object("DELETE", &self.kind(K::DEF).delete(name.as_str(), options).await?)
    }

    /// `POST /v1/{kinds}/{name}/{action}`; an action without parameters takes `json!({})`.
    pub async fn act<K: Kind>(
        &self,
        name: &ObjectName,
        action: &str,
        body: &Value,
        options: &WriteOptions,
    ) -> Result<Object<K>, ClientError> {
        object("POST", &self.kind(K::DEF).act(name.as_str(), action, body, options).await?)
    }
}
