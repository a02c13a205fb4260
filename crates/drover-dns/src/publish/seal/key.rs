//! The coordinator's key, and the keys that a server trusts.

use std::fmt;
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use serde::{Deserialize, Serialize};

use super::Signature;
use super::digest::unhex;

/// The most keys that a server trusts: the one in use, its successor, and room.
pub const TRUSTED_KEYS_MAX: usize = 8;

/// What stands before a private key in its file, so that nobody takes it for the public one.
const PREFIX: &str = "drover-dns-signing-key-1:";
/// No key is longer; what is, is another file.
const FILE_BYTES_MAX: u64 = 4096;
/// Its bits for those who are neither the owner nor of the group.
const OTHERS: u32 = 0o007;

/// A key that signs what is published. It is never shown.
pub struct SigningKey(Ed25519KeyPair);

/// What a server trusts it by: 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey([u8; 32]);

/// The keys whose signatures count; at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedKeys(Vec<PublicKey>);

/// Why a key can't be used. None of them tells anything of it.
#[derive(Debug, thiserror::Error)]
pub enum UnusableSigningKey {
    /// The file can't be read.
    #[error("cannot read the signing key {}; `drover dns keygen --out FILE` makes one", file.display())]
    Unreadable {
        /// Which.
        file: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The file can't be written.
    #[error("cannot write the signing key {}", file.display())]
    NotWritten {
        /// Which.
        file: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Everybody may read it.
    #[error("the signing key {file} may be read by everybody; chmod o= {file}, and make another if this machine has other users", file = file.display())]
    Exposed {
        /// Which.
        file: PathBuf,
    },
    /// It is no key.
    #[error("{} is no signing key as `drover dns keygen` writes it", file.display())]
    NotAKey {
        /// Which.
        file: PathBuf,
    },
    /// The machine gives no randomness.
    #[error("cannot read random bytes for a signing key")]
    Randomness(#[source] io::Error),
}

impl SigningKey {
    /// Makes a key and writes it to a new file that its owner alone may read.
    ///
    /// # Errors
    /// When the file exists already or can't be written.
    pub fn create(file: &Path) -> Result<Self, UnusableSigningKey> {
        let seed = seed()?;
        let key = Self::of_seed(&seed, file)?;
        let failed = |source| UnusableSigningKey::NotWritten { file: file.to_owned(), source };
        let opened = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
        let mut opened = opened.map_err(failed)?;
        let text = format!("{PREFIX}{}\n", hex::encode(seed));
        opened.write_all(text.as_bytes()).and_then(|()| opened.sync_all()).map_err(failed)?;
        Ok(key)
    }

    /// Makes a key that no file ever has: it is gone with this process.
    ///
    /// # Errors
    /// When the machine gives no randomness.
    pub fn for_once() -> Result<Self, UnusableSigningKey> {
        Self::of_seed(&seed()?, Path::new("(no file)"))
    }

    /// Reads a key from its file.
    ///
    /// # Errors
    /// When it can't be read, is no key, or may be read by everybody.
    pub fn read(file: &Path) -> Result<Self, UnusableSigningKey> {
        let failed = |source| UnusableSigningKey::Unreadable { file: file.to_owned(), source };
        let opened = std::fs::File::open(file).map_err(failed)?;
        if opened.metadata().map_err(failed)?.mode() & OTHERS != 0 {
            return Err(UnusableSigningKey::Exposed { file: file.to_owned() });
        }
        let mut bytes = Vec::new();
        opened.take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(failed)?;
        let text = std::str::from_utf8(&bytes).ok().and_then(|text| text.trim().strip_prefix(PREFIX));
        let seed = text.and_then(|text| unhex::<32>(text).ok());
        let seed = seed.ok_or_else(|| UnusableSigningKey::NotAKey { file: file.to_owned() })?;
        Self::of_seed(&seed, file)
    }

    fn of_seed(seed: &[u8; 32], file: &Path) -> Result<Self, UnusableSigningKey> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed);
        pair.map(Self).map_err(|_| UnusableSigningKey::NotAKey { file: file.to_owned() })
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Signature {
        let mut bytes = [0; 64];
        // An Ed25519 signature has 64 bytes (RFC 8032, 5.1.6).
        for (to, from) in bytes.iter_mut().zip(self.0.sign(message).as_ref()) {
            *to = *from;
        }
        Signature::new(bytes)
    }

    /// What a server trusts it by.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        let mut bytes = [0; 32];
        for (to, from) in bytes.iter_mut().zip(self.0.public_key().as_ref()) {
            *to = *from;
        }
        PublicKey(bytes)
    }
}

fn seed() -> Result<[u8; 32], UnusableSigningKey> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| UnusableSigningKey::Randomness(error.into()))?;
    Ok(seed)
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey(of {})", self.public())
    }
}

impl TryFrom<String> for PublicKey {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.starts_with(PREFIX) {
            return Err(
                "that is the private key; `drover dns keygen --show FILE` prints the public one".into()
            );
        }
        // The text is left out: it may be a secret in the wrong place.
        unhex(&text).map(Self).map_err(|error| format!("that is no public key: {error}"))
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> Self {
        key.to_string()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TrustedKeys {
    /// These; nothing where there are none, or more than [`TRUSTED_KEYS_MAX`].
    #[must_use]
    pub fn new(keys: Vec<PublicKey>) -> Option<Self> {
        (1..=TRUSTED_KEYS_MAX).contains(&keys.len()).then_some(Self(keys))
    }

    pub(super) fn have_signed(&self, message: &[u8], signature: &Signature) -> bool {
        self.0.iter().any(|key| key.has_signed(message, signature))
    }
}

impl PublicKey {
    /// Was this signed by the private key of this one?
    pub(crate) fn has_signed(&self, message: &[u8], signature: &Signature) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.0).verify(message, signature.as_bytes()).is_ok()
    }
}
