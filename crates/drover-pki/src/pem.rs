//! What stands in PEM files.

use crate::error::PkiError;
use rustls::RootCertStore;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use std::path::Path;

/// The certificates in a PEM file's bytes, of which there must be one at least; `None` when there is none or one is broken.
#[must_use]
pub fn certificates(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    certificates.ok().filter(|found| !found.is_empty())
}

/// The first private key in them.
#[must_use]
pub fn private_key(pem: &[u8]) -> Option<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_slice(pem).ok()
}

/// Trust in just these certificates.
///
/// # Errors
/// When one of them can be no root.
pub fn roots(certificates: Vec<CertificateDer<'static>>) -> Result<RootCertStore, rustls::Error> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots.add(certificate)?;
    }
    Ok(roots)
}

pub(crate) fn certificates_in(path: &Path) -> Result<Vec<CertificateDer<'static>>, PkiError> {
    let pem = crate::files::read(path)?;
    certificates(&pem).ok_or_else(|| PkiError::Holds { path: path.to_owned(), what: "certificate" })
}

pub(crate) fn key_in(path: &Path) -> Result<PrivateKeyDer<'static>, PkiError> {
    let pem = crate::files::read_key(path)?;
    private_key(&pem).ok_or_else(|| PkiError::Holds { path: path.to_owned(), what: "private key" })
}

pub(crate) fn roots_in(path: &Path) -> Result<RootCertStore, PkiError> {
    roots(certificates_in(path)?).map_err(|e| PkiError::unusable(path, e))
}

/// The revocation lists in a file; none without a file.
pub(crate) fn crls_in(path: Option<&Path>) -> Result<Vec<CertificateRevocationListDer<'static>>, PkiError> {
    let Some(path) = path else { return Ok(Vec::new()) };
    let pem = crate::files::read(path)?;
    let lists: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&pem).collect();
    // A file that lost its content must not read as one that revokes nobody.
    lists
        .ok()
        .filter(|found| !found.is_empty())
        .ok_or_else(|| PkiError::Holds { path: path.to_owned(), what: "revocation list" })
}
