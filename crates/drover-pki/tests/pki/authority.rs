//! What an authority keeps to.

use crate::shop::{LIFE, Shop};
use drover_model::Span;
use drover_pki::authority::{Authority, BACKDATED, Wanted};
use drover_pki::{PkiError, TlsFiles, machine_in, wall_now};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn secrets_are_their_owners_and_nothing_is_overwritten() {
    let shop = Shop::new();
    assert_eq!(mode(&shop.pki()), 0o700);
    assert_eq!(mode(&shop.pki().join("ca.key")), 0o600);
    let key = std::fs::read(shop.pki().join("ca.key")).unwrap();
    let again = Authority::init(&shop.pki(), "other", Span::from_hours(1)).unwrap_err();
    assert!(matches!(again, PkiError::Exists { .. }), "{again}");
    assert_eq!(std::fs::read(shop.pki().join("ca.key")).unwrap(), key);

    let files = shop.issue("drover://client/ann");
    assert_eq!((mode(&files.key), mode(&files.certificate)), (0o600, 0o644));
    let identity = "drover://client/ann".parse().unwrap();
    let wanted = Wanted { identity, hosts: vec![], lifetime: LIFE };
    let again = shop.authority().issue(&wanted, files.key.parent().unwrap()).unwrap_err();
    assert!(matches!(again, PkiError::Exists { .. }), "{again}");
    assert_eq!(shop.authority().ledger().certificates.len(), 1, "what was refused was not issued");
}

#[test]
fn a_certificate_says_what_the_ledger_says() {
    let shop = Shop::new();
    let files = shop.issue("drover://coordinator/c-1");
    let (said, authority) = (machine_in(&files.certificate).unwrap(), shop.authority());
    let [entry] = &authority.ledger().certificates[..] else { panic!("one was issued") };
    assert_eq!((&said.serial, &said.identity, &said.hosts), (&entry.serial, &entry.identity, &entry.hosts));
    assert_eq!(said.hosts, ["localhost", "127.0.0.1"]);
    // Certificates count whole seconds.
    assert!(entry.until.since(said.until) < Span::from_secs(1), "{said:?} {entry:?}");
    assert!(entry.until.since(entry.from) == LIFE.plus(BACKDATED), "{entry:?}");
    assert!(said.from < wall_now(), "a machine whose clock is behind takes it");
}

#[test]
fn what_can_not_be_is_refused_with_its_reason() {
    let shop = Shop::new();
    let wanted = |hosts: &[&str], lifetime| Wanted {
        identity: "drover://coordinator/c-1".parse().unwrap(),
        hosts: hosts.iter().map(|h| (*h).to_owned()).collect(),
        lifetime,
    };
    let mut authority = shop.authority();
    let long = authority.issue(&wanted(&["a.example"], Span::from_hours(25)), &shop.path("o")).unwrap_err();
    assert!(matches!(long, PkiError::Outlives { .. }), "{long}");
    for host in ["", "a b", "http://a.example", "a.example:7400"] {
        let bad = authority.issue(&wanted(&[host], LIFE), &shop.path("o")).unwrap_err();
        assert!(matches!(bad, PkiError::Host { .. }), "{host}: {bad}");
    }
    assert!(!shop.path("o").exists(), "nothing was begun");
    let none = Authority::open(&shop.path("nowhere")).unwrap_err();
    assert!(matches!(none, PkiError::NoAuthority { .. }), "{none}");
}

#[test]
fn a_renewed_certificate_is_the_same_machines_with_another_key() {
    let shop = Shop::new();
    let files = shop.issue("drover://coordinator/c-1");
    let read =
        |files: &TlsFiles| (std::fs::read(&files.key).unwrap(), machine_in(&files.certificate).unwrap());
    let (old_key, old) = read(&files);
    // A service's group was let in.
    std::fs::set_permissions(&files.key, std::fs::Permissions::from_mode(0o640)).unwrap();
    shop.authority().rotate(files.key.parent().unwrap(), LIFE).unwrap();
    let (new_key, new) = read(&files);
    assert_ne!((&old_key, &old.serial), (&new_key, &new.serial));
    assert_eq!((old.identity, old.hosts), (new.identity.clone(), new.hosts));
    assert_eq!(mode(&files.key), 0o640, "and still is");

    shop.authority().revoke(&new.identity, None, "lost").unwrap();
    let revoked = shop.authority().rotate(files.key.parent().unwrap(), LIFE).unwrap_err();
    assert!(matches!(revoked, PkiError::NotOurs { .. }), "renewing would undo it: {revoked}");
    let other = Shop::new();
    let foreign = other.authority().rotate(files.key.parent().unwrap(), LIFE).unwrap_err();
    assert!(matches!(foreign, PkiError::NotOurs { .. }), "{foreign}");
}

#[test]
fn a_revocation_is_of_one_certificate_or_of_all_that_count() {
    let shop = Shop::new();
    let files = shop.issue("drover://client/ann");
    let first = machine_in(&files.certificate).unwrap();
    shop.authority().rotate(files.key.parent().unwrap(), LIFE).unwrap();
    shop.issue("drover://client/ben");
    let ann = &first.identity;
    let one = shop.authority().revoke(ann, Some(&first.serial), "copied").unwrap();
    assert_eq!(one.iter().map(|i| &i.serial).collect::<Vec<_>>(), [&first.serial]);
    assert_eq!(shop.authority().revoke(ann, None, "left").unwrap().len(), 1, "what was left of hers");
    let crl = std::fs::read(shop.pki().join("crl.pem")).unwrap();
    let again = shop.authority().revoke(ann, None, "left").unwrap_err();
    assert!(matches!(again, PkiError::NothingToRevoke { .. }), "{again}");
    assert_ne!(std::fs::read(shop.pki().join("crl.pem")).unwrap(), crl, "a repeat writes the list again");
    let counting = |i: &&drover_pki::ledger::Issued| i.revoked.is_none();
    assert_eq!(shop.authority().ledger().certificates.iter().filter(counting).count(), 1, "ben's");
}
