//! Why two machines did not come together, in a word: to be counted, and to be found in the log.

use crate::one_machine::NotThisMachine;
use rustls::{AlertDescription, CertificateError, Error};
use std::fmt;
use std::io;

/// Why a handshake came to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NoHandshake {
    /// The other side's certificate has ended.
    Expired,
    /// It does not count yet: one of the two clocks is wrong.
    NotYetValid,
    /// It was revoked.
    Revoked,
    /// An authority that is not trusted here issued it.
    OtherAuthority,
    /// None was shown.
    NoCertificate,
    /// It is of another machine than the one that was meant.
    OtherMachine,
    /// What was said is no TLS, such as plain text.
    NoTls,
    /// The other side does not take the certificate of this one.
    RefusedThere,
    /// Anything else.
    Other,
}

impl NoHandshake {
    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "certificate_expired",
            Self::NotYetValid => "certificate_not_yet_valid",
            Self::Revoked => "certificate_revoked",
            Self::OtherAuthority => "other_authority",
            Self::NoCertificate => "no_certificate",
            Self::OtherMachine => "other_machine",
            Self::NoTls => "no_tls",
            Self::RefusedThere => "refused_there",
            Self::Other => "handshake",
        }
    }

    /// Of an error of TLS, wherever it stands in a chain; nothing where the chain has none.
    #[must_use]
    pub fn in_chain(error: &(dyn std::error::Error + 'static)) -> Option<Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(tls) = error.downcast_ref::<Error>() {
                return Some(Self::of(tls));
            }
            // What an `io::Error` was made of is not its source.
            let within = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
            next = within.map(|e| e as &(dyn std::error::Error + 'static)).or_else(|| error.source());
        }
        None
    }

    fn of(error: &Error) -> Self {
        match error {
            Error::InvalidCertificate(why) => Self::of_certificate(why),
            Error::NoCertificatesPresented => Self::NoCertificate,
            Error::InvalidMessage(_) => Self::NoTls,
            Error::AlertReceived(
                AlertDescription::BadCertificate
                | AlertDescription::CertificateUnknown
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateRevoked
                | AlertDescription::CertificateRequired
                | AlertDescription::UnsupportedCertificate
                | AlertDescription::UnknownCA
                | AlertDescription::AccessDenied
                | AlertDescription::DecryptError,
            ) => Self::RefusedThere,
            _ => Self::Other,
        }
    }

    fn of_certificate(why: &CertificateError) -> Self {
        match why {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Self::NotYetValid,
            CertificateError::Revoked => Self::Revoked,
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::OtherAuthority,
            CertificateError::Other(other) if other.0.is::<NotThisMachine>() => Self::OtherMachine,
            _ => Self::Other,
        }
    }
}

impl fmt::Display for NoHandshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
