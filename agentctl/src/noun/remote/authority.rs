//! The authority: its key, the certificates that it made, and its list of those that hold no more.
//!
//! `ca.pem` is written last, so that where it is there all is. Every change is made under a lock on the folder, and
//! each file gets its name once it is whole: agentd, which reads them at any time, never sees half of one.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::net::IpAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use agentd_api::{Timestamp, remote};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber,
};
use time::{Duration, OffsetDateTime};
use x509_parser::extensions::GeneralName;
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use super::at;
use crate::failure::{Exit, Failure};
use crate::noun::private;
use crate::remotes::unreadable;

/// Its own certificate; it cannot be made anew without all clients joining again.
const CA_DAYS: i64 = 3650;
/// Clocks differ.
const BEFORE: Duration = Duration::hours(1);

pub struct Authority {
    dir: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    ca: String,
    _lock: File,
}

/// A certificate that it made for a client.
pub struct Issued {
    pub name: String,
    pub serial: Vec<u8>,
    pub expires: Timestamp,
    pub revoked: bool,
}

impl Issued {
    pub fn serial_text(&self) -> String {
        hex::encode(&self.serial)
    }
    pub fn expired(&self) -> bool {
        self.expires < Timestamp::now()
    }
    pub fn holds(&self) -> bool {
        !self.revoked && !self.expired()
    }
}

/// A certificate that has just been made, and its key, in PEM.
pub struct Pair {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    /// Makes one where there is none.
    pub fn make(dir: &Path, host: &str) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| unwritable(dir, &error);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
        let key = generate()?;
        let lock = lock(dir)?;
        if dir.join(remote::CA).symlink_metadata().is_ok() {
            return Err(Failure::new(Exit::Conflict, format!("{} has an authority already", dir.display()))
                .hint(
                    "`--renew` makes a new certificate of the daemon's by it; its clients stay as they are",
                ));
        }
        let mut params = params(CA_DAYS)?;
        params.distinguished_name.push(DnType::CommonName, host);
        // One that is made anew on the same host is told from the one before.
        let unique = uuid::Uuid::new_v4().to_string();
        params.distinguished_name.push(DnType::OrganizationalUnitName, unique);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let ca = params.self_signed(&key).map_err(unmade)?.pem();
        put(&dir.join(remote::CA_KEY), key.serialize_pem().as_bytes(), 0o600)?;
        let issuer = Issuer::from_ca_cert_pem(&ca, key).map_err(unmade)?;
        let authority = Self { dir: dir.to_owned(), issuer, ca, _lock: lock };
        authority.put_revoked(Vec::new())?;
        Ok(authority)
    }

    /// What [`make`](Self::make) has made is there from now on.
    pub fn complete(&self) -> Result<(), Failure> {
        put(&self.dir.join(remote::CA), self.ca.as_bytes(), 0o644)
    }

    pub fn open(dir: &Path) -> Result<Self, Failure> {
        let lock = lock(dir)?;
        let ca = text(&dir.join(remote::CA))?;
        let file = dir.join(remote::CA_KEY);
        let key = KeyPair::from_pem(&text(&file)?)
            .map_err(|error| Failure::new(Exit::Failed, format!("{}: {error}", file.display())))?;
        let issuer = Issuer::from_ca_cert_pem(&ca, key).map_err(unmade)?;
        Ok(Self { dir: dir.to_owned(), issuer, ca, _lock: lock })
    }

    /// A certificate for the daemon, by all names that it is called by. It is there when this returns.
    pub fn certify_server(&self, names: &[String], days: u16) -> Result<(), Failure> {
        let key = generate()?;
        let sans = CertificateParams::new(names.to_vec()).map_err(unmade)?.subject_alt_names;
        let mut params = params(days.into())?;
        params.subject_alt_names = sans;
        params.distinguished_name.push(DnType::CommonName, "agentd");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&key, &self.issuer).map_err(unmade)?;
        put(&self.dir.join(remote::SERVER_KEY), key.serialize_pem().as_bytes(), 0o600)?;
        put(&self.dir.join(remote::SERVER), certificate.pem().as_bytes(), 0o644)
    }

    /// A certificate for a client. It is written down before it is given out: what is out can be revoked.
    pub fn certify_client(&self, name: &str, days: u16) -> Result<Pair, Failure> {
        let key = generate()?;
        let mut params = params(days.into())?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.issuer).map_err(unmade)?;
        let folder = self.dir.join(remote::CLIENTS);
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder);
        made.map_err(|error| unwritable(&folder, &error))?;
        let serial = parse(certificate.der())?.0;
        put(&folder.join(format!("{}.pem", hex::encode(&serial))), certificate.pem().as_bytes(), 0o644)?;
        Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
    }

    pub fn ca(&self) -> &str {
        &self.ca
    }

    /// Lets none of these in any more.
    pub fn revoke(&self, serials: Vec<Vec<u8>>) -> Result<(), Failure> {
        let mut all = revoked(&self.dir)?;
        let now = OffsetDateTime::now_utc();
        all.extend(serials.into_iter().map(|serial| (serial, now)));
        self.put_revoked(all)
    }

    fn put_revoked(&self, serials: Vec<(Vec<u8>, OffsetDateTime)>) -> Result<(), Failure> {
        let entry = |(serial, at): &(Vec<u8>, OffsetDateTime)| RevokedCertParams {
            serial_number: SerialNumber::from_slice(serial),
            revocation_time: *at,
            reason_code: None,
            invalidity_date: None,
        };
        let now = OffsetDateTime::now_utc();
        let list = CertificateRevocationListParams {
            this_update: now - BEFORE,
            next_update: now + Duration::days(CA_DAYS),
            crl_number: SerialNumber::from(serials.len() as u64 + 1),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(entry).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&self.issuer).and_then(|list| list.pem()).map_err(unmade)?;
        put(&self.dir.join(remote::REVOKED), list.as_bytes(), 0o644)
    }
}

