use super::*;
use crate::fixture::{Fixture, NOW, agent, endpoint};
use drover_model::probe::{ProbeOutcome, SelfCheck};
use proptest::prelude::*;

const BOUND: Span = Span::from_secs(95);

fn settings() -> VantageSettings {
    Fixture::three_regions_and_witness().world().config.settings.vantage.clone()
}

fn observation(sequence: u64, age_secs: u64) -> Observation {
    Observation {
        sequence,
        endpoint: endpoint("checkout@eu-west"),
        began_at: NOW,
        age: Span::from_secs(age_secs),
        latency_micros: 900,
        outcome: ProbeOutcome::Good,
        status: Some(200),
        certificate_expires_at: None,
        blind: false,
    }
}

fn report(boot_number: u64, sent_at: Timestamp, observations: Vec<Observation>) -> Report {
    Report {
        schema: REPORT_SCHEMA,
        agent: agent("us-east-1"),
        boot: format!("boot-{boot_number}"),
        boot_number,
        sent_at,
        config_version: "c".into(),
        observations,
        opinions: vec![],
        self_check: SelfCheck::default(),
        dropped: 0,
        out_of_service: None,
    }
}

fn after(secs: u64) -> Timestamp {
    NOW + Span::from_secs(secs)
}

fn take(vantage: &mut Vantage, report: &Report, at: Timestamp) -> Result<Ingested, ReportRefused> {
    vantage.ingest(report, at, &settings(), |_| Some(BOUND))
}

#[test]
fn a_probe_is_placed_by_receive_time_and_age() {
    let mut vantage = Vantage::new();
    assert_eq!(vantage.state(NOW, &settings()), VantageState::NeverHeard);
    let done =
        take(&mut vantage, &report(1, NOW, vec![observation(1, 40), observation(2, 10)]), NOW).unwrap();
    let placed = |secs| Placement::Current { began_at: NOW - Span::from_secs(secs) };
    assert_eq!(done.placements, [placed(40), placed(10)]);
    assert_eq!((done.accepted, done.acknowledged_sequence, done.opinions_count), (2, 2, true));
    assert_eq!(vantage.state(NOW, &settings()), VantageState::Reporting);
    assert!(vantage.probed_since(NOW - Span::from_secs(11)));
    assert!(!vantage.probed_since(NOW - Span::from_secs(10)), "begun at the takeover is not begun after it");
}

#[test]
fn a_replay_is_ignored_and_keeps_nobody_alive() {
    cov_mark::check!(replay_is_ignored);
    let mut vantage = Vantage::new();
    let sent = report(1, NOW, vec![observation(1, 1)]);
    take(&mut vantage, &sent, NOW).unwrap();
    for secs in [30, 60, 90] {
        let done = take(&mut vantage, &sent, after(secs)).unwrap();
        assert_eq!(
            (done.placements.as_slice(), done.opinions_count),
            ([Placement::Replayed].as_slice(), false)
        );
    }
    assert_eq!(vantage.state(after(90), &settings()), VantageState::Silent);
    assert_eq!(vantage.replayed(), 3);
}

#[test]
fn what_was_sent_again_after_a_lost_answer_counts_once() {
    let mut vantage = Vantage::new();
    take(&mut vantage, &report(1, NOW, vec![observation(1, 1)]), NOW).unwrap();
    let again = report(1, after(5), vec![observation(1, 6), observation(2, 1)]);
    let done = take(&mut vantage, &again, after(5)).unwrap();
    assert_eq!((done.replayed, done.accepted, done.acknowledged_sequence), (1, 1, 2));
    assert_eq!(vantage.heard_at(), Some(after(5)));
}

#[test]
fn an_earlier_boot_is_refused() {
    cov_mark::check!(earlier_boot_refused);
    let mut vantage = Vantage::new();
    take(&mut vantage, &report(1, NOW, vec![observation(40, 1)]), NOW).unwrap();
    let done = take(&mut vantage, &report(2, after(1), vec![observation(1, 1)]), after(1)).unwrap();
    assert_eq!(done.accepted, 1, "a new boot begins sequence numbers anew");
    let before = vantage.clone();
    let refused = take(&mut vantage, &report(1, after(2), vec![observation(41, 1)]), after(2));
    assert_eq!(refused, Err(ReportRefused::EarlierBoot { given: 1, known: 2 }));
    assert_eq!(vantage, before);
}

#[test]
fn a_cloned_agent_is_refused() {
    cov_mark::check!(two_boots_refused);
    let mut vantage = Vantage::new();
    take(&mut vantage, &report(1, NOW, vec![]), NOW).unwrap();
    let clone = Report { boot: "other".into(), ..report(1, after(1), vec![observation(9, 0)]) };
    assert_eq!(take(&mut vantage, &clone, after(1)), Err(ReportRefused::TwoBoots { number: 1 }));
}

