//! What a caller over TLS must show, and what the daemon shows it: made of PEM files, replaced as a whole.
//!
//! A caller is let in by a certificate that our authority signed for a client, that holds today, and that is not on its
//! list of those that hold no more. Sessions are not resumed: each connection is looked at by what holds when it comes.

use std::sync::Arc;

use agentd_api::{Timestamp, remote};
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig, version};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    #[error("{file} is no file of certificates, keys or lists in PEM")]
    Pem { file: &'static str, source: pem::Error },
    #[error("{file} has nothing of what it is for in it")]
    Empty { file: &'static str },
    #[error("{file} cannot be used")]
    Unusable { file: &'static str, source: rustls::Error },
    #[error("{} or {} cannot be used", remote::CA, remote::REVOKED)]
    Callers { source: VerifierBuilderError },
}

/// The content of the files, by what they are for.
#[derive(Debug, Default)]
pub struct Pems {
    pub ca: Vec<u8>,
    pub revoked: Vec<u8>,
    pub server: Vec<u8>,
    pub server_key: Vec<u8>,
}

/// Both ends' certificates as one whole.
#[derive(Debug)]
pub struct Trust {
    pub(super) config: Arc<ServerConfig>,
    callers: Arc<dyn ClientCertVerifier>,
    /// When the daemon's own certificate ends.
    pub expires: Timestamp,
}

impl Trust {
    pub fn new(pems: &Pems) -> Result<Self, TrustError> {
        let provider = Arc::new(ring::default_provider());
        let mut roots = RootCertStore::empty();
        for root in all::<CertificateDer<'static>>(remote::CA, &pems.ca)? {
            roots.add(root).map_err(|source| TrustError::Unusable { file: remote::CA, source })?;
        }
        let revoked = all::<CertificateRevocationListDer<'static>>(remote::REVOKED, &pems.revoked)?;
        let callers = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone())
            .with_crls(revoked)
            .only_check_end_entity_revocation()
            .build()
            .map_err(|source| TrustError::Callers { source })?;
        let chain = all::<CertificateDer<'static>>(remote::SERVER, &pems.server)?;
        let unusable = |file| move |source| TrustError::Unusable { file, source };
        let encoding = || rustls::Error::InvalidCertificate(rustls::CertificateError::BadEncoding);
        let expires =
            chain.first().and_then(|own| ends(own)).ok_or_else(encoding).map_err(unusable(remote::SERVER))?;
        let key = PrivateKeyDer::from_pem_slice(&pems.server_key)
            .map_err(|source| TrustError::Pem { file: remote::SERVER_KEY, source })?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&version::TLS13])
            .map_err(unusable(remote::SERVER))?
            .with_client_cert_verifier(callers.clone())
            .with_single_cert(chain, key)
            .map_err(unusable(remote::SERVER_KEY))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self { config: Arc::new(config), callers, expires })
    }

    /// Whether one who showed this chain would be let in now.
    pub(crate) fn admits(&self, chain: &[CertificateDer<'_>]) -> Result<(), rustls::Error> {
        let (own, between) = chain.split_first().ok_or(rustls::Error::NoCertificatesPresented)?;
        self.callers.verify_client_cert(own, between, UnixTime::now()).map(drop)
    }
}

/// All items of that sort; there is at least one.
fn all<T: PemObject>(file: &'static str, pem: &[u8]) -> Result<Vec<T>, TrustError> {
    let items: Vec<T> = T::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|source| TrustError::Pem { file, source })?;
    if items.is_empty() { Err(TrustError::Empty { file }) } else { Ok(items) }
}

fn ends(certificate: &CertificateDer<'_>) -> Option<Timestamp> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let seconds = u64::try_from(parsed.validity().not_after.timestamp()).ok()?;
    Some(Timestamp(seconds.saturating_mul(1000)))
}

/// Whom a certificate is of that was found good: its one common name, where that is fit to stand in an event.
pub(super) fn name_of(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let mut names = parsed.subject().iter_common_name();
    let name = names.next()?.as_str().ok()?;
    (names.next().is_none() && remote::is_client_name(name)).then(|| name.to_owned())
}
