//! The holder: it renews with any coordinator, and asks its peers when none answers.

use super::{Keeper, KeeperEffect, Role};
use crate::write_right::rules::Rule;
use drover_model::AgentId;
use drover_model::write_right::{
    Ask, BootTime, Members, Nonce, PeerAnswer, Renew, Renewed, RightIntervals, WriteGeneration,
};
use std::collections::BTreeSet;

/// A right that the record grants to this agent.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Holding {
    pub(super) generation: WriteGeneration,
    /// Until when it may write; none before its first renewal.
    pub(super) deadline: Option<BootTime>,
    /// Whom to ask in failsafe mode; none before its first renewal, so that a right never begins by asking peers.
    members: Option<Members>,
    next_renewal: BootTime,
    /// When the first renewal was sent that nobody answered.
    silent_since: Option<BootTime>,
    next_round: BootTime,
    round: Option<Round>,
}

/// Members that were asked at one time.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Round {
    sent: BootTime,
    missing: BTreeSet<AgentId>,
}

impl Holding {
    pub(super) fn granted(generation: WriteGeneration, now: BootTime) -> Self {
        Self {
            generation,
            deadline: None,
            members: None,
            next_renewal: now,
            silent_since: None,
            next_round: now,
            round: None,
        }
    }

    /// Steps 2 and 4: never shorter than it was, since an answer may overtake another.
    fn extend(&mut self, deadline: BootTime) {
        self.deadline = self.deadline.max(Some(deadline));
    }

    /// When the members are asked next: once three renewals were sent and none was answered.
    fn failsafe_at(&self, intervals: &RightIntervals) -> Option<BootTime> {
        self.members.as_ref()?;
        Some(self.silent_since?.plus(intervals.retry().times(2)).max(self.next_round))
    }

    /// When it has something to send.
    pub(super) fn wishes(&self, intervals: &RightIntervals) -> [Option<BootTime>; 2] {
        [Some(self.next_renewal), self.failsafe_at(intervals)]
    }
}

impl Keeper {
    pub(super) fn tick(&mut self, now: BootTime, effects: &mut Vec<KeeperEffect>) {
        let nonce = Nonce { session: self.session, sent: now };
        let Role::Holder(holding) = &mut self.role else { return };
        let (from, incarnation, generation) = (self.me.clone(), self.seal.incarnation, holding.generation);
        if holding.next_renewal <= now {
            holding.silent_since.get_or_insert(now);
            holding.next_renewal = now.plus(self.intervals.retry());
            let echoes = holding.members.as_ref().map(|members| members.version);
            let from = from.clone();
            effects.push(KeeperEffect::Renew(Renew { from, incarnation, generation, echoes, nonce }));
        }
        if holding.failsafe_at(&self.intervals).is_some_and(|at| at <= now) {
            holding.next_round = now.plus(self.intervals.retry());
            let missing =
                holding.members.iter().flat_map(|members| members.promotable.iter().cloned()).collect();
            let round = holding.round.insert(Round { sent: now, missing });
            if !round.missing.is_empty() {
                let ask = Ask { from, incarnation, generation, nonce };
                effects.push(KeeperEffect::Ask(round.missing.iter().cloned().collect(), ask));
            }
            self.end_round(now);
        }
    }

    /// A renewal counts from when it was sent (step 2): the answer may have been on its way for as long as the right lasts.
    pub(super) fn renewed(&mut self, renewed: &Renewed, now: BootTime) {
        let sent = self.counted_from(renewed.nonce.sent, now);
        let Role::Holder(holding) = &mut self.role else { return };
        if renewed.nonce.session != self.session || renewed.generation != holding.generation {
            return;
        }
        holding.extend(self.intervals.deadline(sent));
        holding.silent_since = None;
        holding.next_renewal = renewed.nonce.sent.plus(self.intervals.renew());
        if holding.members.as_ref().is_none_or(|members| members.version < renewed.members.version) {
            // Members that were asked before are not those who vouch now.
            holding.members = Some(renewed.members.clone());
            holding.round = None;
        }
    }

    /// Step 4: all of them, in one round. Somebody who knows of a later right ends this one (step 3).
    pub(super) fn answered(&mut self, answer: &PeerAnswer, now: BootTime) {
        let Role::Holder(holding) = &mut self.role else { return };
        match answer {
            PeerAnswer::Yes { from, generation, nonce } => {
                let Some(round) = holding.round.as_mut().filter(|round| round.sent == nonce.sent) else {
                    return;
                };
                if nonce.session == self.session && *generation == holding.generation {
                    round.missing.remove(from);
                    if !self.rules.keep(Rule::AllSayYes) {
                        round.missing.clear();
                    }
                    self.end_round(now);
                }
            }
            PeerAnswer::No { generation, .. } if *generation > holding.generation => {
                self.known = self.known.max(*generation);
                self.role = Role::Standby;
            }
            PeerAnswer::No { nonce, .. } => {
                if holding.round.as_ref().is_some_and(|round| round.sent == nonce.sent) {
                    holding.round = None;
                }
            }
        }
    }

    /// A round that nobody is missing from extends the right, from when it was sent.
    fn end_round(&mut self, now: BootTime) {
        let keep_send = self.rules.keep(Rule::DeadlineFromSend);
        let Role::Holder(holding) = &mut self.role else { return };
        let Some(round) = holding.round.take_if(|round| round.missing.is_empty()) else { return };
        let sent = if keep_send { round.sent } else { now };
        holding.extend(self.intervals.deadline(sent));
    }

    fn counted_from(&self, sent: BootTime, now: BootTime) -> BootTime {
        if self.rules.keep(Rule::DeadlineFromSend) { sent } else { now }
    }
}