/// An agent may call its boot nothing. It was then taken for one that was never heard: its replays counted.
#[test]
fn a_boot_without_a_name_is_a_boot() {
    let nameless = |number, sent_at, sequence| Report {
        boot: String::new(),
        ..report(number, sent_at, vec![observation(sequence, 1)])
    };
    let mut vantage = Vantage::new();
    assert_eq!(take(&mut vantage, &nameless(2, NOW, 1), NOW).unwrap().accepted, 1);
    let again = take(&mut vantage, &nameless(2, NOW, 1), after(1)).unwrap();
    assert_eq!((again.accepted, again.replayed, again.opinions_count), (0, 1, false));
    let earlier = take(&mut vantage, &nameless(1, after(2), 2), after(2));
    assert_eq!(earlier, Err(ReportRefused::EarlierBoot { given: 1, known: 2 }));
    let other = take(&mut vantage, &report(2, after(2), vec![]), after(2));
    assert_eq!(other, Err(ReportRefused::TwoBoots { number: 2 }));
}

#[test]
fn a_late_report_is_history() {
    cov_mark::check!(late_report_is_history);
    let mut vantage = Vantage::new();
    let done =
        take(&mut vantage, &report(1, NOW, vec![observation(1, 96), observation(2, 95)]), NOW).unwrap();
    assert_eq!(
        done.placements[0],
        Placement::HistoryOnly(Late::TooOld { age: Span::from_secs(96), bound: BOUND })
    );
    assert_eq!(done.placements[1], Placement::Current { began_at: NOW - BOUND });
    assert_eq!((done.history_only, vantage.late()), (1, 1));
}

#[test]
fn a_wrong_clock_is_history_until_it_is_sane() {
    cov_mark::check!(skewed_clock_is_history);
    let future = NOW + Span::from_secs(60 * 60 * 24 * 365 * 9);
    for wrong in [future, NOW - Span::from_secs(11), NOW + Span::from_secs(11)] {
        let mut vantage = Vantage::new();
        let done = take(&mut vantage, &report(1, wrong, vec![observation(1, 0)]), NOW).unwrap();
        assert_eq!(done.placements, [Placement::HistoryOnly(Late::Skewed)]);
        assert_eq!((vantage.state(NOW, &settings()), done.opinions_count), (VantageState::Skewed, false));
        let done = take(&mut vantage, &report(1, after(5), vec![observation(2, 0)]), after(5)).unwrap();
        assert_eq!(done.placements, [Placement::Current { began_at: after(5) }]);
        assert_eq!(vantage.state(after(5), &settings()), VantageState::Reporting);
    }
    let mut vantage = Vantage::new();
    take(&mut vantage, &report(1, after(10), vec![]), NOW).unwrap();
    assert_eq!(vantage.state(NOW, &settings()), VantageState::Reporting, "exactly the bound is allowed");
}

#[test]
fn a_blind_vantage_is_no_witness() {
    let mut vantage = Vantage::new();
    let blind = SelfCheck { references_reached: 0, references: 2, blind: true };
    let sent = Report { self_check: blind, ..report(1, NOW, vec![]) };
    assert!(!take(&mut vantage, &sent, NOW).unwrap().opinions_count);
    assert_eq!(vantage.state(NOW, &settings()), VantageState::Blind);
}

/// The bit of the report and that of the probe, which differ when the agent went blind or saw again in between.
#[test]
fn what_was_seen_blindly_is_history() {
    cov_mark::check!(blind_probe_is_history);
    let mut vantage = Vantage::new();
    let mut sequence = 0;
    for (report_blind, probes_blind) in [
        (false, vec![false, false]),
        (true, vec![false, true]),
        (true, vec![true, true]),
        // Sent late: the agent saw again when it sent them.
        (false, vec![true, true, true, false]),
        (false, vec![false, true, false]),
    ] {
        let at = after(sequence);
        let observations = probes_blind.iter().map(|&blind| {
            sequence += 1;
            Observation { blind, ..observation(sequence, 1) }
        });
        let check = SelfCheck { references_reached: 0, references: 2, blind: report_blind };
        let sent = Report { self_check: check, ..report(1, at, observations.collect()) };
        let done = take(&mut vantage, &sent, at).unwrap();
        let expected: Vec<Placement> = probes_blind
            .iter()
            .map(|&blind| match blind || report_blind {
                true => Placement::HistoryOnly(Late::Blind),
                false => Placement::Current { began_at: at - Span::from_secs(1) },
            })
            .collect();
        assert_eq!(done.placements, expected, "{report_blind} {probes_blind:?}");
        assert_eq!((done.opinions_count, done.acknowledged_sequence), (!report_blind, sequence));
    }
    assert_eq!((vantage.late(), sequence), (8, 13));
}

