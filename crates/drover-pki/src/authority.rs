//! The authority of an installation: a directory with a key that signs, and the ledger of what it signed.
//!
//! ```text
//! ca.pem        the authority's certificate, which every machine trusts
//! ca.key        its key (0600): whoever has it is any machine
//! crl.pem       what was revoked, for coordinators
//! ledger.json   every certificate that it issued
//! ```
//!
//! An operation holds a lock on the directory, writes the ledger first, and then what follows from it; done again after a crash
//! it ends as if it had not been interrupted.

mod files;

use crate::client::TlsFiles;
use crate::error::PkiError;
use crate::identity::identity_of;
use crate::ledger::{Issued, Ledger, Revoked, ends_soon};
use crate::{pem, wall_now};
use drover_model::machine::MachineIdentity;
use drover_model::{Span, Timestamp};
use files::{Place, lock};
pub(crate) use files::{create_private, make_directory, replace};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, PublicKeyData, RevocationReason, RevokedCertParams,
    SanType, SerialNumber,
};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use time::OffsetDateTime;

/// Life of an authority, unless asked otherwise: ten years, since its end ends everything.
pub const AUTHORITY_LIFETIME: Span = Span::from_hours(24 * 3_650);
/// Life of a machine's certificate, unless asked otherwise: short enough that one which was copied unseen is worth little for long, long enough
/// that a month of missed renewals is noticed before it ends.
pub const CERTIFICATE_LIFETIME: Span = Span::from_hours(24 * 90);
/// A certificate counts from so long ago, for machines whose clocks are behind.
pub const BACKDATED: Span = Span::from_mins(5);
/// A revocation list is replaced at each revocation; this date is only what the format demands, and nobody is locked out when it
/// passes.
const CRL_LIFETIME: Span = AUTHORITY_LIFETIME;
/// Bytes of a serial number: RFC 5280 (4.1.2.2) allows 20, and 16 that are random are never drawn twice.
const SERIAL_BYTES: usize = 16;

/// Bytes of its serial number that are part of an authority's name.
const NAME_BYTES: usize = 4;

/// What a certificate shall say.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Of whom.
    pub identity: MachineIdentity,
    /// DNS names and addresses that it serves under: of a coordinator, those that agents and people call it by.
    pub hosts: Vec<String>,
    /// How long it counts.
    pub lifetime: Span,
}

/// A certificate for a machine's own key, with what it needs beside it, as PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// Its line of the ledger.
    pub issued: Issued,
    /// The certificate.
    pub certificate: String,
    /// The authority's own.
    pub ca: String,
    /// What was revoked.
    pub crl: String,
}

/// An authority, held by this process alone.
#[derive(Debug)]
pub struct Authority {
    place: Place,
    issuer: Issuer<'static, KeyPair>,
    from: Timestamp,
    until: Timestamp,
    ledger: Ledger,
    _lock: nix::fcntl::Flock<std::fs::File>,
}

impl Authority {
    /// Makes an authority in a new or empty directory.
    ///
    /// # Errors
    /// When there is one already, or it can't be written.
    pub fn init(directory: &Path, name: &str, lifetime: Span) -> Result<Self, PkiError> {
        let place = Place::new(directory);
        files::make_directory(directory)?;
        let lock = lock(directory)?;
        for file in [place.key(), place.certificate(), place.ledger()] {
            if file.exists() {
                return Err(PkiError::Exists { path: file });
            }
        }
        let sign = |source| PkiError::Sign { what: "the authority's own certificate".to_owned(), source };
        let key = KeyPair::generate().map_err(sign)?;
        let now = wall_now();
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        // Two authorities of one name would have one list of revocations between them, as far as webpki can tell.
        let (serial, mut name) = (serial()?, name.to_owned());
        name.push_str(&format!(" {}", hex::encode(serial.to_bytes().get(..NAME_BYTES).unwrap_or_default())));
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.serial_number = Some(serial);
        params.not_before = time(now - BACKDATED);
        params.not_after = time(now + lifetime);
        let certificate = params.self_signed(&key).map_err(sign)?;
        // The certificate is what says that all is there, so it comes last.
        create_private(&place.key(), key.serialize_pem().as_bytes())?;
        let mut this = Self {
            place,
            issuer: Issuer::new(params, key),
            from: now - BACKDATED,
            until: now + lifetime,
            ledger: Ledger::empty(),
            _lock: lock,
        };
        this.keep()?;
        this.write_crl()?;
        replace(&this.place.certificate(), certificate.pem().as_bytes())?;
        Ok(this)
    }

