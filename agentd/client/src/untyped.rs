//! The calls that every kind has, for a kind that is known only when the program runs. Answers are the bytes that the
//! daemon sent, so that what prints them prints the API's own objects.

use agentd_api::{KindDef, ObjectName};
use bytes::Bytes;
use http::Method;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::client::Client;
use crate::error::ClientError;
use crate::options::{ListOptions, WriteOptions};
use crate::path::Path;
use crate::transport::{Call, decode};

#[derive(Debug, Clone, Copy)]
pub struct KindClient<'a> {
    pub(crate) client: &'a Client,
    pub(crate) def: &'static KindDef,
}

/// The end of a page; its items are left to the caller.
#[derive(Deserialize)]
struct PageEnd<'a> {
    #[serde(rename = "continue", default)]
    next: Option<String>,
    // Borrowed and unread: skipping the items is cheaper than building them.
    #[serde(borrow, rename = "items")]
    _items: &'a RawValue,
}

impl KindClient<'_> {
    pub fn def(&self) -> &'static KindDef {
        self.def
    }
    fn collection(&self) -> Path {
        Path::new(&["v1", self.def.plural])
    }
    fn object(&self, name: &str, project: Option<&ObjectName>) -> Path {
        Path::new(&["v1", self.def.plural, name]).maybe("project", project.map(ObjectName::as_str))
    }

    /// `name` goes to the daemon as it is: what is no name is the daemon's to refuse.
    pub async fn get(&self, project: Option<&ObjectName>, name: &str) -> Result<Bytes, ClientError> {
        self.client.call(Call::get(self.object(name, project))).await
    }

    /// One answer, as `options.limit` bounds it.
    pub async fn page(&self, options: &ListOptions) -> Result<Bytes, ClientError> {
        self.client.call(Call::get(options.put_all(self.collection()))).await
    }

    /// Every page, one after the other; one only where `options` has a limit.
    pub async fn pages(&self, options: &ListOptions) -> Result<Vec<Bytes>, ClientError> {
        let mut options = options.clone();
        let mut pages = Vec::new();
        loop {
            let page = self.page(&options).await?;
            let bounded = options.limit.is_some();
            // Most lists are one page: that the last bytes say so saves reading all of it twice.
            let next = if bounded || ends_here(&page) {
                None
            } else {
                let end: PageEnd<'_> = serde_json::from_slice(&page).map_err(|source| {
                    ClientError::Decode { request: format!("GET /v1/{}", self.def.plural), source }
                })?;
                end.next
            };
            pages.push(page);
            match next {
                Some(next) => options.after = Some(next),
                None => return Ok(pages),
            }
        }
    }

    pub async fn create(&self, draft: &Value, options: &WriteOptions) -> Result<Bytes, ClientError> {
        let mut call = Call::new(Method::POST, options.put(self.collection())).json(draft.to_string());
        let key = options.idempotency_key.clone().unwrap_or_else(|| Uuid::new_v4().to_string());
        call.idempotency_key = Some(key);
        self.client.call(call).await
    }

    pub async fn replace(
        &self,
        name: &str,
        draft: &Value,
        options: &WriteOptions,
    ) -> Result<Bytes, ClientError> {
        self.write(Method::PUT, &[name], Some(draft), options).await
    }

    /// A JSON merge patch (RFC 7396) of `{"labels","annotations","spec"}`.
    pub async fn patch(
        &self,
        name: &str,
        patch: &Value,
        options: &WriteOptions,
    ) -> Result<Bytes, ClientError> {
        self.write(Method::PATCH, &[name], Some(patch), options).await
    }

    /// Marks for deletion; the object is gone once the host is clean.
    pub async fn delete(&self, name: &str, options: &WriteOptions) -> Result<Bytes, ClientError> {
        self.write(Method::DELETE, &[name], None, options).await
    }

    /// `POST /v1/{kinds}/{name}/{action}`.
    pub async fn act(
        &self,
        name: &str,
        action: &str,
        body: &Value,
        options: &WriteOptions,
    ) -> Result<Bytes, ClientError> {
        self.write(Method::POST, &[name, action], Some(body), options).await
    }

    async fn write(
        &self,
        method: Method,
        tail: &[&str],
        body: Option<&Value>,
        options: &WriteOptions,
    ) -> Result<Bytes, ClientError> {
        let mut segments = vec!["v1", self.def.plural];
        segments.extend(tail);
        let mut call = Call::new(method, options.put(Path::new(&segments)));
        call.body = body.map(|body| body.to_string().into());
        call.if_match = options.if_match;
        call.idempotency_key.clone_from(&options.idempotency_key);
        self.client.call(call).await
    }

    pub(crate) fn watch_call(&self, since: Option<u64>, options: &ListOptions) -> Call {
        let path = options
            .put_selectors(self.collection().with("watch", "true"))
            .maybe("since", since.map(|n| n.to_string()).as_deref());
        let mut call = Call::get(path);
        call.accept = "application/x-ndjson";
        call
    }

    /// As [`get`](Self::get), decoded.
    pub async fn get_as<T: serde::de::DeserializeOwned>(
        &self,
        project: Option<&ObjectName>,
        name: &str,
    ) -> Result<T, ClientError> {
        let body = self.get(project, name).await?;
        decode(&format!("GET /v1/{}/{name}", self.def.plural), &body)
    }
}

/// Whether a page's own end says that it is the last. The daemon writes `continue` last; where it does not, the page is
/// read in full.
fn ends_here(page: &[u8]) -> bool {
    page.trim_ascii_end().ends_with(br#""continue":null}"#)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_page_is_known_by_its_end() {
        assert!(ends_here(b"{\"items\":[],\"revision\":1,\"continue\":null}\n"));
        assert!(!ends_here(br#"{"continue":null,"items":[],"revision":1}"#));
        assert!(!ends_here(br#"{"items":[],"revision":1,"continue":"x"}"#));
        let end: PageEnd<'_> =
            serde_json::from_slice(br#"{"continue":"x","items":[{"a":1}],"revision":1}"#).expect("a page");
        assert_eq!(end.next.as_deref(), Some("x"));
    }
}