#[test]
fn a_blind_probe_is_no_look_since_the_takeover_and_none_that_is_too_old() {
    let mut vantage = Vantage::new();
    let blind = |sequence, age| Observation { blind: true, ..observation(sequence, age) };
    let done = take(&mut vantage, &report(1, NOW, vec![blind(1, 96), blind(2, 1)]), NOW).unwrap();
    let too_old = Late::TooOld { age: Span::from_secs(96), bound: BOUND };
    assert_eq!(done.placements, [too_old, Late::Blind].map(Placement::HistoryOnly));
    assert!(!vantage.probed_since(NOW - Span::from_hours(1)));
}

#[test]
fn silence_begins_when_announced() {
    let mut vantage = Vantage::new();
    take(&mut vantage, &report(1, NOW, vec![]), NOW).unwrap();
    let change = vantage.next_change_at(NOW, &settings()).unwrap();
    assert_eq!(vantage.state(change, &settings()), VantageState::Silent);
    assert_eq!(vantage.state(change - Span::from_millis(1), &settings()), VantageState::Reporting);
    assert_eq!(vantage.next_change_at(change, &settings()), None);
}

#[test]
fn what_is_too_large_or_unknown_is_refused_whole() {
    cov_mark::check!(report_too_long);
    let mut vantage = Vantage::new();
    let many = (1..=1_001).map(|n| observation(n, 0)).collect();
    assert_eq!(take(&mut vantage, &report(1, NOW, many), NOW), Err(ReportRefused::TooMany { given: 1_001 }));
    let newer = Report { schema: REPORT_SCHEMA + 1, ..report(1, NOW, vec![]) };
    assert_eq!(
        take(&mut vantage, &newer, NOW),
        Err(ReportRefused::UnknownFormat { given: REPORT_SCHEMA + 1 })
    );
    let long = Report { boot: "b".repeat(65), ..report(1, NOW, vec![]) };
    assert_eq!(take(&mut vantage, &long, NOW), Err(ReportRefused::BootTooLong { given: 65 }));
    assert_eq!(vantage, Vantage::new());
}

#[test]
fn a_clock_of_ours_that_was_set_skews_no_vantage() {
    cov_mark::check!(own_clock_was_set);
    let hour = Span::from_hours(1);
    let mut sequence = 0;
    for (sent_at, wall, state) in [
        // All machines were set, or this one alone.
        (NOW + hour, NOW + hour, VantageState::Reporting),
        (NOW - hour, NOW - hour, VantageState::Reporting),
        (NOW, NOW + hour, VantageState::Reporting),
        // It fits neither clock.
        (NOW + hour + hour, NOW + hour, VantageState::Skewed),
        (NOW + hour, NOW - hour, VantageState::Skewed),
    ] {
        sequence += 1;
        let mut vantage = Vantage::new();
        let sent = report(1, sent_at, vec![observation(sequence, 0)]);
        let done = vantage.ingest(&sent, Receipt { at: NOW, wall }, &settings(), |_| Some(BOUND)).unwrap();
        assert_eq!(vantage.state(NOW, &settings()), state, "sent {sent_at}, our wall clock {wall}");
        assert_eq!(done.accepted == 1, state == VantageState::Reporting);
    }
}

#[test]
fn an_endpoint_that_is_gone_is_history() {
    let mut vantage = Vantage::new();
    let done = vantage.ingest(&report(1, NOW, vec![observation(1, 0)]), NOW, &settings(), |_| None).unwrap();
    assert_eq!(done.placements, [Placement::HistoryOnly(Late::NotConfigured)]);
}

proptest! {
    /// However reports are repeated, reordered and delayed: no probe counts twice, none from the future, none too old.
    #[test]
    fn nothing_counts_twice_or_out_of_its_time(
        arrivals in prop::collection::vec((0usize..12, 0u64..200), 1..60),
    ) {
        let reports: Vec<Report> = (0..12u64)
            .map(|n| report(1 + n / 6, after(n * 10), (1..=3).map(|k| observation((n % 6) * 3 + k, 9 - k)).collect()))
            .collect();
        let (mut vantage, mut seen) = (Vantage::new(), std::collections::BTreeSet::new());
        for (which, delay) in arrivals {
            let sent = &reports[which];
            let received_at = sent.sent_at + Span::from_secs(delay);
            let Ok(done) = take(&mut vantage, sent, received_at) else { continue };
            for (placement, observation) in done.placements.iter().zip(&sent.observations) {
                if let Placement::Current { began_at } = placement {
                    prop_assert!(*began_at <= received_at && received_at.since(*began_at) <= BOUND);
                    prop_assert!(delay <= 10, "a report delayed by {delay} s is skewed");
                    prop_assert!(seen.insert((sent.boot_number, observation.sequence)));
                }
            }
        }
    }
}