/// All certificates of clients, by name and then by age. Needs no key.
pub fn issued(dir: &Path) -> Result<Vec<Issued>, Failure> {
    let revoked = revoked(dir)?;
    let folder = dir.join(remote::CLIENTS);
    let entries = match fs::read_dir(&folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        read => read.map_err(|error| unreadable(&folder, &error))?,
    };
    let mut all = Vec::new();
    for path in entries.filter_map(|entry| entry.ok().map(|entry| entry.path())) {
        if path.extension().is_none_or(|end| end != "pem")
            || path.file_name().is_some_and(|n| n.as_encoded_bytes()[0] == b'.')
        {
            continue;
        }
        let (serial, name, expires) = parse(&der(&path)?)?;
        let revoked = revoked.iter().any(|(other, _)| *other == serial);
        all.push(Issued { name, serial, expires, revoked });
    }
    all.sort_by(|a, b| (&a.name, a.expires).cmp(&(&b.name, b.expires)));
    Ok(all)
}

/// The names that the daemon's certificate is for.
pub fn server_names(dir: &Path) -> Result<Vec<String>, Failure> {
    let file = dir.join(remote::SERVER);
    let der = der(&file)?;
    let (_, certificate) =
        x509_parser::certificate::X509Certificate::from_der(&der).map_err(|_| odd(&file))?;
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return Ok(Vec::new()) };
    let text = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(|octets| IpAddr::from(octets).to_string()),
            _ => <[u8; 16]>::try_from(*bytes).ok().map(|octets| IpAddr::from(octets).to_string()),
        },
        _ => None,
    };
    Ok(names.value.general_names.iter().filter_map(text).collect())
}

fn revoked(dir: &Path) -> Result<Vec<(Vec<u8>, OffsetDateTime)>, Failure> {
    let file = dir.join(remote::REVOKED);
    let der = der(&file)?;
    let (_, list) = CertificateRevocationList::from_der(&der).map_err(|_| odd(&file))?;
    let entry = |entry: &x509_parser::revocation_list::RevokedCertificate<'_>| {
        (whole(entry.raw_serial()), entry.revocation_date.to_datetime())
    };
    Ok(list.iter_revoked_certificates().map(entry).collect())
}

/// Serial, common name and end.
fn parse(der: &[u8]) -> Result<(Vec<u8>, String, Timestamp), Failure> {
    let odd = || Failure::new(Exit::Failed, "a certificate that was made here cannot be read");
    let (_, certificate) = x509_parser::certificate::X509Certificate::from_der(der).map_err(|_| odd())?;
    let name = certificate
        .subject()
        .iter_common_name()
        .next()
        .and_then(|name| name.as_str().ok())
        .ok_or_else(odd)?;
    let expires = at(certificate.validity().not_after.timestamp());
    Ok((whole(certificate.raw_serial()), name.to_owned(), expires))
}

/// A number of DER's without the zero that keeps it positive.
fn whole(serial: &[u8]) -> Vec<u8> {
    serial.iter().copied().skip_while(|byte| *byte == 0).collect()
}

fn der(file: &Path) -> Result<Vec<u8>, Failure> {
    let pem = text(file)?;
    let first = Pem::iter_from_buffer(pem.as_bytes()).next();
    first.and_then(Result::ok).map(|pem| pem.contents).ok_or_else(|| odd(file))
}

fn odd(file: &Path) -> Failure {
    Failure::new(Exit::Failed, format!("{} is not what `agentctl remote init` makes", file.display()))
}

fn text(file: &Path) -> Result<String, Failure> {
    fs::read_to_string(file).map_err(|error| match error.kind() {
        ErrorKind::NotFound => none(file),
        ErrorKind::PermissionDenied => unreadable(file, &error).hint("only root may: run it with sudo"),
        _ => unreadable(file, &error),
    })
}

fn none(file: &Path) -> Failure {
    Failure::new(Exit::NotFound, format!("there is no {}", file.display()))
        .hint("`agentctl remote init` makes an authority, on the host that is to be called")
}

/// Held while something is changed. On the folder, which is there before its files are.
fn lock(dir: &Path) -> Result<File, Failure> {
    let opened = File::open(dir).and_then(|file| file.lock().map(|()| file));
    opened.map_err(|error| match error.kind() {
        ErrorKind::NotFound => none(&dir.join(remote::CA)),
        ErrorKind::PermissionDenied => unreadable(dir, &error).hint("only root may: run it with sudo"),
        _ => unreadable(dir, &error),
    })
}

fn params(days: i64) -> Result<CertificateParams, Failure> {
    let mut params = CertificateParams::new(Vec::new()).map_err(unmade)?;
    let now = OffsetDateTime::now_utc();
    params.not_before = now - BEFORE;
    params.not_after = now + Duration::days(days);
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn generate() -> Result<KeyPair, Failure> {
    KeyPair::generate().map_err(unmade)
}

#[expect(clippy::needless_pass_by_value, reason = "it is what map_err gives")]
fn unmade(error: rcgen::Error) -> Failure {
    Failure::new(Exit::Failed, format!("no certificate can be made: {error}"))
}

fn put(file: &Path, content: &[u8], mode: u32) -> Result<(), Failure> {
    private::write(file, content, mode).map_err(|error| unwritable(file, &error))
}

fn unwritable(path: &Path, error: &std::io::Error) -> Failure {
    let failure = crate::noun::file::unwritable(path, error);
    if error.kind() == ErrorKind::PermissionDenied {
        failure.hint("only root may: run it with sudo")
    } else {
        failure
    }
}
