//! Vantages that watch regions over years, with drover's own opinions and verdicts.

use super::paths::{Paths, SITES};
use crate::error::{BenchError, Result};
use drover_core::opinion::Opinion;
use drover_core::quorum;
use drover_core::verdict::{Vote, Votes, conclude_votes};
use drover_model::decision::OpinionState;
use drover_model::probe::{FailureKind, OpinionPolicy};
use drover_model::{Span, Timestamp};
use fastrand::Rng;

/// Regions that are watched.
pub const REGIONS: usize = 3;
const OUTSIDE: usize = SITES - 1;
/// How long a probe that is lost takes to say so.
const TIMEOUT: Span = Span::from_secs(5);
/// Any moment will do.
const BEGIN: Timestamp = Timestamp::from_millis(1_750_000_000_000);

/// One vantage's opinion of one region.
#[derive(Debug, Clone)]
struct Pair {
    from: usize,
    /// Of each interval.
    phase: Span,
    opinion: Opinion,
    /// Good probes in a row that the opinion was not told of, because they could not change it.
    untold: u64,
    /// Good probes in a row.
    good: u64,
}

/// Several vantages of each region.
#[derive(Debug)]
pub struct Watch {
    policy: OpinionPolicy,
    interval: Span,
    paths: Paths,
    regions: Vec<Vec<Pair>>,
}

fn pairs(of: usize, interval: Span, chance: &mut Rng) -> Vec<Pair> {
    let phase = |chance: &mut Rng| Span::from_millis(chance.u64(0..interval.as_millis()));
    let outside = (0..SITES).filter(|site| *site != of);
    let mut pairs: Vec<Pair> = outside
        .map(|from| Pair { from, phase: phase(chance), opinion: Opinion::new(), untold: 0, good: 0 })
        .collect();
    pairs.sort_by_key(|p| p.phase);
    pairs
}

impl Pair {
    /// A probe that began at `at`. An opinion that is healthy with nothing but good probes in its window is the same after
    /// one more; it is told of them, as many as its window holds, when one fails.
    fn probed(&mut self, at: Timestamp, good: bool, interval: Span, policy: &OpinionPolicy) {
        let window = policy.failure_window.as_millis() / interval.as_millis() + 2;
        if good
            && self.good > window
            && self.opinion.vote_at(at, Span::from_hours(1_000_000)).0 == OpinionState::Healthy
        {
            self.untold += 1;
            return;
        }
        for back in (1..=self.untold.min(window)).rev() {
            self.opinion.observe(at - interval.times(back), true, None, policy);
        }
        self.untold = 0;
        self.good = if good { self.good + 1 } else { 0 };
        self.opinion.observe(at, good, (!good).then_some(FailureKind::TimedOut), policy);
    }

    fn vote(&self, at: Timestamp, policy: &OpinionPolicy) -> Vote {
        let (state, last_probe_failed) = if self.untold > 0 {
            (OpinionState::Healthy, false)
        } else {
            self.opinion.vote_at(at, policy.stale_after)
        };
        Vote { counts: true, state, last_probe_failed, confirmed: true }
    }
}

/// Would traffic move? The inside is well, so that the verdict would be `Unreachable`.
fn moves(pairs: &[Pair], at: Timestamp, policy: &OpinionPolicy) -> bool {
    let (mut outside, mut inside) = (Votes::default(), Votes::default());
    pairs.iter().for_each(|p| outside.cast(p.vote(at, policy)));
    let well = OpinionState::Healthy;
    inside.cast(Vote { counts: true, state: well, last_probe_failed: false, confirmed: true });
    conclude_votes(outside, inside, quorum::need(OUTSIDE as u32)).state.moves_traffic()
}

impl Watch {
    /// Nothing was probed yet.
    pub fn new(policy: OpinionPolicy, interval: Span, seed: u64) -> Self {
        let mut chance = Rng::with_seed(seed);
        let regions = (0..REGIONS).map(|region| pairs(region, interval, &mut chance)).collect();
        Self { policy, interval, paths: Paths::new(seed), regions }
    }

