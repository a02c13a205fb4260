//! What any coordinator does with the record for a holder: renew it, and change whom the holder would ask. Leading is
//! not needed for either, since the record is swapped whole under the condition that it is unchanged.

use super::rules::{Rule, Rules};
use drover_model::AgentId;
use drover_model::write_right::{Incarnation, Members, Renew, Renewed, WriteGeneration, WriteRight};
use std::collections::BTreeSet;

/// A renewal that is to be committed, with the answer that it hands out only then.
#[derive(Debug)]
#[must_use = "a renewal that is not committed has renewed nothing"]
pub struct Renewal {
    record: WriteRight,
    answer: Renewed,
}

impl Renewal {
    /// What to swap the record for, on condition that it has not changed.
    #[must_use]
    pub fn record(&self) -> &WriteRight {
        &self.record
    }

    /// The swap is durable: the answer for the holder.
    #[must_use]
    pub fn committed(self) -> Renewed {
        self.answer
    }
}

/// Why a right is not renewed. The holder is answered with the record, which says it all to it; this is for the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotRenewed {
    /// The store is another one, or was restored.
    #[error(
        "the right was granted by the store's incarnation {asked}, this is {current}: adopt the agents first"
    )]
    Incarnation {
        /// By the holder.
        asked: Incarnation,
        /// Of the record.
        current: Incarnation,
    },
    /// It is another right by now.
    #[error("generation {asked} is over, {current} is held by {holder}")]
    Generation {
        /// By the holder.
        asked: WriteGeneration,
        /// Of the record.
        current: WriteGeneration,
        /// Who holds that.
        holder: AgentId,
    },
    /// Somebody else holds it.
    #[error("generation {generation} is held by {holder}, not by {asked}")]
    Holder {
        /// Of the record.
        generation: WriteGeneration,
        /// Who asks.
        asked: AgentId,
        /// Who holds it.
        holder: AgentId,
    },
    /// It is being taken away.
    #[error("generation {0} is closing: no renewal succeeds until it is granted or the transfer aborted")]
    Closing(WriteGeneration),
}

/// Decides about a renewal (step 2): it succeeds while the record is open and of that generation.
///
/// # Errors
/// [`NotRenewed`]; answer with the record then.
pub fn renew(record: &WriteRight, asked: &Renew) -> Result<Renewal, NotRenewed> {
    renew_by(Rules::default(), record, asked)
}

pub(super) fn renew_by(rules: Rules, record: &WriteRight, asked: &Renew) -> Result<Renewal, NotRenewed> {
    let generation = record.generation;
    if asked.incarnation != record.incarnation {
        return Err(NotRenewed::Incarnation { asked: asked.incarnation, current: record.incarnation });
    }
    if asked.generation != generation {
        let holder = record.holder.clone();
        return Err(NotRenewed::Generation { asked: asked.generation, current: generation, holder });
    }
    if asked.from != record.holder && rules.keep(Rule::HolderMatches) {
        let holder = record.holder.clone();
        return Err(NotRenewed::Holder { generation, asked: asked.from.clone(), holder });
    }
    if !record.is_open() && rules.keep(Rule::NoRenewalAfterClose) {
        return Err(NotRenewed::Closing(generation));
    }
    let mut renewed = record.clone();
    // Step 15. An older echo that comes late acknowledges nothing.
    if asked.echoes == Some(record.members.version) {
        renewed.acknowledged = record.members.clone();
    }
    let answer = Renewed { generation, members: record.members.clone(), nonce: asked.nonce };
    Ok(Renewal { record: renewed, answer })
}

/// Why the members stay as they are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MembersFrozen {
    /// The holder has not heard of the last change, and may be cut off: whom it would ask is not known then.
    #[error("{holder} has not acknowledged the members as they are (version {wanted}); wait until it renews")]
    Unacknowledged {
        /// Who has not.
        holder: AgentId,
        /// The version that it has not echoed.
        wanted: u64,
    },
    /// The target was chosen among them.
    #[error("the right is closing: the members change after the grant or the abort")]
    Closing,
    /// A holder does not vouch for itself.
    #[error("{0} holds the right and can't be one of those that could take it over")]
    Holder(AgentId),
}

/// The record with other members (step 15). There are never two changes that the holder may not have heard of: it asks the
/// members as acknowledged or as wanted, so that a target that is in both is asked for certain.
///
/// # Errors
/// [`MembersFrozen`] when a change would not be safe now.
pub fn change_members(
    record: &WriteRight,
    promotable: BTreeSet<AgentId>,
) -> Result<WriteRight, MembersFrozen> {
    change_members_by(Rules::default(), record, promotable)
}

pub(super) fn change_members_by(
    rules: Rules,
    record: &WriteRight,
    promotable: BTreeSet<AgentId>,
) -> Result<WriteRight, MembersFrozen> {
    if !record.is_open() {
        return Err(MembersFrozen::Closing);
    }
    if promotable.contains(&record.holder) {
        return Err(MembersFrozen::Holder(record.holder.clone()));
    }
    if record.acknowledged.version != record.members.version && rules.keep(Rule::OneMembershipChange) {
        let wanted = record.members.version.0;
        return Err(MembersFrozen::Unacknowledged { holder: record.holder.clone(), wanted });
    }
    let members = Members { version: record.members.version.next(), promotable };
    let acknowledged =
        if rules.keep(Rule::AddedIsUnacknowledged) { record.acknowledged.clone() } else { members.clone() };
    Ok(WriteRight { members, acknowledged, ..record.clone() })
}
