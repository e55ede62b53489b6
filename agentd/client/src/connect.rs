//! Opens connections: to the Unix socket, or by TLS to another machine.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use hyperlocal::UnixConnector;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tower_service::Service;

use crate::address::{AddressError, RemoteAddress};
use crate::identity::Identity;

/// For another machine to be found, to answer, and to prove who it is.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Clone)]
pub(crate) enum Connector {
    Unix(UnixConnector),
    Tls(Target),
}

/// Which machine, and who we are to it.
#[derive(Clone)]
pub(crate) struct Target {
    address: RemoteAddress,
    name: ServerName<'static>,
    tls: TlsConnector,
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(_) => f.write_str("Unix"),
            Self::Tls(target) => f.debug_tuple("Tls").field(&target.address).finish(),
        }
    }
}

impl Target {
    pub fn new(address: RemoteAddress, identity: &Identity) -> Result<Self, AddressError> {
        let name = address.server_name()?;
        Ok(Self { address, name, tls: TlsConnector::from(identity.config.clone()) })
    }

    async fn connect(self) -> io::Result<Stream> {
        let connecting = async {
            let stream = TcpStream::connect((self.address.host(), self.address.port())).await?;
            stream.set_nodelay(true)?;
            self.tls.connect(self.name, stream).await
        };
        let late =
            |_| io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} s", PATIENCE.as_secs()));
        let stream = tokio::time::timeout(PATIENCE, connecting).await.map_err(late)??;
        Ok(Stream(Box::new(TokioIo::new(stream))))
    }
}

impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Stream>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        match self {
            Self::Unix(connector) => {
                let connecting = connector.call(uri);
                async move { Ok(Stream(Box::new(connecting.await?))) }.boxed()
            }
            Self::Tls(target) => target.clone().connect().boxed(),
        }
    }
}

pub(crate) trait Wire: Read + Write + Send + Unpin {}
impl<T: Read + Write + Send + Unpin> Wire for T {}

/// A connection, whichever.
pub(crate) struct Stream(Box<dyn Wire>);

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_read(cx, buf)
    }
}

impl Write for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_shutdown(cx)
    }
    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0).poll_write_vectored(cx, bufs)
    }
}
