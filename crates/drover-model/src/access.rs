//! Who may do what: roles, and the tokens by which people show who they are.

use crate::ids::TokenName;
use crate::text::as_text;
use crate::time::{Span, Timestamp};
use crate::traffic::Actor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;

/// Hashed before a token, so that no other hash in a store is a token's.
const DOMAIN: &[u8] = b"drover token 1\n";
/// What every token begins with, so that scanners for secrets know it.
pub const TOKEN_PREFIX: &str = "drover_";
/// Random bytes of a token; twice as many digits follow the prefix.
pub const TOKEN_RANDOM_BYTES: usize = 32;

/// What somebody may do; each may do what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Reads.
    Viewer,
    /// Commands: plans, runs, freezes.
    Operator,
    /// Changes who may command and what drover takes for its own: tokens, adoptions, configuration.
    Admin,
}

impl Role {
    /// All, the smallest first.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Operator, Self::Admin];

    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// There is no such role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no role `{0}`: viewer, operator or admin")]
pub struct NoSuchRole(String);

impl FromStr for Role {
    type Err = NoSuchRole;

    fn from_str(text: &str) -> Result<Self, NoSuchRole> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or_else(|| NoSuchRole(text.to_owned()))
    }
}

/// A token's SHA-256, all that is stored of it. One round without salt is right here: a token is 256 random bits, which
/// nobody can search through, and no two are alike. What slows down guessing is for what people think up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, JsonSchema)]
#[schemars(with = "String")]
pub struct TokenDigest([u8; 32]);

as_text!(TokenDigest);

impl TokenDigest {
    /// Of a token as it is presented.
    #[must_use]
    pub fn of(token: &str) -> Self {
        Self(Sha256::new_with_prefix(DOMAIN).chain_update(token).finalize().into())
    }
}

impl fmt::Display for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// A text is no digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a token's digest is 64 hexadecimal digits")]
pub struct NotADigest;

impl FromStr for TokenDigest {
    type Err = NotADigest;

    fn from_str(text: &str) -> Result<Self, NotADigest> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| NotADigest)?;
        Ok(Self(bytes))
    }
}

/// A token as it is stored (store key `tokens/NAME`). It stays when it is over: a name in the audit means one person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// Whose: the actor of what is commanded with it.
    pub name: TokenName,
    /// What it allows.
    pub role: Role,
    /// By which it is known.
    pub digest: TokenDigest,
    /// Since when.
    pub created_at: Timestamp,
    /// Who made it.
    pub created_by: Actor,
    /// Until when.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Timestamp>,
}

/// Whether a token opens anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TokenState {
    /// It does.
    Valid,
    /// Its time is over.
    Expired,
    /// Somebody said so.
    Revoked,
}

impl TokenState {
    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

impl TokenRecord {
    /// At this time.
    #[must_use]
    pub fn state(&self, now: Timestamp) -> TokenState {
        match (self.revoked_at, self.expires_at) {
            (Some(_), _) => TokenState::Revoked,
            (None, Some(end)) if end <= now => TokenState::Expired,
            (None, _) => TokenState::Valid,
        }
    }

    /// As it is shown: without the digest.
    #[must_use]
    pub fn view(&self, now: Timestamp) -> TokenView {
        TokenView {
            name: self.name.clone(),
            role: self.role,
            state: self.state(now),
            created_at: self.created_at,
            created_by: self.created_by.clone(),
            expires_at: self.expires_at,
            revoked_at: self.revoked_at,
        }
    }
}

/// A token as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TokenView {
    /// Whose.
    pub name: TokenName,
    /// What it allows.
    pub role: Role,
    /// Whether it opens anything.
    pub state: TokenState,
    /// Since when.
    pub created_at: Timestamp,
    /// Who made it.
    pub created_by: Actor,
    /// Until when.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

/// Makes a token known. The token itself stays with whoever made it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TokenRequest {
    /// Who.
    pub by: Actor,
    /// Why.
    #[serde(default)]
    pub reason: String,
    /// What it allows.
    pub role: Role,
    /// SHA-256 of the text `drover token 1`, a line feed and the token.
    pub digest: TokenDigest,
    /// How long; absent means until it is revoked.
    #[serde(default)]
    pub valid_for: Option<Span>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_an_interface_and_roles_are_ordered() {
        let digest = TokenDigest::of("drover_00");
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert_ne!(digest, TokenDigest::of("drover_01"));
        let plain: [u8; 32] = Sha256::digest(b"drover token 1\ndrover_00").into();
        assert_eq!(digest, TokenDigest(plain), "as the description of the API says");
        assert!(Role::ALL.is_sorted());
        assert!(Role::ALL.into_iter().all(|role| role.as_str().parse() == Ok(role)));
    }
}
