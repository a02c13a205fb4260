//! A server that is known by its machine's name, and not by a host's.
//!
//! Agents are reached at addresses that tunnels and translations change, and no certificate of theirs names a host. What counts of a
//! machine is its one URI, so that is what is asked for here: by the authority's word, in time, not revoked, and of this
//! machine and no other.

use crate::client::TlsFiles;
use crate::error::PkiError;
use crate::identity::{NotAMachine, identity_of};
use crate::server::any_machine;
use drover_model::machine::MachineIdentity;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::server::danger::ClientCertVerifier;
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::sync::Arc;

/// Somebody else serves there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotThisMachine {
    /// Another machine of the installation.
    #[error("{found} answers there, not {wanted}")]
    Other {
        /// Who does.
        found: MachineIdentity,
        /// Who should.
        wanted: MachineIdentity,
    },
    /// A certificate of the authority that names no machine.
    #[error("whoever answers there is not {wanted}: {why}")]
    Nobody {
        /// Who should.
        wanted: MachineIdentity,
        /// Why it is none.
        why: NotAMachine,
    },
}

/// Takes the certificate of one machine.
#[derive(Debug)]
pub(crate) struct OneMachine {
    wanted: MachineIdentity,
    /// Every machine's certificate is made for connecting; only a coordinator's is for serving as well. So it is verified as one who
    /// connects, which gives an agent no way to pass for a coordinator: those are asked for by host names, as servers.
    machines: Arc<dyn ClientCertVerifier>,
}

impl OneMachine {
    pub(crate) fn new(
        wanted: MachineIdentity,
        files: &TlsFiles,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, PkiError> {
        Ok(Self { wanted, machines: any_machine(files, provider)? })
    }
}

impl ServerCertVerifier for OneMachine {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.machines.verify_client_cert(leaf, between, now)?;
        let wanted = self.wanted.clone();
        let wrong = match identity_of(leaf) {
            Ok(peer) if peer.identity == wanted => return Ok(ServerCertVerified::assertion()),
            Ok(peer) => NotThisMachine::Other { found: peer.identity, wanted },
            Err(why) => NotThisMachine::Nobody { wanted, why },
        };
        Err(Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(wrong)))))
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.3 alone is spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.machines.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.machines.supported_verify_schemes()
    }
}
