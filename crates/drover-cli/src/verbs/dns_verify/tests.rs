//! What is found wrong, and what is not.

use super::*;
use drover_dns::zone::Answers;
use drover_model::api::{RecordState, RecordVersion};

fn split(parts: &[(f64, f64)]) -> Vec<Share> {
    let share = |(wanted, answered): &(f64, f64)| Share {
        region: None,
        value: String::new(),
        wanted_percent: *wanted,
        answered_percent: *answered,
    };
    parts.iter().map(share).collect()
}

fn record() -> RecordView {
    let value = |last: u8, weight| ValueView { region: None, value: format!("192.0.2.{last}"), weight };
    let wanted = RecordVersion {
        generation: 1,
        owner: "drover".into(),
        ttl_seconds: 30,
        values: vec![value(1, 50), value(2, 50), value(3, 0)],
        answering: Default::default(),
    };
    RecordView {
        service: drover_model::ServiceId::new("checkout").unwrap(),
        name: "checkout.example.net".into(),
        record_type: "A".into(),
        state: RecordState::InLine,
        sentence: None,
        next: None,
        live: Some(wanted.clone()),
        wanted,
        published_partial: vec![],
    }
}

fn alias_of(region: &str) -> ValueView {
    let region = drover_model::RegionId::new(region).ok();
    ValueView { region, value: "alias lb.example.org (Z1)".into(), weight: 50 }
}

fn zone(has_weights: bool) -> ZoneView {
    ZoneView {
        schema: 1,
        at: drover_model::Timestamp::from_millis(0),
        zone: "example.net".into(),
        provider: "embedded".into(),
        has_weights,
        ttl_floor_seconds: has_weights.then_some(20),
        servers: vec![],
        records: vec![record()],
        of_another_store: vec![],
    }
}

fn answer(values: &[&str]) -> Answer {
    let values = values.iter().map(|v| (*v).to_owned()).collect();
    Answer { rcode: Rcode::NOERROR, values, ttl_seconds: 30, is_authoritative: true }
}

#[test]
fn of_an_alias_only_that_something_is_answered_is_judged_and_its_share() {
    let mut record = record();
    record.wanted.values[0] = alias_of("eu-west");
    let (zone, alias) = (zone(true), answer(&["198.51.100.1", "198.51.100.2"]));
    assert_eq!(check(&zone, &record, &alias), Vec::<String>::new());
    assert!(check(&zone, &record, &answer(&[]))[0].contains("nothing is answered"));
    let answers = [alias.clone(), alias.clone(), alias, answer(&["192.0.2.2"])];
    let shares = shares(&zone, &record, &answers);
    let told = |s: &Share| (s.value.clone(), s.wanted_percent as u32, s.answered_percent as u32);
    let expected = [("192.0.2.2".to_owned(), 50, 25), ("alias lb.example.org (Z1)".to_owned(), 50, 75)];
    assert_eq!(shares.iter().map(told).collect::<Vec<_>>(), expected);
}

#[test]
fn a_drained_address_is_not_taken_for_the_answer_of_an_alias() {
    let mut record = record();
    record.wanted.values[0] = alias_of("eu-west");
    let zone = zone(true);
    let (alias, drained) = (answer(&["198.51.100.1"]), answer(&["192.0.2.3"]));
    assert_eq!(check(&zone, &record, &drained), ["192.0.2.3 is answered and must not be"]);
    for (wrong, why) in [
        (answer(&["198.51.100.1", "192.0.2.3"]), "192.0.2.3 is answered and must not be"),
        (answer(&["192.0.2.2", "198.51.100.1"]), "2 values are answered at once and 1 should be"),
        (Answer { ttl_seconds: 60, ..answer(&["192.0.2.2"]) }, "TTL 60 s is answered and should be 30 s"),
    ] {
        let told = check(&zone, &record, &wrong);
        assert!(told.iter().any(|t| t == why), "{why}: {told:?}");
        assert!(!told.iter().any(|t| t.contains("198.51.100.1 is")), "{told:?}");
    }
    let answers = [alias.clone(), alias, answer(&["192.0.2.2"]), drained];
    let shares = shares(&zone, &record, &answers);
    let told: Vec<_> =
        shares.iter().map(|s| (s.value.as_str(), s.wanted_percent, s.answered_percent)).collect();
    let alias = "alias lb.example.org (Z1)";
    assert_eq!(told, [("192.0.2.2", 50.0, 25.0), (alias, 50.0, 50.0), ("192.0.2.3", 0.0, 25.0)]);
}

#[test]
fn whatever_an_answer_has_wrong_is_told() {
    let right = answer(&["192.0.2.1"]);
    for ttl_seconds in [30, 20] {
        let answered = Answer { ttl_seconds, ..right.clone() };
        assert_eq!(check(&zone(true), &record(), &answered), Vec::<String>::new());
    }
    for (wrong, why) in [
        (answer(&["192.0.2.3"]), "192.0.2.3 is answered and must not be"),
        (answer(&["192.0.2.1", "192.0.2.2"]), "2 values are answered at once and 1 should be"),
        (answer(&[]), "0 values are answered at once"),
        (Answer { ttl_seconds: 60, ..right.clone() }, "TTL 60 s is answered and should be 30 s"),
        (Answer { ttl_seconds: 19, ..right.clone() }, "TTL 19 s is answered and should be 30 s"),
        (Answer { rcode: Rcode::NXDOMAIN, ..right.clone() }, "it answers NXDOMAIN"),
        (Answer { is_authoritative: false, ..right.clone() }, "without authority"),
    ] {
        let told = check(&zone(true), &record(), &wrong);
        assert!(told.iter().any(|t| t.contains(why)), "{why}: {told:?}");
    }
    // Where weights are not known, all that has weight is answered together.
    assert_eq!(check(&zone(false), &record(), &answer(&["192.0.2.2", "192.0.2.1"])), Vec::<String>::new());
    assert!(check(&zone(false), &record(), &right)[0].contains("1 values are answered at once and 2"));
}