    /// Opens the authority in a directory.
    ///
    /// # Errors
    /// When there is none, or it can't be read.
    pub fn open(directory: &Path) -> Result<Self, PkiError> {
        let place = Place::new(directory);
        if !place.certificate().exists() {
            return Err(PkiError::NoAuthority { directory: directory.to_owned() });
        }
        let lock = lock(directory)?;
        let file = place.certificate();
        let certificates = pem::certificates_in(&file)?;
        let holds = || PkiError::Holds { path: place.certificate(), what: "certificate" };
        let own = certificates.first().ok_or_else(holds)?;
        let text = crate::files::read_key(&place.key())?;
        let key = KeyPair::from_pem(&String::from_utf8_lossy(&text))
            .map_err(|e| PkiError::unusable(&place.key(), e))?;
        let issuer = Issuer::from_ca_cert_der(own, key).map_err(|e| PkiError::unusable(&file, e))?;
        let (_, parsed) = x509_parser::parse_x509_certificate(own).map_err(|_| holds())?;
        let at = |time: x509_parser::time::ASN1Time| {
            Timestamp::from_millis(time.timestamp().saturating_mul(1_000))
        };
        let (from, until) = (at(parsed.validity().not_before), at(parsed.validity().not_after));
        let ledger = Ledger::read(&place.ledger())?;
        Ok(Self { place, issuer, from, until, ledger, _lock: lock })
    }

    /// What it issued.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// When the authority itself ends.
    #[must_use]
    pub fn until(&self) -> Timestamp {
        self.until
    }

    /// Has it less than a third of its own life left?
    #[must_use]
    pub fn ends_soon(&self, now: Timestamp) -> bool {
        ends_soon(self.from, self.until, now)
    }

    /// Issues a certificate with a new key into a directory, which holds none yet.
    ///
    /// # Errors
    /// When the directory has one, or it can't be made or written.
    pub fn issue(&mut self, wanted: &Wanted, out: &Path) -> Result<Issued, PkiError> {
        let files = TlsFiles::in_directory(out);
        for file in [&files.key, &files.certificate] {
            if file.exists() {
                return Err(PkiError::Exists { path: file.clone() });
            }
        }
        self.make(wanted, &files, out)
    }

    /// Issues another certificate with another key in the place of one that it issued: for the same machine and hosts.
    ///
    /// # Errors
    /// When there is no certificate of this authority, it was revoked, or another can't be made or written.
    pub fn rotate(&mut self, out: &Path, lifetime: Span) -> Result<Issued, PkiError> {
        let files = TlsFiles::in_directory(out);
        let before = self.issued_in(&files.certificate)?;
        let wanted = Wanted { identity: before.identity.clone(), hosts: before.hosts.clone(), lifetime };
        self.make(&wanted, &files, out)
    }

    /// The entry of a certificate in a file, which must be this authority's and not revoked.
    ///
    /// # Errors
    /// When it is another's, or was revoked.
    pub fn issued_in(&self, certificate: &Path) -> Result<&Issued, PkiError> {
        let chain = pem::certificates_in(certificate)?;
        let leaf = chain.first().and_then(|leaf| identity_of(leaf).ok());
        let entry = leaf.and_then(|peer| {
            let same = |i: &&Issued| i.serial == peer.serial && i.identity == peer.identity;
            self.ledger.certificates.iter().find(same)
        });
        // One that was revoked must not come back by being renewed.
        entry
            .filter(|issued| issued.revoked.is_none())
            .ok_or_else(|| PkiError::NotOurs { path: certificate.to_owned() })
    }

    /// Revokes what a machine has: one certificate, or all that still count. The list that coordinators read is written anew
    /// in any case, so that a repeat after a crash mends it.
    ///
    /// # Errors
    /// When nothing of the kind still counts, or the list can't be written.
    pub fn revoke(
        &mut self,
        identity: &MachineIdentity,
        serial: Option<&str>,
        reason: &str,
    ) -> Result<Vec<Issued>, PkiError> {
        let now = wall_now();
        let mut revoked = Vec::new();
        for issued in &mut self.ledger.certificates {
            let meant = issued.identity == *identity && serial.is_none_or(|s| s == issued.serial);
            if meant && issued.revoked.is_none() && issued.until >= now {
                issued.revoked = Some(Revoked { at: now, reason: reason.to_owned() });
                revoked.push(issued.clone());
            }
        }
        self.write_crl()?;
        if revoked.is_empty() {
            return Err(PkiError::NothingToRevoke { identity: identity.clone() });
        }
        Ok(revoked)
    }

    /// Signs a key that its machine made itself, and keeps to itself. In the ledger first, as all that it signs.
    ///
    /// # Errors
    /// When it would outlive the authority, or the ledger can't be written.
    pub fn sign(&mut self, wanted: &Wanted, key: &impl PublicKeyData) -> Result<Signed, PkiError> {
        let (issued, params) = self.prepare(wanted)?;
        let sign =
            |source| PkiError::Sign { what: format!("the certificate of {}", wanted.identity), source };
        let certificate = params.signed_by(key, &self.issuer).map_err(sign)?;
        let (ca, crl) = (files::text(&self.place.certificate())?, files::text(&self.place.crl())?);
        self.ledger.certificates.push(issued.clone());
        self.keep()?;
        Ok(Signed { issued, certificate: certificate.pem(), ca, crl })
    }

