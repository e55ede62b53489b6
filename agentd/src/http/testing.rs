//! An authority of a test's own: certificates that hold, have expired, are revoked, or are somebody else's.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, version};
use time::{Duration, OffsetDateTime};

use super::Pems;

pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
#[derive(Debug, Clone)]
pub struct Pair {
    pub certificate: String,
    pub key: String,
    pub serial: Vec<u8>,
}

/// For whom, what for, and from when to when from now.
pub struct Wish<'a> {
    pub name: &'a str,
    pub usage: ExtendedKeyUsagePurpose,
    pub days: std::ops::Range<i64>,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.distinguished_name.push(DnType::CommonName, uuid::Uuid::new_v4().to_string());
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("signed"))
    }

    pub fn pair(&self, wish: Wish<'_>) -> Pair {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut params = CertificateParams::new(names).expect("parameters");
        let (key, serial) = (KeyPair::generate().expect("a key"), uuid::Uuid::new_v4().into_bytes().to_vec());
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, wish.name);
        let now = OffsetDateTime::now_utc();
        params.not_before = now + Duration::days(wish.days.start);
        params.not_after = now + Duration::days(wish.days.end);
        params.extended_key_usages = vec![wish.usage];
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.0).expect("signed").pem();
        Pair { certificate, key: key.serialize_pem(), serial }
    }

    pub fn client(&self, name: &str) -> Pair {
        self.pair(Wish { name, usage: ExtendedKeyUsagePurpose::ClientAuth, days: -1..30 })
    }

    pub fn server(&self) -> Pair {
        self.pair(Wish { name: "agentd", usage: ExtendedKeyUsagePurpose::ServerAuth, days: -1..30 })
    }

    /// The daemon's files, with these clients revoked.
    pub fn pems(&self, server: &Pair, revoked: &[&Pair]) -> Pems {
        let now = OffsetDateTime::now_utc();
        let entry = |pair: &&Pair| RevokedCertParams {
            serial_number: SerialNumber::from_slice(&pair.serial),
            revocation_time: now,
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: now,
            next_update: now + Duration::days(30),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(entry).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        Pems {
            ca: self.0.pem().into_bytes(),
            revoked: list.signed_by(&self.0).expect("signed").pem().expect("PEM").into_bytes(),
            server: server.certificate.clone().into_bytes(),
            server_key: server.key.clone().into_bytes(),
        }
    }

    /// How one calls who trusts this authority and shows this pair, or nothing.
    pub fn caller(&self, pair: Option<&Pair>) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).expect("a root");
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&[&version::TLS13])
            .expect("a version")
            .with_root_certificates(roots);
        let config = match pair {
            None => config.with_no_client_auth(),
            Some(pair) => {
                let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).expect("a key");
                config.with_client_auth_cert(vec![pair.der()], key).expect("a pair")
            }
        };
        Arc::new(config)
    }
}

impl Pair {
    pub fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.certificate.as_bytes()).expect("a certificate")
    }
}
