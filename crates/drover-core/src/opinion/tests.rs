use super::*;
use drover_model::Percent;
use proptest::prelude::*;

fn policy() -> OpinionPolicy {
    OpinionPolicy {
        failure_threshold: 3,
        failure_window: Span::from_secs(300),
        gray_failure_share: Percent::whole(40),
        gray_min_samples: 8,
        recovery_threshold: 4,
        stale_after: Span::from_secs(95),
    }
}

fn at(secs: i64) -> Timestamp {
    Timestamp::from_millis(1_700_000_000_000 + secs * 1_000)
}

/// Feeds `g`ood and `f`ailed probes every 30 s; the last one is at the returned second.
fn feed(opinion: &mut Opinion, from: i64, results: &str) -> i64 {
    let mut t = from;
    for (n, result) in results.chars().enumerate() {
        t = from + 30 * i64::try_from(n).unwrap();
        let good = result == 'g';
        opinion.observe(at(t), good, (!good).then_some(FailureKind::TimedOut), &policy());
    }
    t
}

fn state_after(results: &str) -> OpinionState {
    let mut opinion = Opinion::new();
    let t = feed(&mut opinion, 0, results);
    opinion.at(at(t), &policy()).state
}

#[test]
fn opinions_by_table() {
    use OpinionState::{Failing, Healthy, Unknown};
    let table = [
        ("", Unknown),
        ("g", Healthy),
        ("f", Unknown),
        ("ff", Unknown),
        ("fff", Failing),
        ("gff", Healthy),
        ("gfff", Failing),
        ("gffgff", Healthy),
        ("fg", Unknown),     // Something failed: one success is not enough.
        ("fgggg", Healthy),  // As many as recovery takes are.
        ("fffggg", Failing), // One short of recovery.
        ("ffgff", Unknown),  // No streak, and too few samples for a share.
    ];
    for (results, expected) in table {
        assert_eq!(state_after(results), expected, "after {results:?}");
    }
}

#[test]
fn the_window_is_half_open() {
    cov_mark::check!(failures_outside_the_window);
    for (third_at, expected) in
        [(299, OpinionState::Failing), (300, OpinionState::Unknown), (301, OpinionState::Unknown)]
    {
        let mut opinion = Opinion::new();
        for t in [0, 150, third_at] {
            opinion.observe(at(t), false, Some(FailureKind::Refused), &policy());
        }
        assert_eq!(opinion.at(at(third_at), &policy()).state, expected, "third failure at {third_at} s");
    }
}

#[test]
fn a_slow_streak_fails_once_its_newest_failures_lie_close_enough() {
    let mut opinion = Opinion::new();
    for t in [0, 290, 580, 600] {
        opinion.observe(at(t), false, Some(FailureKind::Refused), &policy());
    }
    assert_eq!(opinion.at(at(600), &policy()).state, OpinionState::Unknown, "290, 580, 600 span 310 s");
    opinion.observe(at(620), false, Some(FailureKind::Refused), &policy());
    let view = opinion.at(at(620), &policy());
    assert_eq!((view.state, view.streak), (OpinionState::Failing, 5));
    assert_eq!(view.first_failure_of_streak_at, Some(at(0)));
}

#[test]
fn a_share_of_failures_is_a_gray_failure() {
    cov_mark::check!(gray_failure_by_share);
    let mut opinion = Opinion::new();
    let t = feed(&mut opinion, 0, "gfggfggf"); // 3 of 8 is 37.5 %.
    assert_eq!(opinion.at(at(t), &policy()).state, OpinionState::Healthy);
    let t = feed(&mut opinion, t + 30, "f"); // 4 of 9 is 44 %.
    let view = opinion.at(at(t), &policy());
    assert_eq!((view.state, view.gray), (OpinionState::Failing, true));
    assert_eq!((view.good, view.failed, view.streak), (5, 4, 2));
    assert_eq!(view.first_failure_of_streak_at, Some(at(30)), "the oldest failure in the window");
}

#[test]
fn a_bad_share_delays_recovery() {
    cov_mark::check!(gray_share_delays_recovery);
    let mut opinion = Opinion::new();
    let t = feed(&mut opinion, 0, "fffffgggg"); // Four successes, but 5 of 9 failed.
    assert_eq!(opinion.at(at(t), &policy()).state, OpinionState::Failing);
    let t = feed(&mut opinion, t + 30, "gggg"); // The failures leave the window.
    assert_eq!(opinion.at(at(t), &policy()).state, OpinionState::Healthy);
}