    fn prepare(&self, wanted: &Wanted) -> Result<(Issued, CertificateParams), PkiError> {
        let now = wall_now();
        let until = now + wanted.lifetime;
        if until > self.until {
            return Err(PkiError::Outlives { until, authority: self.until });
        }
        let serial = serial()?;
        let issued = Issued {
            serial: hex::encode(serial.to_bytes()),
            identity: wanted.identity.clone(),
            hosts: wanted.hosts.clone(),
            from: now - BACKDATED,
            until,
            revoked: None,
        };
        let params = params(wanted, serial, &issued)?;
        Ok((issued, params))
    }

    fn make(&mut self, wanted: &Wanted, files: &TlsFiles, out: &Path) -> Result<Issued, PkiError> {
        let (issued, params) = self.prepare(wanted)?;
        let sign =
            |source| PkiError::Sign { what: format!("the certificate of {}", wanted.identity), source };
        let key = KeyPair::generate().map_err(sign)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(sign)?;
        files::make_directory(out)?;
        self.ledger.certificates.push(issued.clone());
        self.keep()?;
        // The key first: whoever looks between the two finds a pair that does not match, and goes on with the one it has.
        files::replace_private(&files.key, key.serialize_pem().as_bytes())?;
        replace(&files.certificate, certificate.pem().as_bytes())?;
        files::copy(&self.place.certificate(), &files.ca)?;
        if let Some(crl) = &files.crl {
            files::copy(&self.place.crl(), crl)?;
        }
        Ok(issued)
    }

    fn keep(&self) -> Result<(), PkiError> {
        let path = self.place.ledger();
        let failed = |source| PkiError::Ledger { path: path.clone(), source };
        let mut text = serde_json::to_vec_pretty(&self.ledger).map_err(failed)?;
        text.push(b'\n');
        replace(&path, &text)
    }

    fn write_crl(&mut self) -> Result<(), PkiError> {
        self.ledger.crl_number += 1;
        self.keep()?;
        let now = wall_now();
        // What has ended is refused for that, and needs no line for ever.
        let counting = self.ledger.certificates.iter().filter(|issued| issued.until >= now);
        let revoked = counting.filter_map(|issued| {
            let revoked = issued.revoked.as_ref()?;
            Some(RevokedCertParams {
                serial_number: SerialNumber::from(hex::decode(&issued.serial).ok()?),
                revocation_time: time(revoked.at),
                reason_code: Some(RevocationReason::Unspecified),
                invalidity_date: None,
            })
        });
        let params = CertificateRevocationListParams {
            this_update: time(now),
            next_update: time(now + CRL_LIFETIME),
            crl_number: SerialNumber::from(self.ledger.crl_number),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let sign = |source| PkiError::Sign { what: "the list of what was revoked".to_owned(), source };
        let list = params.signed_by(&self.issuer).and_then(|list| list.pem()).map_err(sign)?;
        replace(&self.place.crl(), list.as_bytes())
    }

    /// Where the list of what was revoked is.
    #[must_use]
    pub fn crl(&self) -> PathBuf {
        self.place.crl()
    }
}

/// Only a coordinator may serve, and every machine may connect: webpki checks it by the extended key usage.
fn params(wanted: &Wanted, serial: SerialNumber, issued: &Issued) -> Result<CertificateParams, PkiError> {
    let host = |host: &String| PkiError::Host { host: host.clone() };
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    let uri = wanted.identity.to_string();
    params.subject_alt_names.push(SanType::URI(uri.clone().try_into().map_err(|_| host(&uri))?));
    for name in &wanted.hosts {
        params.subject_alt_names.push(match name.parse::<IpAddr>() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) if is_dns_name(name) => SanType::DnsName(name.clone().try_into().map_err(|_| host(name))?),
            Err(_) => return Err(host(name)),
        });
    }
    params.serial_number = Some(serial);
    params.not_before = time(issued.from);
    params.not_after = time(issued.until);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    if matches!(wanted.identity, MachineIdentity::Coordinator { .. }) {
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
    }
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn is_dns_name(name: &str) -> bool {
    rustls_pki_types::DnsName::try_from(name).is_ok()
}

fn serial() -> Result<SerialNumber, PkiError> {
    let mut bytes = [0_u8; SERIAL_BYTES];
    getrandom::fill(&mut bytes).map_err(|e| PkiError::Random(e.to_string()))?;
    // Positive, and of one length: the first bit would be a sign, and a first byte of zero would be left out.
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(SerialNumber::from(bytes.to_vec()))
}

/// As certificates have times, which are whole seconds.
fn time(at: Timestamp) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(at.as_millis() / 1_000).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}
