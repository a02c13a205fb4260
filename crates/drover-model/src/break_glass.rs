//! Who holds a service's DNS by break-glass. It stands in the owner of the record set, so that it is there by the same swap as what is
//! answered: whoever finds another owner than himself leaves a record set alone, and so does a leader that nobody told.

use crate::api::RecordVersion;
use crate::ids::ServiceId;
use crate::traffic::Actor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// How the owner of a held record set begins.
const HEAD: &str = "break-glass/";
/// Letters of a name that are kept: with the rest it stands in one TXT string of a zone of others.
const NAME_CHARS_MAX: usize = 40;
/// Hexadecimal digits of a session.
const SESSION_DIGITS: usize = 8;

/// The command by which a coordinator that is back takes a service again.
pub const TAKEN_BACK_BY: &str = "drover break-glass reconcile FILE --release --reason TEXT (or --keep)";

/// Who holds a record set, and by which of his commands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct HeldBy {
    /// His name, as his machine gave it; nobody vouches for it.
    pub by: String,
    /// The command that took it: the file in which it is recorded says the same.
    pub session: String,
}

impl HeldBy {
    /// Of a person, whose name keeps what an owner may have of it, and the number of a command.
    #[must_use]
    pub fn new(name: &str, session: u32) -> Self {
        let kept = |c: char| if c.is_ascii_alphanumeric() || "._@-".contains(c) { c } else { '_' };
        let by: String = name.chars().map(kept).take(NAME_CHARS_MAX).collect();
        let by = if by.is_empty() { "somebody".to_owned() } else { by };
        Self { by, session: format!("{session:08x}") }
    }

    /// The owner of a record set that he holds.
    #[must_use]
    pub fn owner(&self) -> String {
        format!("{HEAD}{}/{}", self.by, self.session)
    }

    /// Who holds a record set of this owner; none: nobody does.
    #[must_use]
    pub fn of_owner(owner: &str) -> Option<Self> {
        let (by, session) = owner.strip_prefix(HEAD)?.split_once('/')?;
        let is_session = session.len() == SESSION_DIGITS && session.bytes().all(|b| b.is_ascii_hexdigit());
        is_session.then(|| Self { by: by.to_owned(), session: session.to_owned() })
    }
}

impl fmt::Display for HeldBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (session {})", self.by, self.session)
    }
}

/// A service that the coordinator leaves alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HeldView {
    /// The service.
    pub service: ServiceId,
    /// Who holds it.
    pub held_by: HeldBy,
}

/// What becomes of what somebody holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// Drover's own targets are published again.
    Release,
    /// The targets become what was set: nothing moves.
    Keep,
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Release => "release",
            Self::Keep => "keep",
        })
    }
}

/// Brings a record of break-glass to the coordinator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReconcileRequest {
    /// Who, and so who vouches for the record.
    pub by: Actor,
    /// Why.
    pub reason: String,
    /// The file, whole, as the commands wrote it.
    pub record: String,
    /// What becomes of the services.
    pub how: How,
    /// Which of those that the record holds, each with what was live when somebody decided so. If it isn't any more, nothing is done about it.
    pub services: BTreeMap<ServiceId, RecordVersion>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Reconciled {
    /// Lines that are in the audit now and were not before.
    pub added: u64,
    /// Lines that were in it.
    pub known: u64,
    /// What became of each service.
    pub services: Vec<ReconciledService>,
}

/// What became of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReconciledService {
    /// The service.
    pub service: ServiceId,
    /// In one sentence.
    pub sentence: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_says_who_holds_and_every_other_says_nobody() {
        let held = HeldBy::new("ada", 0x3f_9a1c2e);
        assert_eq!(held.owner(), "break-glass/ada/3f9a1c2e");
        assert_eq!(HeldBy::of_owner(&held.owner()), Some(held));
        for other in
            ["drover", "terraform", "break-glass/ada", "break-glass/ada/3f9a1c2", "break-glass/a/b/c"]
        {
            assert_eq!(HeldBy::of_owner(other), None, "{other}");
        }
    }

    #[test]
    fn any_name_becomes_one_that_an_owner_can_have() {
        for (name, kept) in [("Ada L.", "Ada_L."), ("a/b", "a_b"), ("", "somebody"), ("ü@host", "_@host")] {
            let held = HeldBy::new(name, 7);
            assert_eq!(held.by, kept);
            assert_eq!(HeldBy::of_owner(&held.owner()), Some(held));
        }
        assert!(HeldBy::new(&"x".repeat(500), 7).owner().len() < 64);
    }
}
