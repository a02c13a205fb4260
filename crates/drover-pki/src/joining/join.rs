//! The new machine's side.

use super::{Answer, Ask, Granted, JOIN_TIMEOUT, JoinError, JoinToken, Kept, Lines, SERVED_AS, io, pin_of};
use crate::authority::{create_private, make_directory, replace};
use crate::client::TlsFiles;
use crate::error::PkiError;
use crate::files::read_key;
use crate::identity::{Peer, identity_of};
use crate::pem;
use rcgen::{CertificateParams, KeyPair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, ring, verify_tls13_signature};
use rustls::version::TLS13;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::path::Path;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// A machine that joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// Its certificate.
    pub peer: Peer,
    /// Where its files are.
    pub files: TlsFiles,
}

/// Joins: makes a key in the directory, has it signed at `address`, and writes what came. The key goes nowhere. Done again after
/// it was interrupted it goes on with the key that it made.
///
/// # Errors
/// When the directory has a certificate, the other side is not whom the token says, or it refuses.
pub async fn join(address: &str, token: &JoinToken, out: &Path) -> Result<Joined, JoinError> {
    let files = TlsFiles::in_directory(out);
    if files.certificate.exists() {
        return Err(PkiError::Exists { path: files.certificate }.into());
    }
    make_directory(out)?;
    let key = key_in(&files.key)?;
    let what = format!("join at {address}");
    let sign = |source| PkiError::Sign { what: "the request".to_owned(), source };
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    let request = params.serialize_request(&key).and_then(|request| request.pem()).map_err(sign)?;
    let exchange = async {
        let stream = TcpStream::connect(address).await.map_err(io(&what))?;
        let name = ServerName::try_from(SERVED_AS).map_err(|e| io(&what)(std::io::Error::other(e)))?;
        let stream = TlsConnector::from(Arc::new(trusting(token)?)).connect(name, stream).await;
        let stream =
            stream.map_err(|source| JoinError::OtherInvitation { address: address.to_owned(), source })?;
        let mut lines = Lines::new(stream);
        lines.say(&Ask { secret: hex::encode(token.secret), request }).await.map_err(io(&what))?;
        let granted = match lines.hear::<Answer>().await.map_err(io(&what))? {
            Answer::Granted(granted) => granted,
            Answer::Refused { code, why } => return Err(JoinError::Refused { code, why }),
        };
        let peer = checked(&granted, &key)?;
        keep(&granted, &files)?;
        // It is written; that the other side hears so is for its own peace.
        if let Err(e) = lines.say(&Kept { kept: true }).await {
            tracing::warn!(error = %e, "the authority did not hear that the certificate came");
        }
        Ok(Joined { peer, files: files.clone() })
    };
    let late = |_| io(&what)(std::io::Error::from(std::io::ErrorKind::TimedOut));
    tokio::time::timeout(JOIN_TIMEOUT, exchange).await.map_err(late)?
}

/// The key of an attempt before this one, or a new one.
fn key_in(path: &Path) -> Result<KeyPair, PkiError> {
    if path.exists() {
        let text = read_key(path)?;
        return KeyPair::from_pem(&String::from_utf8_lossy(&text)).map_err(|e| PkiError::unusable(path, e));
    }
    let sign = |source| PkiError::Sign { what: "a key".to_owned(), source };
    let key = KeyPair::generate().map_err(sign)?;
    create_private(path, key.serialize_pem().as_bytes())?;
    Ok(key)
}

/// What came is a machine's certificate for this very key.
fn checked(granted: &Granted, key: &KeyPair) -> Result<Peer, JoinError> {
    let other = |found: String| JoinError::OtherKey { found };
    let chain = pem::certificates(granted.certificate.as_bytes());
    let leaf = chain.as_deref().and_then(<[_]>::first).ok_or_else(|| other("nobody".to_owned()))?;
    let peer = identity_of(leaf).map_err(|e| other(e.to_string()))?;
    let (_, parsed) = x509_parser::parse_x509_certificate(leaf).map_err(|e| other(e.to_string()))?;
    let is_ours = parsed.public_key().subject_public_key.data.as_ref() == key.public_key_raw();
    if !is_ours || peer.identity != granted.identity {
        return Err(other(peer.identity.to_string()));
    }
    Ok(peer)
}

/// The certificate last: it says that all is there.
fn keep(granted: &Granted, files: &TlsFiles) -> Result<(), PkiError> {
    replace(&files.ca, granted.ca.as_bytes())?;
    if let Some(crl) = &files.crl {
        replace(crl, granted.crl.as_bytes())?;
    }
    replace(&files.certificate, granted.certificate.as_bytes())
}

/// TLS that trusts the one certificate whose fingerprint the token has.
fn trusting(token: &JoinToken) -> Result<ClientConfig, JoinError> {
    let provider = Arc::new(ring::default_provider());
    let pinned = Pinned { token: token.clone(), algorithms: provider.signature_verification_algorithms };
    let tls = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(|e| io("set up TLS")(std::io::Error::other(e)))?;
    Ok(tls.dangerous().with_custom_certificate_verifier(Arc::new(pinned)).with_no_client_auth())
}

/// Looks at the fingerprint in the place of names, dates and authorities, which an invitation's certificate has none of worth.
/// That the other side has its key is verified as ever.
#[derive(Debug)]
struct Pinned {
    token: JoinToken,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if pin_of(end_entity) == self.token.pin {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(rustls::Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.3 alone is spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
