//! What can go wrong with certificates, by what was attempted.

use crate::identity::NotAMachine;
use drover_model::Timestamp;
use drover_model::machine::MachineIdentity;
use std::path::PathBuf;

/// Why certificates can't be issued or used.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file could not be read or written.
    #[error("can't {what} {}", path.display())]
    File {
        /// `read`, `write`, `lock`.
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file is longer than one of its kind may be.
    #[error("{} is longer than {limit_bytes} bytes", path.display())]
    TooLong {
        /// Which.
        path: PathBuf,
        /// The limit.
        limit_bytes: u64,
    },
    /// A file holds nothing of the kind that was sought.
    #[error("{} holds no {what}", path.display())]
    Holds {
        /// Which.
        path: PathBuf,
        /// `certificate`, `private key`.
        what: &'static str,
    },
    /// A private key that anybody on the machine may read.
    #[error("everybody on this machine may read the private key {}; chmod o-rwx it, and issue another where that matters", path.display())]
    KeyOpenToAll {
        /// Which.
        path: PathBuf,
    },
    /// Certificate, key and authority do not make TLS.
    #[error("can't use the certificates in {}", path.display())]
    Unusable {
        /// The first of the files.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A certificate that is no machine's.
    #[error("the certificate in {} is no machine's", path.display())]
    NotAMachine {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: NotAMachine,
    },
    /// A certificate of the wrong kind of machine.
    #[error("{} is the certificate of {found}, and {wanted} is needed here", path.display())]
    OtherMachine {
        /// Which.
        path: PathBuf,
        /// Whose it is.
        found: MachineIdentity,
        /// Such as `a coordinator's`.
        wanted: String,
    },
    /// No file is overwritten.
    #[error("{} is there already, and nothing is overwritten", path.display())]
    Exists {
        /// Which.
        path: PathBuf,
    },
    /// There is no authority in the directory.
    #[error("there is no authority in {}", directory.display())]
    NoAuthority {
        /// Where.
        directory: PathBuf,
    },
    /// The ledger is not what was written.
    #[error("the ledger {} can't be understood", path.display())]
    Ledger {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A certificate would outlive its authority.
    #[error("a certificate until {until} would outlive the authority, which ends at {authority}")]
    Outlives {
        /// Of the certificate.
        until: Timestamp,
        /// Of the authority.
        authority: Timestamp,
    },
    /// A certificate can't be made.
    #[error("can't sign {what}")]
    Sign {
        /// Such as `the certificate of drover://client/ann`.
        what: String,
        /// Why.
        #[source]
        source: rcgen::Error,
    },
    /// A name that a certificate can't hold.
    #[error("`{host}` is neither a DNS name nor an IP address")]
    Host {
        /// As written.
        host: String,
    },
    /// Nothing was issued to it that could be revoked.
    #[error("nothing that still counts was issued to {identity}")]
    NothingToRevoke {
        /// To whom.
        identity: MachineIdentity,
    },
    /// A certificate that this authority does not know.
    #[error("the certificate in {} was not issued by this authority, or was revoked", path.display())]
    NotOurs {
        /// Which.
        path: PathBuf,
    },
    /// Without random numbers there are no serial numbers.
    #[error("can't draw a serial number: {0}")]
    Random(String),
}

impl PkiError {
    pub(crate) fn unusable(
        path: &std::path::Path,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        PkiError::Unusable { path: path.to_owned(), source: source.into() }
    }
}
