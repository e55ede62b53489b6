//! Who a client is to daemons on other machines: what `agentctl remote add-client` has made, as one PEM file.

use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, version};

#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("is not PEM")]
    Pem(#[source] pem::Error),
    #[error("has not a client's certificate in it, and that of the authority behind it")]
    Certificates,
    #[error("has no private key, or one that cannot be read")]
    Key(#[source] pem::Error),
    #[error("cannot be used")]
    Unusable(#[source] rustls::Error),
}

/// A certificate with its key, and the authority that the other end must be of.
#[derive(Debug, Clone)]
pub struct Identity {
    pub(crate) config: Arc<ClientConfig>,
    certificate: CertificateDer<'static>,
}

impl Identity {
    /// Of a bundle: the client's certificate comes first, the authority's behind it, the key anywhere.
    pub fn from_pem(bundle: &[u8]) -> Result<Self, IdentityError> {
        let certificates: Vec<CertificateDer<'static>> =
            CertificateDer::pem_slice_iter(bundle).collect::<Result<_, _>>().map_err(IdentityError::Pem)?;
        let [certificate, authorities @ ..] = &certificates[..] else {
            return Err(IdentityError::Certificates);
        };
        if authorities.is_empty() {
            return Err(IdentityError::Certificates);
        }
        let key = PrivateKeyDer::from_pem_slice(bundle).map_err(IdentityError::Key)?;
        let mut roots = RootCertStore::empty();
        for authority in authorities {
            roots.add(authority.clone()).map_err(IdentityError::Unusable)?;
        }
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&version::TLS13])
            .map_err(IdentityError::Unusable)?
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![certificate.clone()], key)
            .map_err(IdentityError::Unusable)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { config: Arc::new(config), certificate: certificate.clone() })
    }

    /// The client's own certificate, in DER.
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }
}
