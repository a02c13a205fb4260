//! What an authority has issued and revoked. A certificate is in the ledger before it exists, so that there is none that
//! could not be revoked.

use crate::error::PkiError;
use drover_model::Timestamp;
use drover_model::machine::MachineIdentity;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Versions of the file that this build reads.
const SCHEMA: u32 = 1;

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    schema: u32,
    /// Number of the last revocation list.
    pub(crate) crl_number: u64,
    /// Oldest first.
    pub certificates: Vec<Issued>,
}

/// One certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issued {
    /// Its serial number, in hexadecimal.
    pub serial: String,
    /// To whom.
    pub identity: MachineIdentity,
    /// DNS names and addresses that it may serve under.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// From when it counts.
    pub from: Timestamp,
    /// When it ends.
    pub until: Timestamp,
    /// When and why it was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<Revoked>,
}

/// A revocation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revoked {
    /// When.
    pub at: Timestamp,
    /// Why, in the words of whoever did it.
    pub reason: String,
}

/// How a certificate stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Counts.
    Valid,
    /// Counts, for less than a third of its life, and the same machine has no later one.
    EndsSoon,
    /// Ended.
    Ended,
    /// Was revoked.
    Revoked,
}

impl Ledger {
    pub(crate) fn empty() -> Self {
        Self { schema: SCHEMA, crl_number: 0, certificates: Vec::new() }
    }

    pub(crate) fn read(path: &Path) -> Result<Self, PkiError> {
        let failed = |source| PkiError::File { what: "read", path: path.to_owned(), source };
        let text = std::fs::read(path).map_err(failed)?;
        let ledger: Self = serde_json::from_slice(&text)
            .map_err(|source| PkiError::Ledger { path: path.to_owned(), source })?;
        if ledger.schema != SCHEMA {
            let why = format!("it has schema {}, and this build knows {SCHEMA}", ledger.schema);
            let source = <serde_json::Error as serde::de::Error>::custom(why);
            return Err(PkiError::Ledger { path: path.to_owned(), source });
        }
        Ok(ledger)
    }

    /// How one of its certificates stands.
    #[must_use]
    pub fn standing(&self, of: &Issued, now: Timestamp) -> Standing {
        if of.revoked.is_some() {
            return Standing::Revoked;
        }
        if of.until < now {
            return Standing::Ended;
        }
        let succeeded = self
            .certificates
            .iter()
            .any(|other| other.identity == of.identity && other.revoked.is_none() && other.until > of.until);
        if !succeeded && ends_soon(of.from, of.until, now) { Standing::EndsSoon } else { Standing::Valid }
    }
}

/// Has a certificate less than a third of its life left? Renewing then leaves two more tries before it ends.
#[must_use]
pub fn ends_soon(from: Timestamp, until: Timestamp, now: Timestamp) -> bool {
    until.since(now).times(3) < until.since(from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use drover_model::Span;

    fn at(days: u64) -> Timestamp {
        Timestamp::default() + Span::from_hours(24 * days)
    }

    fn issued(serial: &str, from: u64, until: u64) -> Issued {
        Issued {
            serial: serial.into(),
            identity: "drover://client/ann".parse().unwrap(),
            hosts: vec![],
            from: at(from),
            until: at(until),
            revoked: None,
        }
    }

    #[test]
    fn a_certificate_stands_as_its_days_and_its_successor_say() {
        let mut ledger = Ledger::empty();
        ledger.certificates = vec![issued("01", 0, 90)];
        let first = ledger.certificates[0].clone();
        let standing = |ledger: &Ledger, day| ledger.standing(&first, at(day));
        assert_eq!(standing(&ledger, 60), Standing::Valid);
        assert_eq!(standing(&ledger, 61), Standing::EndsSoon);
        assert_eq!(standing(&ledger, 91), Standing::Ended);
        ledger.certificates.push(issued("02", 61, 151));
        assert_eq!(standing(&ledger, 61), Standing::Valid, "it was renewed");
        ledger.certificates[1].revoked = Some(Revoked { at: at(62), reason: "lost".into() });
        assert_eq!(standing(&ledger, 62), Standing::EndsSoon, "its successor does not count");
        assert_eq!(ledger.standing(&ledger.certificates[1], at(62)), Standing::Revoked);
    }
}
