//! Who a certificate is of.

use crate::client::TlsFiles;
use crate::error::PkiError;
use crate::pem;
use drover_model::Timestamp;
use drover_model::machine::{MACHINE_SCHEME, MachineIdentity, MachineIdentityError};
use rustls_pki_types::CertificateDer;
use std::path::Path;
use x509_parser::extensions::GeneralName;

/// A certificate names no machine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAMachine {
    /// No certificate at all.
    #[error("there is no certificate")]
    Absent,
    /// Not X.509.
    #[error("it can't be read as a certificate")]
    Unreadable,
    /// Of the authority, or somebody else's that it signed.
    #[error("it has no name that begins with {MACHINE_SCHEME}")]
    Nameless,
    /// Two of them would let it be one machine where that is checked, and another where it is used.
    #[error("it has several names that begin with {MACHINE_SCHEME}")]
    Several,
    /// A name of another form.
    #[error(transparent)]
    Name(#[from] MachineIdentityError),
}

/// What a certificate says of its machine. That it was verified is the caller's business.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Who it is.
    pub identity: MachineIdentity,
    /// The DNS names and addresses that it may serve under.
    pub hosts: Vec<String>,
    /// From when it counts.
    pub from: Timestamp,
    /// When it ends.
    pub until: Timestamp,
    /// Its serial number, in hexadecimal.
    pub serial: String,
}

/// Reads the certificate of a machine.
///
/// # Errors
/// When it is none.
pub fn identity_of(leaf: &CertificateDer<'_>) -> Result<Peer, NotAMachine> {
    let (_, certificate) = x509_parser::parse_x509_certificate(leaf).map_err(|_| NotAMachine::Unreadable)?;
    let names = certificate.subject_alternative_name().map_err(|_| NotAMachine::Unreadable)?;
    let names = names.map(|extension| &extension.value.general_names[..]).unwrap_or_default();
    let mut machines = names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) if uri.starts_with(MACHINE_SCHEME) => Some(*uri),
        _ => None,
    });
    let identity = machines.next().ok_or(NotAMachine::Nameless)?.parse()?;
    if machines.next().is_some() {
        return Err(NotAMachine::Several);
    }
    let validity = certificate.validity();
    let at =
        |time: x509_parser::time::ASN1Time| Timestamp::from_millis(time.timestamp().saturating_mul(1_000));
    Ok(Peer {
        identity,
        hosts: names.iter().filter_map(host).collect(),
        from: at(validity.not_before),
        until: at(validity.not_after),
        serial: hex::encode(certificate.raw_serial()),
    })
}

/// Whose certificate is in a file?
///
/// # Errors
/// When the file can't be read, or holds no machine's certificate.
pub fn machine_in(certificate: &Path) -> Result<Peer, PkiError> {
    let chain = pem::certificates_in(certificate)?;
    let machine = chain.first().ok_or(NotAMachine::Absent).and_then(|leaf| identity_of(leaf));
    machine.map_err(|source| PkiError::NotAMachine { path: certificate.to_owned(), source })
}

/// The files must be of this machine: another's would be refused at each connection, and here it is said at once.
///
/// # Errors
/// When they are another's, or hold no machine's certificate.
pub fn must_be_of(files: &TlsFiles, own: &MachineIdentity) -> Result<(), PkiError> {
    let found = machine_in(&files.certificate)?.identity;
    if found == *own {
        return Ok(());
    }
    let wanted = format!("that of {own}");
    Err(PkiError::OtherMachine { path: files.certificate.clone(), found, wanted })
}

fn host(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match *bytes {
            [a, b, c, d] => Some(std::net::Ipv4Addr::new(*a, *b, *c, *d).to_string()),
            _ => <[u8; 16]>::try_from(*bytes).ok().map(|b| std::net::Ipv6Addr::from(b).to_string()),
        },
        _ => None,
    }
}