    /// Times that a region which is well would be left in `span`.
    pub fn false_alarms(&mut self, span: Span) -> u64 {
        let rounds = span.as_millis() / self.interval.as_millis();
        let (mut alarms, mut left) = (0, [false; REGIONS]);
        // All probes of a round in the order of their times, so that a path's bursts are walked once.
        let mut order: Vec<(usize, usize)> = self
            .regions
            .iter()
            .enumerate()
            .flat_map(|(r, pairs)| (0..pairs.len()).map(move |p| (r, p)))
            .collect();
        order.sort_by_key(|(r, p)| self.regions[*r][*p].phase);
        for round in 0..rounds {
            let begin = self.interval.times(round);
            for (region, pair) in &order {
                let pairs = &mut self.regions[*region];
                let after = begin.plus(pairs[*pair].phase);
                let good = !self.paths.loses(pairs[*pair].from, *region, after.as_secs_f64());
                let at = BEGIN + after;
                pairs[*pair].probed(at, good, self.interval, &self.policy);
                if good && !left[*region] {
                    continue;
                }
                let out = moves(pairs, at, &self.policy);
                alarms += u64::from(out && !left[*region]);
                left[*region] = out;
            }
        }
        alarms
    }
}

/// From the begin of an outage to a verdict that moves traffic, over outages that begin at any moment.
///
/// # Errors
/// When one is never found: the policy is none.
pub fn mean_detection(policy: &OpinionPolicy, interval: Span, outages: usize, seed: u64) -> Result<Span> {
    let mut chance = Rng::with_seed(seed);
    let mut sum = Span::ZERO;
    for _ in 0..outages {
        let mut pairs = pairs(0, interval, &mut chance);
        let begin = interval.times(20).plus(Span::from_millis(chance.u64(0..interval.as_millis())));
        sum = sum.plus(detection(&mut pairs, policy, interval, begin)?);
    }
    Ok(sum.divided_by(outages.max(1) as u64))
}

fn detection(pairs: &mut [Pair], policy: &OpinionPolicy, interval: Span, begin: Span) -> Result<Span> {
    /// More rounds than any policy here needs.
    const ROUNDS_MAX: u64 = 200;
    for round in 0..ROUNDS_MAX {
        for n in 0..pairs.len() {
            let after = interval.times(round).plus(pairs[n].phase);
            let at = BEGIN + after;
            pairs[n].probed(at, after < begin, interval, policy);
            if moves(pairs, at, policy) {
                let passed = after.as_millis().saturating_sub(begin.as_millis());
                return Ok(Span::from_millis(passed).plus(TIMEOUT));
            }
        }
    }
    Err(BenchError::Unexpected(format!("an outage was not found in {ROUNDS_MAX} probe rounds")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::false_alarms::policy;

    /// What is left out must not matter: an opinion that is told of every probe holds the same all along.
    #[test]
    fn probes_that_are_not_told_change_nothing() {
        let (interval, mut chance) = (Span::from_secs(30), Rng::with_seed(3));
        let policy = policy(interval, 3);
        let mut pair = pairs(0, interval, &mut chance).remove(0);
        let mut told = Opinion::new();
        let mut failing = 0;
        for n in 0..200_000u64 {
            // Mostly calm, with stretches in which much is lost.
            let good = chance.f64() > if (n / 50) % 20 == 0 { 0.4 } else { 0.01 };
            let at = BEGIN + interval.times(n);
            pair.probed(at, good, interval, &policy);
            told.observe(at, good, (!good).then_some(FailureKind::TimedOut), &policy);
            let vote = pair.vote(at, &policy);
            assert_eq!(
                (vote.state, vote.last_probe_failed),
                told.vote_at(at, policy.stale_after),
                "probe {n}"
            );
            failing += u64::from(vote.state == OpinionState::Failing);
        }
        assert!(failing > 1_000, "{failing}");
    }

    #[test]
    fn an_outage_is_found_after_as_many_probes_as_the_policy_says() {
        let interval = Span::from_secs(30);
        let mean = mean_detection(&policy(interval, 3), interval, 500, 1).unwrap();
        // The second of three vantages sees its third failure between 60 s and 90 s after the begin, 75 s on average.
        assert!((70..=90).contains(&(mean.as_millis() / 1_000)), "{mean}");
    }
}
