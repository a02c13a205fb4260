//! From the many ways in which an exchange breaks to the kinds that are kept apart.
//!
//! The kind says whose trouble it is and what the cure is, so it is taken from the error's own code, never from its
//! text. What the agent cannot do for want of a descriptor, a port or a permission is `Local` and says nothing of the
//! endpoint; getting that wrong would turn a full descriptor table into a dead region.

use drover_model::probe::FailureKind;
use nix::errno::Errno;
use std::error::Error;
use std::io;

/// Longest detail of a failure, in bytes: 100,000 buffered failures then stay below 20 MB.
pub const DETAIL_BYTES_MAX: usize = 200;

/// How a probe failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Whose trouble it is.
    pub kind: FailureKind,
    /// For people, at most [`DETAIL_BYTES_MAX`] bytes.
    pub detail: String,
}

impl Failure {
    /// A failure of this kind. The detail is cut to [`DETAIL_BYTES_MAX`] and cleared of control characters, since part
    /// of it may come from a server.
    #[must_use]
    pub fn new(kind: FailureKind, detail: &str) -> Self {
        Self { kind, detail: clip(detail) }
    }

    /// A failure on the agent's own side.
    #[must_use]
    pub fn local(detail: &str) -> Self {
        Self::new(FailureKind::Local, detail)
    }

    /// A socket's error, met while doing `what`.
    #[must_use]
    pub fn from_io(what: &str, error: &io::Error) -> Self {
        if let Some(tls) = tls_cause(error) {
            return Self::new(FailureKind::Tls, &tls.to_string());
        }
        Self::new(kind_of_io(error), &format!("{what}: {error}"))
    }

    /// The HTTP client's error, met while doing `what`.
    #[must_use]
    pub fn from_hyper(what: &str, error: &hyper::Error) -> Self {
        if let Some(io) = io_cause(error) {
            return Self::from_io(what, io);
        }
        let kind = if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
            FailureKind::Reset
        } else {
            FailureKind::Protocol
        };
        Self::new(kind, &format!("{what}: {}", drover_model::chain(error)))
    }
}

fn clip(text: &str) -> String {
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if clean.len() <= DETAIL_BYTES_MAX {
        return clean;
    }
    let cut = DETAIL_BYTES_MAX - '…'.len_utf8();
    let end = (0..=cut).rev().find(|&i| clean.is_char_boundary(i)).unwrap_or(0);
    format!("{}…", &clean[..end])
}

fn io_cause<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a io::Error> {
    let mut cause = error.source();
    while let Some(c) = cause {
        if let Some(io) = c.downcast_ref::<io::Error>() {
            return Some(io);
        }
        cause = c.source();
    }
    None
}

/// TLS reports through `io::Error`, and an error that an `io::Error` was made of is not its `source`.
fn tls_cause(error: &io::Error) -> Option<&rustls::Error> {
    let mut inner: &(dyn Error + 'static) = error.get_ref()?;
    loop {
        if let Some(tls) = inner.downcast_ref::<rustls::Error>() {
            return Some(tls);
        }
        inner = match inner.downcast_ref::<io::Error>() {
            Some(io) => io.get_ref()?,
            None => inner.source()?,
        };
    }
}

fn kind_of_io(error: &io::Error) -> FailureKind {
    if let Some(code) = error.raw_os_error() {
        match Errno::from_raw(code) {
            Errno::EMFILE
            | Errno::ENFILE
            | Errno::ENOBUFS
            | Errno::ENOMEM
            | Errno::EADDRNOTAVAIL
            | Errno::EADDRINUSE
            | Errno::EACCES
            | Errno::EPERM
            | Errno::EAGAIN
            | Errno::EAFNOSUPPORT
            | Errno::EINVAL => return FailureKind::Local,
            Errno::EHOSTDOWN | Errno::ENETDOWN => return FailureKind::Unreachable,
            _ => {}
        }
    }
    match error.kind() {
        io::ErrorKind::ConnectionRefused => FailureKind::Refused,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable | io::ErrorKind::NetworkDown => {
            FailureKind::Unreachable
        }
        io::ErrorKind::TimedOut => FailureKind::TimedOut,
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => FailureKind::Protocol,
        _ => FailureKind::Reset,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_code_has_its_kind() {
        for (code, kind) in [
            (Errno::ECONNREFUSED, FailureKind::Refused),
            (Errno::EHOSTUNREACH, FailureKind::Unreachable),
            (Errno::ENETUNREACH, FailureKind::Unreachable),
            (Errno::EHOSTDOWN, FailureKind::Unreachable),
            (Errno::ETIMEDOUT, FailureKind::TimedOut),
            (Errno::ECONNRESET, FailureKind::Reset),
            (Errno::EPIPE, FailureKind::Reset),
            (Errno::EMFILE, FailureKind::Local),
            (Errno::ENFILE, FailureKind::Local),
            (Errno::ENOBUFS, FailureKind::Local),
            (Errno::EADDRNOTAVAIL, FailureKind::Local),
            (Errno::EPERM, FailureKind::Local),
        ] {
            let failure = Failure::from_io("connecting", &io::Error::from_raw_os_error(code as i32));
            assert_eq!(failure.kind, kind, "{code}");
        }
    }

    #[test]
    fn a_detail_is_short_and_printable() {
        let failure = Failure::new(FailureKind::Body, &format!("a\n\u{1b}[31m{}", "ü".repeat(300)));
        assert!(failure.detail.len() <= DETAIL_BYTES_MAX, "{}", failure.detail.len());
        assert!(!failure.detail.chars().any(char::is_control));
        assert!(failure.detail.ends_with('…'));
    }
}