#[test]
fn of_several_values_all_must_be_there_and_the_first_is_drawn_by_weight() {
    let mut record = record();
    record.wanted.answering.answers = Answers::All;
    let both = answer(&["192.0.2.2", "192.0.2.1"]);
    assert_eq!(check(&zone(true), &record, &both), Vec::<String>::new());
    let one = check(&zone(true), &record, &answer(&["192.0.2.1"]));
    assert!(one[0].contains("1 values are answered at once and 2 should be"), "{one:?}");
    let answers = [both.clone(), both, answer(&["192.0.2.1", "192.0.2.2"])];
    let told: Vec<_> = shares(&zone(true), &record, &answers)
        .iter()
        .map(|s| (s.value.clone(), s.wanted_percent, s.answered_percent.round()))
        .collect();
    assert_eq!(told, [("192.0.2.1".into(), 50.0, 33.0), ("192.0.2.2".into(), 50.0, 67.0)]);
}

#[test]
fn a_stable_answer_is_always_the_same_and_its_split_is_not_judged() {
    let mut record = record();
    record.wanted.answering.draws = Draws::Stable;
    let same = [answer(&["192.0.2.2"]), answer(&["192.0.2.2"])];
    assert_eq!(unstable(&same), None);
    let [share] = &shares(&zone(true), &record, &same)[..] else { panic!("one value was answered") };
    assert_eq!((share.wanted_percent, share.answered_percent), (100.0, 100.0));
    let found = unstable(&[answer(&["192.0.2.2"]), answer(&["192.0.2.1"])]).unwrap();
    assert!(found.contains("draws are to be stable"), "{found}");
}

#[test]
fn shares_are_of_the_answers_that_came() {
    let answers = [answer(&["192.0.2.1"]), answer(&["192.0.2.1"]), answer(&["192.0.2.9"])];
    let shares = shares(&zone(true), &record(), &answers);
    let told: Vec<_> =
        shares.iter().map(|s| (s.value.as_str(), s.wanted_percent, s.answered_percent.round())).collect();
    assert_eq!(told, [("192.0.2.1", 50.0, 67.0), ("192.0.2.2", 50.0, 0.0), ("192.0.2.9", 0.0, 33.0)]);
}

#[test]
fn a_split_is_judged_as_the_tables_have_it() {
    // Two values, 60 of 100 instead of 50: chi-square 4, one degree of freedom.
    let p = p_value(&split(&[(50.0, 60.0), (50.0, 40.0)]), 100).unwrap();
    assert!((p - 0.0455).abs() < 1e-4, "{p}");
    // Three values, two degrees of freedom: 5.991 is the five percent point.
    let p = p_value(&split(&[(50.0, 50.0), (30.0, 30.0), (20.0, 20.0)]), 400).unwrap();
    assert!((p - 1.0).abs() < 1e-9, "{p}");
    assert_eq!(p_value(&split(&[(99.0, 99.0), (1.0, 1.0)]), 400), None, "four expected answers say nothing");
    // Beside others they are counted with the next, and the rest is judged: 100 of 100 instead of 50.
    let p = p_value(&split(&[(50.0, 100.0), (49.0, 0.0), (1.0, 0.0)]), 100).unwrap();
    assert!(p < 1e-20, "{p}");
}

fn drawn_as(answered: f64) -> Verified {
    Verified {
        service: "checkout".into(),
        record: String::new(),
        server: String::new(),
        answers: 100,
        values: split(&[(50.0, answered), (50.0, 100.0 - answered)]),
        p_value: None,
        findings: vec![],
        notes: vec![],
    }
}

#[test]
fn of_many_tests_no_one_alone_is_suspected() {
    // Once in 2,000 by chance: too seldom for one, not for a thousand.
    assert_eq!(suspects(&mut [drawn_as(67.5)]), [0]);
    let mut among: Vec<_> = (0..1_000).map(|n| drawn_as(if n == 0 { 67.5 } else { 50.0 })).collect();
    assert_eq!(suspects(&mut among), Vec::<usize>::new());
}

#[test]
fn a_suspect_is_called_wrong_by_its_second_draw() {
    for (second, is_wrong) in [(95.0, true), (52.0, false)] {
        let mut one = drawn_as(95.0);
        confirm(&mut one, &drawn_as(second));
        assert_eq!(one.findings.iter().any(|f| f.contains("not what the weights say")), is_wrong, "{one:?}");
    }
}

#[test]
fn what_changes_meanwhile_is_no_finding() {
    let (before, mut after) = (record(), zone(true));
    assert!(is_same(&before, &after));
    after.records[0].state = RecordState::Pending;
    assert!(!is_same(&before, &after));
    // On its way all the time: nothing came meanwhile, and clients are told the wrong thing.
    let stuck = RecordView { state: RecordState::Pending, ..record() };
    assert!(is_same(&stuck, &after));
    after = zone(true);
    after.records[0].wanted.generation += 1;
    assert!(!is_same(&before, &after));
}
