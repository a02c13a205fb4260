//! The rules of the protocol by name, so that a test can show for each what happens without it.

/// A rule that the state machines keep. What each is for is told where it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Rule {
    /// Step 2: a right is renewed for its holder only, and held by whom the record names.
    HolderMatches,
    /// Step 2, after step 8: nothing is renewed once it is closing.
    NoRenewalAfterClose,
    /// Steps 2 and 4: a deadline counts from when the question was sent.
    DeadlineFromSend,
    /// Step 4: every member must vouch.
    AllSayYes,
    /// Step 6: whoever vouches will not write meanwhile.
    Promise,
    /// Step 6: whoever is sealed above a right does not vouch for it.
    SealedSaysNo,
    /// Step 7: a start counts as a promise.
    QuietAtBoot,
    /// Step 10: a seal is durable before it is told.
    DurableSeal,
    /// Step 11: a holder's seal means that its database is stopped.
    StoppedBeforeSealed,
    /// Step 10: no grant without the target's seal.
    SealBeforeGrant,
    /// Step 13: no write without one's own seal.
    SealBeforeWriting,
    /// Step 11: the last renewal is dead before the grant.
    Wait,
    /// Steps 6 and 11: what clocks may be wrong by is waited for.
    DriftAllowance,
    /// Step 14: an abort takes a generation that nobody was sealed for.
    AbortAboveSeal,
    /// Steps 8 and 15: a target is a member that the holder is known to ask.
    MembershipAcknowledged,
    /// Step 15: who is added after a grant is no target before the holder has heard of it.
    AddedIsUnacknowledged,
    /// Step 15: no change of members before the last one is acknowledged.
    OneMembershipChange,
}

/// Which rules are kept: all, but in tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Rules {
    #[cfg(test)]
    broken: u32,
}

impl Rules {
    /// Is this rule kept?
    #[cfg(not(test))]
    pub(crate) const fn keep(self, _: Rule) -> bool {
        true
    }

    /// Is this rule kept?
    #[cfg(test)]
    pub(crate) const fn keep(self, rule: Rule) -> bool {
        self.broken & (1 << rule as u32) == 0
    }

    /// All but these.
    #[cfg(test)]
    pub(crate) fn without(rules: &[Rule]) -> Self {
        Self { broken: rules.iter().fold(0, |broken, rule| broken | (1 << *rule as u32)) }
    }
}