#[test]
fn silence_is_unknown_and_says_when() {
    cov_mark::check!(i6_stale_is_unknown);
    let mut opinion = Opinion::new();
    let t = feed(&mut opinion, 0, "fff");
    assert_eq!(opinion.at(at(t + 95), &policy()).state, OpinionState::Failing);
    let change = opinion.next_change_at(at(t), policy().stale_after).unwrap();
    assert_eq!(opinion.at(change, &policy()).state, OpinionState::Unknown);
    assert_eq!(opinion.at(change - Span::from_millis(1), &policy()).state, OpinionState::Failing);
    assert_eq!(opinion.next_change_at(change, policy().stale_after), None);
}

#[test]
fn a_suspicion_ends_by_silence_too_and_says_when() {
    let stale_after = policy().stale_after;
    let mut opinion = Opinion::new();
    assert_eq!(opinion.next_change_at(at(0), stale_after), None);
    opinion.observe(at(0), false, None, &policy());
    assert_eq!(opinion.vote_at(at(0), stale_after), (OpinionState::Unknown, true));
    let change = opinion.next_change_at(at(0), stale_after).unwrap();
    assert_eq!(opinion.vote_at(change - Span::from_millis(1), stale_after), (OpinionState::Unknown, true));
    assert_eq!(opinion.vote_at(change, stale_after), (OpinionState::Unknown, false));
}

#[test]
fn after_a_gap_neither_one_failure_nor_one_success_is_enough() {
    let mut failed_before = Opinion::new();
    let t = feed(&mut failed_before, 0, "fff");
    let mut recovering = failed_before.clone();
    let later = feed(&mut failed_before, t + 3_600, "ff");
    assert_eq!(failed_before.at(at(later), &policy()).state, OpinionState::Unknown);
    let later = feed(&mut failed_before, later + 30, "f");
    assert_eq!(failed_before.at(at(later), &policy()).state, OpinionState::Failing);
    let later = feed(&mut recovering, t + 3_600, "ggg");
    assert_eq!(recovering.at(at(later), &policy()).state, OpinionState::Unknown);
    let later = feed(&mut recovering, later + 30, "g");
    assert_eq!(recovering.at(at(later), &policy()).state, OpinionState::Healthy);
}

#[test]
fn an_older_observation_is_ignored() {
    cov_mark::check!(out_of_order_is_history);
    let mut opinion = Opinion::new();
    let t = feed(&mut opinion, 0, "gg");
    let before = opinion.clone();
    opinion.observe(at(t - 1), false, Some(FailureKind::Reset), &policy());
    assert_eq!(opinion, before);
}

#[test]
fn the_agents_own_fault_says_nothing() {
    cov_mark::check!(local_failure_says_nothing);
    let mut opinion = Opinion::new();
    for t in 0..10 {
        opinion.observe(at(t), false, Some(FailureKind::Local), &policy());
    }
    assert_eq!(opinion, Opinion::new());
}

fn word(state: OpinionState) -> AgentOpinion {
    AgentOpinion {
        endpoint: "checkout@eu-west".parse().unwrap(),
        state,
        streak: 9,
        held_for: Span::from_secs(200),
        last_probe_age: Span::from_secs(10),
        recovering: false,
    }
}

#[test]
fn an_agents_word_counts_until_own_evidence_arrives() {
    cov_mark::check!(agents_word_until_own_evidence);
    let mut opinion = Opinion::new();
    opinion.seed(&word(OpinionState::Failing), at(0), &policy());
    let view = opinion.at(at(0), &policy());
    assert_eq!((view.state, view.streak, view.held_since), (OpinionState::Failing, 9, Some(at(-200))));
    assert_eq!(
        opinion.at(at(86), &policy()).state,
        OpinionState::Unknown,
        "an agent's word becomes stale too"
    );
    let mut confirmed = opinion.clone();
    feed(&mut confirmed, 20, "f");
    assert_eq!(confirmed.at(at(20), &policy()).state, OpinionState::Failing);
    confirmed.seed(&word(OpinionState::Healthy), at(21), &policy());
    assert_eq!(confirmed.at(at(21), &policy()).state, OpinionState::Failing, "own evidence stands");
    let t = feed(&mut opinion, 20, "ggg");
    assert_eq!(opinion.at(at(t), &policy()).state, OpinionState::Failing, "recovery takes as long as ever");
    let t = feed(&mut opinion, t + 30, "g");
    assert_eq!(opinion.at(at(t), &policy()).state, OpinionState::Healthy);
}

