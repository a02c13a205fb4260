//! TLS of whoever serves, a coordinator's API first: who connects must show a certificate, and who did is asked again when it may have lapsed.

use crate::client::TlsFiles;
use crate::error::PkiError;
use crate::files::Watched;
use crate::identity::{NotAMachine, Peer, identity_of, machine_in, must_be_of};
use crate::{pem, wall_now};
use drover_model::Timestamp;
use drover_model::machine::MachineIdentity;
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, ring};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls_pki_types::{CertificateDer, UnixTime};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Time for a handshake: two round trips, and a signature on each side. Across the world that is a second; a phone that
/// changes networks gets some more.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// A certificate that was good when the connection was made is not any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAdmitted {
    /// It ended meanwhile.
    #[error("the certificate ended at {0}")]
    Ended(Timestamp),
    /// It was revoked, or its authority is not trusted any more.
    #[error("the certificate is not accepted any more: {0}")]
    Refused(String),
}

/// What is made of the files.
struct Made {
    config: Arc<ServerConfig>,
    verifier: Arc<dyn ClientCertVerifier>,
    /// Which making of it this is.
    generation: u64,
}

/// The server's side.
pub struct ServerTls {
    made: Watched<Made>,
}

impl std::fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerTls").finish_non_exhaustive()
    }
}

/// The certificate that a connection was made with.
#[derive(Debug)]
pub struct Presented {
    chain: Vec<CertificateDer<'static>>,
    /// Whose it is.
    pub machine: Result<Peer, NotAMachine>,
    /// The last making of the server's side that it was verified by.
    generation: AtomicU64,
    refused: AtomicBool,
}

impl ServerTls {
    /// Reads the files of a coordinator.
    ///
    /// # Errors
    /// When one is missing or is not what it should be, or the certificate is not a coordinator's.
    pub fn load(files: TlsFiles) -> Result<Self, PkiError> {
        Self::load_checked(files, must_be_a_coordinators)
    }

    /// Reads the files of another machine, which serves to those that go by its name ([`Http::of_machine`](crate::Http::of_machine)).
    ///
    /// # Errors
    /// When one is missing or is not what it should be, or the certificate is not that machine's.
    pub fn load_of(files: TlsFiles, own: MachineIdentity) -> Result<Self, PkiError> {
        Self::load_checked(files, move |files| must_be_of(files, &own))
    }

    fn load_checked(
        files: TlsFiles,
        check: impl Fn(&TlsFiles) -> Result<(), PkiError> + Send + Sync + 'static,
    ) -> Result<Self, PkiError> {
        let makings = AtomicU64::new(0);
        let made = Watched::new(files.all(), move || {
            check(&files)?;
            let (config, verifier) = make(&files)?;
            Ok(Made { config, verifier, generation: makings.fetch_add(1, Ordering::Relaxed) })
        })?;
        Ok(Self { made })
    }

    /// Does the handshake. The time for it is the caller's to bound.
    ///
    /// # Errors
    /// When either side refuses the other, or the connection breaks.
    pub async fn accept<S>(&self, stream: S) -> std::io::Result<(TlsStream<S>, Presented)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let made = self.made.get();
        let stream = TlsAcceptor::from(Arc::clone(&made.config)).accept(stream).await?;
        let chain: Vec<_> = stream.get_ref().1.peer_certificates().unwrap_or_default().to_vec();
        let machine = chain.first().ok_or(NotAMachine::Absent).and_then(|leaf| identity_of(leaf));
        let generation = AtomicU64::new(made.generation);
        Ok((stream, Presented { chain, machine, generation, refused: AtomicBool::new(false) }))
    }

    /// Does the certificate of an open connection still count? Asked at each request, it costs a comparison unless the
    /// files changed.
    ///
    /// # Errors
    /// When it does not.
    pub fn still_admits(&self, presented: &Presented) -> Result<(), NotAdmitted> {
        let now = wall_now();
        if let Ok(peer) = &presented.machine
            && peer.until < now
        {
            return Err(NotAdmitted::Ended(peer.until));
        }
        let made = self.made.get();
        let verified = presented.generation.load(Ordering::Acquire) == made.generation;
        if verified && !presented.refused.load(Ordering::Acquire) {
            return Ok(());
        }
        let Some((leaf, between)) = presented.chain.split_first() else {
            return Err(NotAdmitted::Refused("there is none".to_owned()));
        };
        let again = made.verifier.verify_client_cert(leaf, between, UnixTime::now());
        presented.refused.store(again.is_err(), Ordering::Release);
        presented.generation.store(made.generation, Ordering::Release);
        again.map(drop).map_err(|e| NotAdmitted::Refused(e.to_string()))
    }
}

fn make(files: &TlsFiles) -> Result<(Arc<ServerConfig>, Arc<dyn ClientCertVerifier>), PkiError> {
    let chain = pem::certificates_in(&files.certificate)?;
    let provider = Arc::new(ring::default_provider());
    let verifier = any_machine(files, &provider)?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(|e| PkiError::unusable(&files.certificate, e))?
        .with_client_cert_verifier(Arc::clone(&verifier))
        .with_single_cert(chain, pem::key_in(&files.key)?)
        .map_err(|e| PkiError::unusable(&files.certificate, e))?;
    // A resumed session would bring the certificate of back then, unverified.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok((Arc::new(config), verifier))
}

/// Takes the certificate of any machine that the files' authorities issued and did not revoke.
pub(crate) fn any_machine(
    files: &TlsFiles,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, PkiError> {
    let roots = Arc::new(pem::roots_in(&files.ca)?);
    // No hints: a list of authorities' names would tell a stranger more than he has to know.
    WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(provider))
        .clear_root_hint_subjects()
        .with_crls(pem::crls_in(files.crl.as_deref())?)
        .only_check_end_entity_revocation()
        .build()
        .map_err(|e| PkiError::unusable(&files.ca, e))
}

/// Also before webpki would find out on the other side: who starts with an agent's certificate is told so at once.
fn must_be_a_coordinators(files: &TlsFiles) -> Result<(), PkiError> {
    match machine_in(&files.certificate)?.identity {
        MachineIdentity::Coordinator { .. } => Ok(()),
        found => {
            let path = files.certificate.clone();
            Err(PkiError::OtherMachine { path, found, wanted: "a coordinator's".to_owned() })
        }
    }
}
