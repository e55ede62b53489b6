//! What became of a connection, read out of the error that it ended with.

use std::error::Error as StdError;
use std::fmt;
use std::io;

use rustls::{AlertDescription, CertificateError};

use crate::address::Address;
use crate::error::ClientError;
use crate::transport::Call;

/// Why another machine does not let this client in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    Expired,
    Revoked,
    /// The certificate is not of its authority.
    UnknownAuthority,
    Other(String),
}

/// Why what answers is not taken for the daemon that was meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Distrust {
    /// Its certificate is for other names than the one that it was called by.
    WrongName,
    Expired,
    /// Its certificate is not of the authority that the client knows.
    UnknownAuthority,
    Other(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expired => f.write_str("the certificate has expired"),
            Self::Revoked => f.write_str("the certificate was revoked"),
            Self::UnknownAuthority => f.write_str("the certificate is not of that daemon's authority"),
            Self::Other(why) => f.write_str(why),
        }
    }
}

impl fmt::Display for Distrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WrongName => f.write_str("its certificate is not for that name"),
            Self::Expired => f.write_str("its certificate has expired"),
            Self::UnknownAuthority => {
                f.write_str("its certificate is not of the authority that is known here")
            }
            Self::Other(why) => f.write_str(why),
        }
    }
}

pub(crate) fn of(at: &Address, call: &Call, error: Box<dyn StdError + Send + Sync>) -> ClientError {
    if let Some(tls) = causes(error.as_ref()).find_map(tls_of) {
        return match tls {
            rustls::Error::AlertReceived(alert) => {
                ClientError::Refused { at: at.clone(), why: refusal(*alert) }
            }
            other => ClientError::Untrusted { at: at.clone(), why: distrust(other) },
        };
    }
    let connecting =
        error.downcast_ref::<hyper_util::client::legacy::Error>().is_some_and(|error| error.is_connect());
    let kind = causes(error.as_ref()).find_map(|cause| Some(cause.downcast_ref::<io::Error>()?.kind()));
    match (at, kind.filter(|_| connecting)) {
        (_, Some(kind @ (io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused))) => {
            ClientError::NoDaemon { at: at.clone(), source: kind.into() }
        }
        (Address::Socket(path), Some(kind @ io::ErrorKind::PermissionDenied)) => {
            ClientError::SocketForbidden { path: path.clone(), source: kind.into() }
        }
        // It ended while it was being made: a daemon that restarts. All else is a machine that is not there.
        (Address::Remote(_), Some(kind))
            if !matches!(kind, io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) =>
        {
            ClientError::NoDaemon { at: at.clone(), source: unfound(error.as_ref()) }
        }
        _ => ClientError::Transport {
            request: call.name(),
            request_id: call.request_id.clone(),
            source: error,
        },
    }
}

fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn StdError + 'static)| (*error).source())
}

/// TLS's own error, which stands inside one of I/O.
fn tls_of<'a>(cause: &'a (dyn StdError + 'static)) -> Option<&'a rustls::Error> {
    cause.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref()
}

/// What the system says of a machine that cannot be reached, in its words.
fn unfound(error: &(dyn StdError + 'static)) -> io::Error {
    let io = causes(error).find_map(|cause| cause.downcast_ref::<io::Error>());
    io.map_or_else(|| io::ErrorKind::Other.into(), |io| io::Error::new(io.kind(), io.to_string()))
}

fn refusal(alert: AlertDescription) -> Refusal {
    match alert {
        AlertDescription::CertificateExpired => Refusal::Expired,
        AlertDescription::CertificateRevoked => Refusal::Revoked,
        // An authority of the same name with another key is another one.
        AlertDescription::UnknownCA | AlertDescription::DecryptError => Refusal::UnknownAuthority,
        other => Refusal::Other(format!("it answers {other:?}")),
    }
}

fn distrust(error: &rustls::Error) -> Distrust {
    use rustls::Error::InvalidCertificate as Bad;
    match error {
        Bad(CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }) => {
            Distrust::WrongName
        }
        Bad(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => Distrust::Expired,
        Bad(CertificateError::UnknownIssuer | CertificateError::BadSignature) => Distrust::UnknownAuthority,
        other => Distrust::Other(other.to_string()),
    }
}
