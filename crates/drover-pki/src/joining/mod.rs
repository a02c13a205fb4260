//! A machine joins: it makes its key itself, and has its certificate signed by whoever holds the authority, who invited it.
//!
//! Whoever has the authority opens an invitation, for one machine and some minutes, and gives the new machine its token by
//! another way. The token holds a secret, which proves to the authority who asks, and the fingerprint of the certificate that
//! the invitation is served with, which proves to the machine whom it asks: so nobody in between learns the secret, or gives
//! the machine another authority. One line of JSON goes each way, and a last one says that the files are written.

mod invite;
mod join;

pub use invite::{Invitation, Tell};
pub use join::{Joined, join};

use crate::error::PkiError;
use drover_model::machine::MachineIdentity;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};

/// Wrong tokens that end an invitation: nobody guesses 128 bits, but whoever tries shall be noticed.
pub const JOIN_WRONG_TOKENS_MAX: u32 = 10;
/// Connections to an invitation at once: one machine is expected.
pub const JOIN_CONNECTIONS_MAX: usize = 16;
/// The time that the whole exchange may take, on either side.
pub const JOIN_TIMEOUT: Duration = Duration::from_secs(20);
/// Bytes of a line: an authority's certificate, and a list of what was revoked.
const LINE_BYTES_MAX: u64 = 1 << 20;
/// The name that an invitation's certificate has. What is looked at is its fingerprint.
const SERVED_AS: &str = "invitation.drover";
/// Bytes of a token's secret, and of its fingerprint.
const HALF_BYTES: usize = 16;
/// What a token begins with, so that one in a log is known for what it is.
const TOKEN_BEGINS: &str = "join_";

/// What a machine is given to join with.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    secret: [u8; HALF_BYTES],
    /// The first half of the SHA-256 of the invitation's certificate: another one with the same is not found in 2^128 tries.
    pin: [u8; HALF_BYTES],
}

/// A text is no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("that is no join token: one begins with {TOKEN_BEGINS} and has 64 digits after it")]
pub struct NotAJoinToken;

impl JoinToken {
    fn new(certificate: &[u8]) -> Result<Self, PkiError> {
        let mut secret = [0; HALF_BYTES];
        getrandom::fill(&mut secret).map_err(|e| PkiError::Random(e.to_string()))?;
        Ok(Self { secret, pin: pin_of(certificate) })
    }

    /// Compared by their hashes, so that the time it takes tells nothing.
    fn has_secret(&self, hex_secret: &str) -> bool {
        hex::decode(hex_secret).is_ok_and(|secret| Sha256::digest(secret) == Sha256::digest(self.secret))
    }

    /// What is shown to whoever it is given to. Nothing else shows it.
    #[must_use]
    pub fn reveal(&self) -> String {
        format!("{TOKEN_BEGINS}{}{}", hex::encode(self.secret), hex::encode(self.pin))
    }
}

fn pin_of(certificate: &[u8]) -> [u8; HALF_BYTES] {
    let digest = Sha256::digest(certificate);
    std::array::from_fn(|i| digest[i])
}

impl FromStr for JoinToken {
    type Err = NotAJoinToken;

    fn from_str(text: &str) -> Result<Self, NotAJoinToken> {
        let digits = text.trim().strip_prefix(TOKEN_BEGINS).ok_or(NotAJoinToken)?;
        let mut bytes = [0; 2 * HALF_BYTES];
        hex::decode_to_slice(digits, &mut bytes).map_err(|_| NotAJoinToken)?;
        let half = |from: usize| std::array::from_fn(|i| bytes[from + i]);
        Ok(Self { secret: half(0), pin: half(HALF_BYTES) })
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JoinToken")
    }
}

/// What the machine says first.
#[derive(Serialize, Deserialize)]
struct Ask {
    secret: String,
    /// Its request, signed by its key (PKCS #10, PEM). Of what it says the key alone is looked at.
    request: String,
}

/// What it is answered.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Granted(Granted),
    Refused { code: String, why: String },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Granted {
    identity: MachineIdentity,
    certificate: String,
    ca: String,
    crl: String,
}

/// What it says last: its files are written.
#[derive(Serialize, Deserialize)]
struct Kept {
    kept: bool,
}

/// Why a machine did not join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The exchange broke, or one side took too long.
    #[error("can't {what}")]
    Io {
        /// What was attempted.
        what: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The other side is not the one that made the token, is none of drover's, or the token is another's.
    #[error("{address} does not serve the invitation that this token is of")]
    OtherInvitation {
        /// Where.
        address: String,
        /// What TLS says.
        #[source]
        source: std::io::Error,
    },
    /// The authority said no.
    #[error("{why}")]
    Refused {
        /// `wrong_token`, `used`, `not_issued`.
        code: String,
        /// Why.
        why: String,
    },
    /// The certificate is not what was asked for.
    #[error("the certificate that came is of {found}, and not for the key that was made")]
    OtherKey {
        /// Whose it is.
        found: String,
    },
    /// Nobody came in time.
    #[error("nobody joined within {0}")]
    Nobody(drover_model::Span),
    /// A certificate was issued, and the machine did not say that it has it.
    #[error("certificate {serial} was issued to {identity}, which did not say that it has it")]
    Unconfirmed {
        /// To whom.
        identity: MachineIdentity,
        /// Which.
        serial: String,
    },
    /// Too many wrong tokens.
    #[error("{JOIN_WRONG_TOKENS_MAX} wrong tokens were shown: somebody tries to join in the machine's place")]
    TooManyWrong,
    /// Certificates can't be made or kept.
    #[error(transparent)]
    Pki(#[from] PkiError),
}

fn io(what: &str) -> impl Fn(std::io::Error) -> JoinError + use<> {
    let what = what.to_owned();
    move |source| JoinError::Io { what: what.clone(), source }
}

/// A connection, by lines.
struct Lines<S>(BufReader<S>);

impl<S: AsyncRead + AsyncWrite + Unpin> Lines<S> {
    fn new(stream: S) -> Self {
        Self(BufReader::new(stream))
    }

    async fn say(&mut self, what: &impl Serialize) -> std::io::Result<()> {
        let mut line = serde_json::to_vec(what)?;
        line.push(b'\n');
        self.0.write_all(&line).await?;
        self.0.flush().await
    }

    async fn hear<T: for<'de> Deserialize<'de>>(&mut self) -> std::io::Result<T> {
        let mut line = Vec::new();
        (&mut self.0).take(LINE_BYTES_MAX).read_until(b'\n', &mut line).await?;
        if line.last() != Some(&b'\n') {
            let short = "the connection ended within a line, or the line is too long";
            return Err(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, short));
        }
        Ok(serde_json::from_slice(&line)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_as_it_was_written_and_nothing_else_is_one() {
        let token = JoinToken::new(b"certificate").unwrap();
        let text = token.reveal();
        assert_eq!(text.len(), TOKEN_BEGINS.len() + 64);
        assert_eq!(format!(" {text}\n").parse(), Ok(token.clone()));
        assert!(token.has_secret(&text[TOKEN_BEGINS.len()..][..32]));
        assert!(!token.has_secret(&"0".repeat(32)) && !token.has_secret(""));
        assert_eq!(format!("{token:?}"), "JoinToken", "it stands in no log");
        for text in ["", "join_", &text[..40], &format!("{text}00"), &text.replace("join_", "drover_")] {
            assert_eq!(text.parse::<JoinToken>(), Err(NotAJoinToken), "{text}");
        }
    }
}
