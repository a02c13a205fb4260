//! Whether an audit is what was written.

use super::{AUDIT_FORM, AuditHead, AuditRecord, Link, hash};
use std::fmt;

/// Looks at records in the order of their numbers, and holds none of them.
#[derive(Debug, Default)]
pub struct Verifier {
    kept: Vec<AuditHead>,
    last_number: u64,
    unchained: u64,
    begins: Option<u64>,
    head: Option<AuditHead>,
}

/// What was found of an audit that is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// Records without a link, from before there was a chain: nothing vouches for these.
    pub unchained: u64,
    /// The number with which the chain begins, when there is one.
    pub begins: Option<u64>,
    /// Its last record.
    pub head: Option<AuditHead>,
}

/// The first place where an audit is not what was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("record {number}: {flaw}")]
pub struct Break {
    /// The number of the first record that is wrong, or missing.
    pub number: u64,
    /// What is wrong with it.
    pub flaw: Flaw,
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Flaw {
    /// It comes after one with the same or a higher number.
    OutOfOrder {
        /// That number.
        after: u64,
    },
    /// It can't be read as a record.
    Unreadable {
        /// Why not.
        why: String,
    },
    /// It stands under another number than its own.
    OtherNumber {
        /// Its own.
        says: u64,
    },
    /// Its hash is not that of what it says.
    Altered,
    /// It has no link, and the chain began before it.
    Unchained,
    /// A later build wrote it, in an encoding that this one does not know.
    UnknownForm {
        /// Which.
        form: u16,
    },
    /// The chain goes on from something that is not there.
    BeginningMissing,
    /// It is not there.
    Missing,
    /// The hash of the record before it is another than it says.
    OtherPrevious,
    /// A head that was kept says another hash.
    OtherHead {
        /// Which.
        kept: AuditHead,
    },
    /// A head that was kept is of a later record than the last.
    CutOff {
        /// Which.
        kept: AuditHead,
    },
}

impl Flaw {
    /// The stable word for it.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::OutOfOrder { .. } => "out_of_order",
            Self::Unreadable { .. } => "unreadable",
            Self::OtherNumber { .. } => "other_number",
            Self::Altered => "altered",
            Self::Unchained => "unchained",
            Self::UnknownForm { .. } => "unknown_form",
            Self::BeginningMissing => "beginning_missing",
            Self::Missing => "missing",
            Self::OtherPrevious => "other_previous",
            Self::OtherHead { .. } => "other_head",
            Self::CutOff { .. } => "cut_off",
        }
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfOrder { after } => write!(f, "it comes after record {after}"),
            Self::Unreadable { why } => write!(f, "it can't be read: {why}"),
            Self::OtherNumber { says } => write!(f, "it says that it is record {says}"),
            Self::Altered => f.write_str("its hash is not that of what it says: it was changed"),
            Self::Unchained => f.write_str(
                "it is not chained, and the chain began before it: it was inserted, or an older drover led for a while",
            ),
            Self::UnknownForm { form } => {
                write!(f, "a later drover wrote it, in form {form}: verify with that drover")
            }
            Self::BeginningMissing => f.write_str("the record before it, where the chain began, is missing"),
            Self::Missing => f.write_str("it is missing"),
            Self::OtherPrevious => {
                f.write_str("the record before it is another than the one that it was written after")
            }
            Self::OtherHead { kept } => write!(f, "it is another than the kept head {kept}"),
            Self::CutOff { kept } => write!(f, "it and all after it up to the kept head {kept} are missing"),
        }
    }
}

impl Verifier {
    /// That also compares with heads that were kept.
    #[must_use]
    pub fn with_heads(kept: Vec<AuditHead>) -> Self {
        Self { kept, ..Self::default() }
    }

    /// One more head to compare with, before the records from its number on.
    pub fn keep(&mut self, head: AuditHead) {
        self.kept.push(head);
    }

    /// The next record.
    ///
    /// # Errors
    /// Where it breaks the chain. There is no going on after that.
    pub fn record(&mut self, record: &AuditRecord) -> Result<(), Break> {
        let number = record.number;
        let broken = |flaw| Err(Break { number, flaw });
        if number <= self.last_number {
            return broken(Flaw::OutOfOrder { after: self.last_number });
        }
        match record.chain {
            None if self.head.is_some() => return broken(Flaw::Unchained),
            None => self.unchained += 1,
            Some(link) => {
                self.link(record, link)?;
                self.begins.get_or_insert(number);
                self.head = Some(AuditHead { number, hash: link.hash });
            }
        }
        self.last_number = number;
        let own = record.chain.map(|link| link.hash);
        match self.kept.iter().find(|kept| kept.number == number && Some(kept.hash) != own) {
            Some(kept) => broken(Flaw::OtherHead { kept: *kept }),
            None => Ok(()),
        }
    }

    fn link(&self, record: &AuditRecord, link: Link) -> Result<(), Break> {
        let number = record.number;
        let broken = |number, flaw| Err(Break { number, flaw });
        if link.form != AUDIT_FORM {
            return broken(number, Flaw::UnknownForm { form: link.form });
        }
        if hash::of(record, link.previous) != link.hash {
            return broken(number, Flaw::Altered);
        }
        let Some(before) = self.head else {
            let begins = link.previous.is_none();
            return if begins { Ok(()) } else { broken(number, Flaw::BeginningMissing) };
        };
        let expected = before.number.saturating_add(1);
        if number != expected {
            return broken(expected, Flaw::Missing);
        }
        if link.previous != Some(before.hash) {
            return broken(number, Flaw::OtherPrevious);
        }
        Ok(())
    }

    /// There are no more records.
    ///
    /// # Errors
    /// When a kept head is of a record that never came.
    pub fn end(self) -> Result<Verified, Break> {
        let later = self.kept.iter().filter(|kept| kept.number > self.last_number);
        match later.max_by_key(|kept| kept.number) {
            Some(kept) => {
                Err(Break { number: self.last_number.saturating_add(1), flaw: Flaw::CutOff { kept: *kept } })
            }
            None => Ok(Verified { unchained: self.unchained, begins: self.begins, head: self.head }),
        }
    }
}
