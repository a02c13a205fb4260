//! TLS of a machine that connects to a coordinator, or to another machine that it knows by name.

use crate::error::PkiError;
use crate::one_machine::OneMachine;
use crate::pem;
use drover_model::machine::MachineIdentity;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::version::TLS13;
use rustls::{ClientConfig, ConfigBuilder, WantsVerifier};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The files of one machine: whom it trusts, and who it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// Certificates of the authorities that are trusted: two while one follows the other.
    pub ca: PathBuf,
    /// The machine's certificate.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// What was revoked: a list of each trusted authority. Without it nothing counts as revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crl: Option<PathBuf>,
}

impl TlsFiles {
    /// As `drover pki issue` writes them into a directory.
    #[must_use]
    pub fn in_directory(directory: &Path) -> Self {
        Self {
            ca: directory.join("ca.pem"),
            certificate: directory.join("certificate.pem"),
            key: directory.join("key.pem"),
            crl: Some(directory.join("crl.pem")),
        }
    }

    /// Every file, to look for changes.
    #[must_use]
    pub fn all(&self) -> Vec<PathBuf> {
        let files = [&self.ca, &self.certificate, &self.key].into_iter().chain(&self.crl);
        files.cloned().collect()
    }
}

/// TLS for connecting to a coordinator, as the files have it now.
///
/// TLS 1.3 alone: drover is on both sides. Without resumption, so that each connection proves both sides anew.
///
/// # Errors
/// When a file is missing, or is not what it should be.
pub fn client_config(files: &TlsFiles) -> Result<ClientConfig, PkiError> {
    let provider = Arc::new(ring::default_provider());
    let roots = Arc::new(pem::roots_in(&files.ca)?);
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider))
        .with_crls(pem::crls_in(files.crl.as_deref())?)
        .only_check_end_entity_revocation()
        .build()
        .map_err(|e| PkiError::unusable(&files.ca, e))?;
    let verified = builder(files, provider)?.with_webpki_verifier(verifier);
    let config =
        verified.with_client_auth_cert(pem::certificates_in(&files.certificate)?, pem::key_in(&files.key)?);
    config.map(unresumed).map_err(|e| PkiError::unusable(&files.certificate, e))
}

/// TLS for connecting to one machine, wherever it is reached: its certificate must say that it is the one.
///
/// # Errors
/// As of [`client_config`].
pub fn machine_config(files: &TlsFiles, machine: &MachineIdentity) -> Result<ClientConfig, PkiError> {
    let provider = Arc::new(ring::default_provider());
    let verifier = OneMachine::new(machine.clone(), files, &provider)?;
    // "Dangerous" is a verifier of one's own: it asks webpki for everything but the name.
    let verified = builder(files, provider)?.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    let config =
        verified.with_client_auth_cert(pem::certificates_in(&files.certificate)?, pem::key_in(&files.key)?);
    config.map(unresumed).map_err(|e| PkiError::unusable(&files.certificate, e))
}

fn builder(
    files: &TlsFiles,
    provider: Arc<CryptoProvider>,
) -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, PkiError> {
    ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(|e| PkiError::unusable(&files.ca, e))
}

fn unresumed(mut config: ClientConfig) -> ClientConfig {
    config.resumption = Resumption::disabled();
    config
}
