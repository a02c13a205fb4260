//! Who may ask what: people show a token, whoever is at the Unix socket is let in by the operating system.
//!
//! Without any token all is open on loopback, as on a machine of one's own. The first token for an admin, or the
//! setting, closes it for good: from then on who comes over TCP shows one. That an admin's token ended, by its time or by
//! a word, must not open what it had closed; the way back in is the socket, which belongs to whoever runs drover.

pub(crate) mod logins;
pub(crate) mod machines;
pub(crate) mod refusals;
#[cfg(test)]
mod tests;
mod tokens;

pub use logins::{FAILED_LOGINS_MAX, FAILED_LOGINS_PER_ADDRESS, FAILED_LOGINS_WINDOW};
pub use refusals::{REFUSALS_WINDOW, REFUSALS_WRITTEN_MAX};
pub use tokens::TOKENS_MAX;

use arc_swap::ArcSwap;
use drover_model::access::{Role, TokenDigest, TokenState};
use drover_model::approvals::Voice;
use drover_model::traffic::Actor;
use drover_model::{Timestamp, TokenName};
use logins::FailedLogins;
use machines::Machines;
use refusals::Refusals;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::AtomicU64;
use tokens::TokenTable;
use tokio::sync::Mutex;

/// What a coordinator knows of who may come in.
#[derive(Debug, Default)]
pub(crate) struct Access {
    tokens: ArcSwap<TokenTable>,
    /// One change of these at a time.
    changes: Mutex<()>,
    pub(crate) failed_logins: FailedLogins,
    refusals: Refusals,
    /// Whose certificates were shown.
    pub(crate) machines: Machines,
    /// Connections of machines that had as many as one may have.
    pub(crate) connections_refused: AtomicU64,
}

/// Where a request comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// The Unix socket.
    Socket,
    /// This address.
    Tcp(SocketAddr),
}

impl Peer {
    /// Its address, when it has one.
    pub(crate) fn address(self) -> Option<IpAddr> {
        match self {
            Peer::Socket => None,
            Peer::Tcp(address) => Some(address.ip()),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Socket => f.write_str("the socket"),
            Peer::Tcp(address) => write!(f, "{}", address.ip()),
        }
    }
}

/// What a route asks of whoever calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    /// Nothing: it says no more than that the process is alive.
    Nothing,
    /// To be an agent. People's tokens are no proof of that, and none is asked for here.
    Machine,
    /// This role, or one above it.
    Role(Role),
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caller {
    /// Whose token it was, when one was shown.
    pub(crate) token: Option<TokenName>,
    /// What it may do.
    pub(crate) role: Role,
    /// Where it is.
    pub(crate) peer: Peer,
}

/// Nobody in particular, in the audit. No token can have this name, since names have no spaces.
const NOBODY: &str = "not known";

impl Caller {
    /// Who acts, when a request says that it is `claimed`. With a token it is the token's name: what a body claims proves
    /// nothing. Another name in it is kept beside, as part of where it came from.
    pub(crate) fn actor(&self, claimed: &Actor) -> Actor {
        let Some(token) = &self.token else {
            // Nobody is drover by saying so.
            return if *claimed == Actor::Automatic { self.unsaid() } else { claimed.clone() };
        };
        let name = token.to_string();
        let host = match claimed {
            Actor::Person { name: same, host } if *same == name => host.clone(),
            Actor::Person { name: other, host } => format!("{other}@{host}"),
            Actor::Automatic => self.peer.to_string(),
        };
        Actor::Person { name, host }
    }

    /// As whom it approves, where more than one must.
    pub(crate) fn voice(&self) -> Voice {
        self.token.clone().map_or(Voice::Claimed, |name| Voice::Proven { name })
    }

    /// Who acts, when nothing more is known of the request.
    pub(crate) fn unsaid(&self) -> Actor {
        let name = self.token.as_ref().map_or_else(|| NOBODY.to_owned(), ToString::to_string);
        Actor::Person { name, host: self.peer.to_string() }
    }
}

/// Why somebody is not let in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotLetIn {
    /// None was shown, and one is needed.
    #[error("a token is needed here")]
    NoToken,
    /// It is nobody's.
    #[error("this token is not known")]
    Unknown,
    /// Its time is over.
    #[error("the token of {name} expired at {at}")]
    Expired {
        /// Whose.
        name: TokenName,
        /// When.
        at: Timestamp,
    },
    /// It was revoked.
    #[error("the token of {name} was revoked")]
    Revoked {
        /// Whose.
        name: TokenName,
    },
}

impl NotLetIn {
    /// The stable word for it.
    pub(crate) const fn code(&self) -> &'static str {
        match self {
            Self::NoToken => "token_missing",
            Self::Unknown => "token_unknown",
            Self::Expired { .. } => "token_expired",
            Self::Revoked { .. } => "token_revoked",
        }
    }

    /// What to do.
    pub(crate) const fn next(&self) -> &'static str {
        match self {
            Self::NoToken => {
                "export DROVER_TOKEN_FILE=FILE; who has none asks an admin: drover token create NAME --role ROLE"
            }
            Self::Unknown => "check the file that DROVER_TOKEN_FILE or the context's `token_file` names",
            Self::Expired { .. } | Self::Revoked { .. } => {
                "ask an admin for another one: drover token create NAME --role ROLE"
            }
        }
    }

    /// Who it was, as far as is known.
    pub(crate) fn who(&self, peer: Peer) -> Actor {
        let name = match self {
            Self::NoToken | Self::Unknown => NOBODY.to_owned(),
            Self::Expired { name, .. } | Self::Revoked { name } => name.to_string(),
        };
        Actor::Person { name, host: peer.to_string() }
    }
}

/// Who it is that shows `token`, or none.
///
/// # Errors
/// When it is no valid one. It is looked at wherever it is shown: who shows a wrong one is not let in by a way that
/// needs none.
fn judge(
    table: &TokenTable,
    token: Option<&str>,
    peer: Peer,
    requires_tokens: bool,
    now: Timestamp,
) -> Result<Caller, NotLetIn> {
    let Some(token) = token else {
        let is_local = peer == Peer::Socket || !(requires_tokens || table.closes());
        let local = Caller { token: None, role: Role::Admin, peer };
        return if is_local { Ok(local) } else { Err(NotLetIn::NoToken) };
    };
    // By its hash, so that the time that a look-up takes tells nothing of any token.
    let record = table.of(TokenDigest::of(token)).ok_or(NotLetIn::Unknown)?;
    let name = record.name.clone();
    match record.state(now) {
        TokenState::Valid => Ok(Caller { token: Some(name), role: record.role, peer }),
        TokenState::Expired => Err(NotLetIn::Expired { name, at: record.expires_at.unwrap_or(now) }),
        TokenState::Revoked => Err(NotLetIn::Revoked { name }),
    }
}
