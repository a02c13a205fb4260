//! TLS for probes: whom to trust and what to present, made once for each set of files and again when one changed.
//!
//! Sessions are never resumed. A resumed session shows no certificate, so an expired one would go unseen until the
//! server forgot its keys, which is just when users begin to see it.

use crate::probe::failure::Failure;
use crate::probe::files::{FILES_CHECKED_EVERY, PEM_BYTES_MAX, Stamp, read, stamp};
use drover_model::Timestamp;
use drover_model::config::TlsOptions;
use drover_model::probe::FailureKind;
use drover_pki::pem;
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, ring};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Sets of files kept at once; more than that and all are made anew.
pub const TLS_CONFIGS_MAX: usize = 1_024;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Files {
    ca: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
}

struct Known {
    stamps: Vec<Stamp>,
    looked_at: Instant,
    config: Arc<ClientConfig>,
}

/// Client configurations by the files that they were made of.
pub struct TlsConfigs {
    provider: Arc<CryptoProvider>,
    system_roots: OnceCell<Arc<RootCertStore>>,
    known: Mutex<BTreeMap<Files, Known>>,
}

impl Default for TlsConfigs {
    fn default() -> Self {
        Self {
            provider: Arc::new(ring::default_provider()),
            system_roots: OnceCell::new(),
            known: Mutex::new(BTreeMap::new()),
        }
    }
}

impl std::fmt::Debug for TlsConfigs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsConfigs").finish_non_exhaustive()
    }
}

impl TlsConfigs {
    /// The configuration for these options.
    ///
    /// # Errors
    /// A local failure when a file is missing or is not what it should be.
    pub async fn get(&self, options: &TlsOptions) -> Result<Arc<ClientConfig>, Failure> {
        let files = Files {
            ca: options.ca_file.clone(),
            certificate: options.client_certificate_file.clone(),
            key: options.client_key_file.clone(),
        };
        let fresh = |k: &&Known| k.stamps.is_empty() || k.looked_at.elapsed() < FILES_CHECKED_EVERY;
        if let Some(known) = self.known().get(&files).filter(fresh) {
            return Ok(Arc::clone(&known.config));
        }
        let mut stamps = Vec::new();
        for path in [&files.ca, &files.certificate, &files.key].into_iter().flatten() {
            stamps.push(stamp(path, PEM_BYTES_MAX).await?);
        }
        if let Some(known) = self.known().get_mut(&files).filter(|k| k.stamps == stamps) {
            known.looked_at = Instant::now();
            return Ok(Arc::clone(&known.config));
        }
        let config = Arc::new(self.make(&files).await?);
        let mut known = self.known();
        if known.len() >= TLS_CONFIGS_MAX {
            known.clear();
        }
        known.insert(files, Known { stamps, looked_at: Instant::now(), config: Arc::clone(&config) });
        Ok(config)
    }

    /// Forgets every configuration, for a new probe list.
    pub fn clear(&self) {
        self.known().clear();
    }

    fn known(&self) -> std::sync::MutexGuard<'_, BTreeMap<Files, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn make(&self, files: &Files) -> Result<ClientConfig, Failure> {
        let roots = match &files.ca {
            Some(path) => Arc::new(roots_in(path).await?),
            None => Arc::clone(self.system_roots.get_or_try_init(load_system_roots).await?),
        };
        let builder = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()
            .map_err(|e| Failure::local(&format!("cannot set up TLS: {e}")))?
            .with_root_certificates(roots);
        let mut config = match (&files.certificate, &files.key) {
            (Some(certificate), Some(key)) => {
                let chain = certificates_in(certificate).await?;
                let secret = pem::private_key(&read(key).await?)
                    .ok_or_else(|| Failure::local(&format!("{} holds no private key", key.display())))?;
                builder.with_client_auth_cert(chain, secret).map_err(|e| {
                    Failure::local(&format!("client certificate {}: {e}", certificate.display()))
                })?
            }
            (None, None) => builder.with_no_client_auth(),
            _ => return Err(Failure::local("a client certificate needs its key, and a key its certificate")),
        };
        config.resumption = Resumption::disabled();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

async fn certificates_in(path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    pem::certificates(&read(path).await?)
        .ok_or_else(|| Failure::local(&format!("{} holds no certificate", path.display())))
}

async fn roots_in(path: &Path) -> Result<RootCertStore, Failure> {
    pem::roots(certificates_in(path).await?).map_err(|e| Failure::local(&format!("{}: {e}", path.display())))
}

async fn load_system_roots() -> Result<Arc<RootCertStore>, Failure> {
    let loaded = tokio::task::spawn_blocking(|| {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        roots
    });
    let roots = loaded.await.map_err(|_| Failure::local("cannot read the system's trusted roots"))?;
    if roots.is_empty() {
        return Err(Failure::local("the system has no trusted roots; name a ca_file in the check"));
    }
    Ok(Arc::new(roots))
}

/// The TLS handshake, and the end of the server certificate's life.
///
/// # Errors
/// `Tls` when either side refuses the other, `Reset` when the connection breaks meanwhile.
pub async fn handshake<S: AsyncRead + AsyncWrite + Unpin>(
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    stream: S,
) -> Result<(TlsStream<S>, Option<Timestamp>), Failure> {
    let stream = TlsConnector::from(config).connect(name, stream).await.map_err(|e| refused(&e))?;
    let certificates = stream.get_ref().1.peer_certificates();
    let expires_at = certificates.and_then(|chain| chain.first()).and_then(|leaf| expiry(leaf));
    Ok((stream, expires_at))
}

fn refused(error: &io::Error) -> Failure {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return Failure::new(FailureKind::Reset, "closed in the middle of the TLS handshake");
    }
    Failure::from_io("TLS handshake", error)
}

fn expiry(leaf: &[u8]) -> Option<Timestamp> {
    let (_, certificate) = x509_parser::parse_x509_certificate(leaf).ok()?;
    Some(Timestamp::from_millis(certificate.validity().not_after.timestamp().saturating_mul(1_000)))
}
