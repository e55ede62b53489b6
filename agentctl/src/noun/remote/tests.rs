//! The authority by what it leaves on disk, read back as agentd and clients read it.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use agentd_api::remote;
use agentd_client::Identity;

use super::authority::{Authority, issued, server_names};
use crate::failure::Exit;

fn made(dir: &Path) -> Authority {
    let authority = Authority::make(dir, "rack1").expect("made");
    let names = ["rack1", "192.0.2.7", "::1"].map(str::to_owned);
    authority.certify_server(&names, 30).expect("certified");
    authority.complete().expect("complete");
    authority
}

/// What a client of an authority of its own would join by.
pub fn bundle(folder: &Path, name: &str) -> Vec<u8> {
    let authority = made(&folder.join("authority"));
    let pair = authority.certify_client(name, 30).expect("certified");
    [pair.certificate.as_str(), &pair.key, authority.ca()].concat().into_bytes()
}

#[test]
fn keys_are_the_owner_s_alone_and_an_authority_is_never_replaced() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("etc/remote");
    drop(made(&dir));
    for (file, mode) in [
        (".", 0o700),
        (remote::CA_KEY, 0o600),
        (remote::SERVER_KEY, 0o600),
        (remote::CA, 0o644),
        (remote::SERVER, 0o644),
        (remote::REVOKED, 0o644),
    ] {
        let found = dir.join(file).metadata().unwrap_or_else(|e| panic!("{file}: {e}")).permissions().mode();
        assert_eq!(found & 0o777, mode, "{file}");
    }
    let key = std::fs::read(dir.join(remote::CA_KEY)).expect("a key");
    let again = Authority::make(&dir, "rack1").err().expect("refused");
    assert_eq!(again.exit, Exit::Conflict);
    assert!(again.text().contains("--renew"), "{}", again.text());
    assert_eq!(std::fs::read(dir.join(remote::CA_KEY)).expect("a key"), key);
    assert_eq!(server_names(&dir).expect("names"), ["rack1", "192.0.2.7", "::1"]);
}

#[test]
fn one_that_was_cut_off_is_made_again() {
    let folder = tempfile::tempdir().expect("a folder");
    // Killed before its last step: nobody has a certificate of it.
    drop(Authority::make(folder.path(), "rack1").expect("made"));
    assert_eq!(Authority::open(folder.path()).err().map(|f| f.exit), Some(Exit::NotFound));
    drop(made(folder.path()));
    Authority::open(folder.path()).expect("whole");
}

#[test]
fn a_bundle_is_a_client_s_and_its_revocation_is_written_down_for_good() {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = made(folder.path());
    for name in ["laptop", "ci"] {
        let pair = authority.certify_client(name, 30).expect("certified");
        let text = [pair.certificate.as_str(), &pair.key, authority.ca()].concat();
        let identity = Identity::from_pem(text.as_bytes()).expect("a bundle");
        assert_eq!(super::named(identity.certificate()).expect("read").0, name);
        assert!(Identity::from_pem(pair.certificate.as_bytes()).is_err(), "no authority, no key");
    }
    let holding = || -> Vec<(String, bool)> {
        issued(folder.path())
            .expect("a list")
            .into_iter()
            .map(|one| (one.name.clone(), one.holds()))
            .collect()
    };
    let pairs = |of: [(&str, bool); 2]| of.map(|(name, holds)| (name.to_owned(), holds)).to_vec();
    assert_eq!(holding(), pairs([("ci", true), ("laptop", true)]));
    let serial = |name: &str| {
        issued(folder.path()).expect("a list").into_iter().find(|one| one.name == name).expect("it").serial
    };
    authority.revoke(vec![serial("laptop")]).expect("revoked");
    assert_eq!(holding(), pairs([("ci", true), ("laptop", false)]));
    drop(authority);
    Authority::open(folder.path()).expect("again").revoke(vec![serial("ci")]).expect("revoked");
    assert_eq!(holding(), pairs([("ci", false), ("laptop", false)]), "the list keeps what it had");
}