#[test]
fn an_agents_word_that_holds_nothing_teaches_nothing() {
    let old = AgentOpinion { last_probe_age: Span::from_secs(96), ..word(OpinionState::Failing) };
    for word in [word(OpinionState::Unknown), old] {
        let mut opinion = Opinion::new();
        opinion.seed(&word, at(0), &policy());
        assert_eq!(opinion, Opinion::new());
    }
}

#[test]
fn an_agents_word_of_a_recovery_is_no_failure() {
    cov_mark::check!(recovering_is_not_failing);
    let recovering = AgentOpinion { recovering: true, streak: 2, ..word(OpinionState::Failing) };
    let mut opinion = Opinion::new();
    opinion.seed(&recovering, at(0), &policy());
    let view = opinion.at(at(0), &policy());
    assert_eq!((view.state, view.last_probe_failed), (OpinionState::Unknown, false));
    let mut relapsed = opinion.clone();
    let t = feed(&mut relapsed, 1, "ff");
    assert_eq!(relapsed.at(at(t), &policy()).state, OpinionState::Unknown, "as many failures as ever");
    let t = feed(&mut opinion, 1, "g");
    assert_eq!(opinion.at(at(t), &policy()).state, OpinionState::Unknown, "distrust stays");
}

#[test]
fn a_healthy_word_needs_the_whole_threshold_to_turn() {
    let mut opinion = Opinion::new();
    opinion.seed(&word(OpinionState::Healthy), at(0), &policy());
    let t = feed(&mut opinion, 1, "ff");
    assert_eq!(opinion.at(at(t), &policy()).state, OpinionState::Healthy);
    let t = feed(&mut opinion, t + 30, "f");
    assert_eq!(opinion.at(at(t), &policy()).state, OpinionState::Failing);
}

#[test]
fn thresholds_up_to_and_above_the_timed_ones() {
    for threshold in [1, 2, 31, 32, 33, 40] {
        let policy = OpinionPolicy { failure_threshold: threshold, ..policy() };
        let mut opinion = Opinion::new();
        for n in 1..=threshold {
            assert_eq!(
                opinion.at(at(i64::from(n)), &policy).state,
                OpinionState::Unknown,
                "{n} of {threshold}"
            );
            opinion.observe(
                at(i64::from(n)),
                false,
                None,
                &OpinionPolicy { gray_min_samples: 1_000, ..policy.clone() },
            );
        }
        assert_eq!(opinion.at(at(i64::from(threshold)), &policy).state, OpinionState::Failing, "{threshold}");
    }
}

#[test]
fn an_opinion_is_small() {
    let size = size_of::<Opinion>();
    assert!(
        size <= 256,
        "an opinion takes {size} bytes; with its place 512 is the bound for one vantage and endpoint"
    );
}

proptest! {
    /// The streak rule against its definition over the whole list of probes.
    #[test]
    fn failing_by_streak_is_what_the_rule_says(
        probes in prop::collection::vec((1i64..200, any::<bool>()), 1..60),
        threshold in 1u32..40,
    ) {
        let policy = OpinionPolicy {
            failure_threshold: threshold, gray_min_samples: u32::MAX, recovery_threshold: 1,
            stale_after: Span::from_hours(9), ..policy()
        };
        let (mut opinion, mut t, mut failures, mut failing) = (Opinion::new(), 0, Vec::new(), false);
        for (gap, good) in probes {
            t += gap;
            opinion.observe(at(t), good, None, &policy);
            if good {
                failures.clear();
                failing = false;
            } else {
                failures.push(t);
                let need = threshold as usize;
                let timed = if threshold > FAILURE_THRESHOLD_MAX { failures.len() } else { need };
                failing |= failures.len() >= need && t - failures[failures.len() - timed] < 300;
            }
            prop_assert_eq!(opinion.at(at(t), &policy).state == OpinionState::Failing, failing);
        }
    }

    /// Whatever came before, an opinion is unknown once its last probe is too old.
    #[test]
    fn no_silence_is_ever_failing(results in "[fg]{0,40}", silent in 96i64..100_000) {
        let mut opinion = Opinion::new();
        let t = feed(&mut opinion, 0, &results);
        prop_assert_eq!(opinion.at(at(t + silent), &policy()).state, OpinionState::Unknown);
    }
}
