//! Machine identities: an authority in a directory that issues and revokes certificates, and mutual TLS that reads its files
//! again when they change.
//!
//! Every machine of an installation shows a certificate of one authority, whose one URI says who it is
//! ([`MachineIdentity`](drover_model::machine::MachineIdentity)). The authority is a directory on somebody's machine, not a service: it is needed to let
//! in or to put out a machine, never to go on (I12).
//!
//! The hard case is what stays valid: a certificate that was revoked or has ended must stop to count on connections that are open
//! already, and one that was renewed must be used without a restart. So sessions are never resumed, files are looked at again
//! ([`Watched`]), and who serves asks [`ServerTls::still_admits`] at each request.

pub mod authority;
mod client;
mod error;
mod files;
mod http;
mod identity;
pub mod joining;
pub mod ledger;
mod no_handshake;
mod one_machine;
pub mod pem;
mod server;

pub use client::{TlsFiles, client_config, machine_config};
pub use error::PkiError;
pub use files::{FILES_CHECKED_EVERY, PEM_BYTES_MAX, Stamp, Watched, is_open_to_all};
pub use http::{Http, HttpError};
pub use identity::{NotAMachine, Peer, identity_of, machine_in, must_be_of};
pub use no_handshake::NoHandshake;
pub use one_machine::NotThisMachine;
pub use server::{HANDSHAKE_TIMEOUT, NotAdmitted, Presented, ServerTls};

/// Now, by this machine's wall clock: certificates know no other.
#[must_use]
pub fn wall_now() -> drover_model::Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    drover_model::Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
