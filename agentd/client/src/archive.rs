//! Sends an archive of a VM. Nothing is repeated: a stream can be read once.

use agentd_api::ObjectName;
use bytes::Bytes;
use http::Method;
use tokio::io::AsyncRead;

use crate::client::Client;
use crate::error::ClientError;
use crate::path::Path;
use crate::transport::Call;
use crate::upload::Sending;

/// An archive on its way to the daemon, and what is to be otherwise than it says.
pub struct Archive<R, P> {
    pub project: ObjectName,
    pub name: Option<String>,
    /// A JSON merge patch over the spec.
    pub spec: Option<String>,
    pub dry_run: bool,
    pub content: R,
    /// How many bytes `content` has. Fewer of them are an error.
    pub length: u64,
    /// Called with the number of bytes that were handed over so far.
    pub progress: P,
}

impl Client {
    /// `POST /v1/archives`; the VM as it was written down. Has no time limit.
    pub async fn import<R, P>(&self, archive: Archive<R, P>) -> Result<Bytes, ClientError>
    where
        R: AsyncRead + Send + Unpin + 'static,
        P: FnMut(u64) + Send + 'static,
    {
        let path = Path::new(&["v1", "archives"])
            .with("project", archive.project.as_str())
            .maybe("name", archive.name.as_deref())
            .maybe("spec", archive.spec.as_deref())
            .maybe("dry_run", archive.dry_run.then_some("true"));
        let call = Call::new(Method::POST, path);
        let Archive { content, length, progress, .. } = archive;
        self.send_known(&call, Sending { content, length, progress }).await
    }
}
