use super::*;
use crate::fixture::{Fixture, NOW, endpoint, region};
use drover_model::AgentId;
use proptest::prelude::*;

const INTERVAL: Span = Span::from_secs(30);
const VANTAGES: [&str; 4] = ["ap-south-1", "eu-west-1", "tower-1", "us-east-1"];
const ENDPOINTS: [&str; 3] = ["checkout@ap-south", "checkout@eu-west", "checkout@us-east"];

/// How a probe of `endpoint` by `vantage` in round `n` ends, and what is true of the endpoint then.
type World<'a> = &'a dyn Fn(u64, &str, &str) -> (Seen, Label);

#[derive(Clone, Copy, PartialEq)]
enum Seen {
    Good,
    Failed,
    /// Takes two seconds.
    Slowly,
    /// Nothing is heard of the vantage.
    Nothing,
    /// Failed, and the vantage reaches nothing else either.
    Blindly,
}

fn config(change: impl FnOnce(&mut Fixture)) -> (Config, BTreeMap<Purpose, LoadedRunbook>) {
    let mut fixture = Fixture::three_regions_and_witness();
    fixture.config().services.retain(|name, _| name.as_str() == "checkout");
    let checkout = fixture.service("checkout");
    checkout.interval = INTERVAL;
    checkout.failover.failure_window = Span::from_mins(5);
    change(&mut fixture);
    let world = fixture.world();
    (Config::clone(&world.config), BTreeMap::clone(&world.runbooks))
}

fn rows(rounds: u64, world: World<'_>) -> Vec<Row> {
    let mut rows = vec![];
    for n in 0..rounds {
        for vantage in VANTAGES {
            for key in ENDPOINTS {
                let (seen, label) = world(n, vantage, key);
                if seen == Seen::Nothing {
                    continue;
                }
                rows.push(Row {
                    at: NOW + INTERVAL.times(n),
                    age: Span::ZERO,
                    vantage: vantage.parse::<AgentId>().unwrap(),
                    endpoint: endpoint(key),
                    failure: matches!(seen, Seen::Failed | Seen::Blindly).then_some(FailureKind::TimedOut),
                    latency: (seen == Seen::Slowly).then_some(Span::from_secs(2)),
                    blind: seen == Seen::Blindly,
                    label: Some(label),
                });
            }
        }
    }
    rows
}

fn run(change: impl FnOnce(&mut Fixture), rows: &[Row]) -> Findings {
    let (config, runbooks) = config(change);
    let mut backtest = Backtest::new(config, runbooks);
    rows.iter().for_each(|row| backtest.take(row));
    backtest.finish()
}

/// eu-west is down from round 20 to round 60.
fn an_outage(n: u64, _: &str, key: &str) -> (Seen, Label) {
    let out = key == "checkout@eu-west" && (20..60).contains(&n);
    if out { (Seen::Failed, Label::Outage) } else { (Seen::Good, Label::Fine) }
}

/// us-east loses everything on its way out in rounds 20 to 60, and nothing is wrong with anybody.
fn one_cut_off(n: u64, vantage: &str, key: &str) -> (Seen, Label) {
    let lost = vantage == "us-east-1" && key != "checkout@us-east" && (20..60).contains(&n);
    (if lost { Seen::Failed } else { Seen::Good }, Label::Fine)
}

#[test]
fn an_outage_is_left_once_told_right_and_brought_back() {
    let found = run(|_| (), &rows(200, &an_outage));
    let t = found.totals;
    assert_eq!((t.failovers, t.failovers_right, t.questions, t.failbacks), (1, 1, 0, 1), "{found:#?}");
    assert_eq!((t.outages, t.outages_moved, t.outages_missed), (1, 1, 0));
    let event = &found.events[0];
    // The third failure in a row is two intervals after the first.
    assert_eq!(event.at, NOW + INTERVAL.times(22));
    assert_eq!(
        (&event.region, event.rightness),
        (&region("eu-west"), Rightness::Right { delay: INTERVAL.times(2) })
    );
    assert!(event.back_at > found.outages[0].ended_at, "{event:?}");
    assert_eq!((t.outage_time, t.exposed_time), (INTERVAL.times(40), INTERVAL.times(2)));
    let delays = Delays { median: INTERVAL.times(2), longest: INTERVAL.times(2) };
    assert_eq!(found.delays(), Some(delays));
}

#[test]
fn a_laxer_policy_is_later_and_the_laxest_misses_it() {
    let with = |threshold| {
        move |f: &mut Fixture| {
            let failover = &mut f.service("checkout").failover;
            (failover.failure_threshold, failover.failure_window) = (threshold, Span::from_hours(1));
            failover.gray_min_samples = 1_000;
        }
    };
    let history = rows(200, &an_outage);
    let late = run(with(20), &history);
    assert_eq!(late.outages[0].delay, Some(INTERVAL.times(19)));
    assert_eq!(late.totals.exposed_time, INTERVAL.times(19));
    let missed = run(with(50), &history);
    assert_eq!((missed.totals.failovers, missed.totals.outages_missed), (0, 1));
    assert_eq!(missed.totals.exposed_time, missed.totals.outage_time);
    assert_eq!(missed.delays(), None);
}

#[test]
fn one_vantage_moves_nothing_and_two_that_lose_packets_are_a_false_failover() {
    assert_eq!(run(|_| (), &rows(100, &one_cut_off)).events, []);
    let two = |n: u64, vantage: &str, key: &str| {
        let lost =
            matches!(vantage, "us-east-1" | "tower-1") && key == "checkout@eu-west" && (20..60).contains(&n);
        (if lost { Seen::Failed } else { Seen::Good }, Label::Fine)
    };
    let found = run(|_| (), &rows(100, &two));
    assert_eq!((found.totals.failovers, found.totals.failovers_wrong), (1, 1), "{found:#?}");
    assert_eq!(found.events[0].rightness, Rightness::Wrong);
}

#[test]
fn the_blind_and_the_silent_are_no_witnesses() {
    for sees in [Seen::Blindly, Seen::Nothing] {
        let two = |n: u64, vantage: &str, _: &str| {
            let lost = matches!(vantage, "us-east-1" | "tower-1") && (20..60).contains(&n);
            (if lost { sees } else { Seen::Good }, Label::Fine)
        };
        assert_eq!(run(|_| (), &rows(100, &two)).events, []);
    }
}

/// A broken link of one vantage's is no failover, also not just after another could not see at all: what that one saw
/// then leaves no vote behind.
#[test]
fn who_was_blind_brings_no_vote_along() {
    let world = |n: u64, vantage: &str, key: &str| {
        let seen = match (vantage, key) {
            ("us-east-1", _) if (20..40).contains(&n) => Seen::Blindly,
            ("tower-1", "checkout@eu-west") if (30..60).contains(&n) => Seen::Failed,
            _ => Seen::Good,
        };
        (seen, Label::Fine)
    };
    assert_eq!(run(|_| (), &rows(100, &world)).events, []);
}

#[test]
fn a_policy_that_asks_is_told_by_its_questions() {
    let found = run(|f| f.service("checkout").failover.automatic = false, &rows(200, &an_outage));
    let t = found.totals;
    assert_eq!((t.failovers, t.outages_asked, t.outages_moved), (0, 1, 0), "{found:#?}");
    // Once, and then after the pauses that an unanswered question is asked again by.
    assert!(t.questions_right >= 1 && t.questions_right == t.questions, "{found:#?}");
    assert_eq!(t.exposed_time, t.outage_time, "nothing was moved");
}

#[test]
fn a_question_just_after_an_outage_is_counted_as_late() {
    // Out for two rounds and labelled so; what the vantages see goes on for a while.
    let world = |n: u64, _: &str, key: &str| {
        let seen = if key == "checkout@eu-west" && (20..24).contains(&n) { Seen::Failed } else { Seen::Good };
        let out = key == "checkout@eu-west" && (20..22).contains(&n);
        (seen, if out { Label::Outage } else { Label::Fine })
    };
    let t = run(|f| f.service("checkout").failover.automatic = false, &rows(60, &world)).totals;
    assert_eq!((t.questions, t.questions_late, t.questions_right, t.questions_wrong), (1, 1, 0, 0));
}

#[test]
fn what_is_slow_fails_where_the_policy_says_how_slow_is_too_slow() {
    let slow = |n: u64, _: &str, key: &str| match an_outage(n, "", key) {
        (Seen::Failed, label) => (Seen::Slowly, label),
        fine => fine,
    };
    let history = rows(100, &slow);
    assert_eq!(run(|_| (), &history).totals.outages_missed, 1);
    let strict = |f: &mut Fixture| {
        let max_latency = Some(Span::from_secs(1));
        f.service("checkout").check = HealthCheck::Tcp(drover_model::config::TcpCheck { max_latency });
    };
    assert_eq!(run(strict, &history).totals.outages_moved, 1);
}

#[test]
fn what_was_recorded_as_too_slow_is_judged_by_the_policy_that_is_tried() {
    let mut history = rows(100, &an_outage);
    for row in history.iter_mut().filter(|row| row.failure.is_some()) {
        (row.failure, row.latency) = (Some(FailureKind::TooSlow), Some(Span::from_secs(2)));
    }
    let allowing = |max_latency| {
        move |f: &mut Fixture| {
            f.service("checkout").check = HealthCheck::Tcp(drover_model::config::TcpCheck { max_latency });
        }
    };
    let moved = |max_latency, history: &[Row]| run(allowing(max_latency), history).totals.outages_moved;
    let seconds = |seconds| Some(Span::from_secs(seconds));
    assert_eq!(moved(seconds(1), &history), 1);
    assert_eq!((moved(seconds(2), &history), moved(None, &history)), (0, 0), "two seconds are allowed");
    // How long it took is not known: what was said of it stands.
    history.iter_mut().for_each(|row| row.latency = None);
    assert_eq!(moved(seconds(2), &history), 1);
    // What else was wrong is no matter of time.
    let refused = |row: &Row| Row {
        failure: row.failure.map(|_| FailureKind::Refused),
        latency: Some(Span::ZERO),
        ..row.clone()
    };
    assert_eq!(moved(seconds(2), &history.iter().map(refused).collect::<Vec<_>>()), 1);
}

#[test]
fn an_endpoint_that_carries_nothing_is_sheltered() {
    let twice = |n: u64, _: &str, key: &str| {
        let out = key == "checkout@eu-west" && ((20..60).contains(&n) || (65..70).contains(&n));
        if out { (Seen::Failed, Label::Outage) } else { (Seen::Good, Label::Fine) }
    };
    let found = run(|_| (), &rows(200, &twice));
    let ends: Vec<OutageEnd> = found.outages.iter().map(|o| o.end).collect();
    assert_eq!(ends, [OutageEnd::Moved, OutageEnd::Sheltered]);
    assert_eq!(found.outages[1].exposed, Span::ZERO);
}

#[test]
fn a_history_without_labels_is_counted_and_not_judged() {
    let mut history = rows(100, &an_outage);
    history.iter_mut().for_each(|row| row.label = None);
    let found = run(|_| (), &history);
    assert!(!found.labelled);
    assert_eq!(
        (found.totals.failovers, found.totals.failovers_right, found.totals.failovers_wrong),
        (1, 0, 0)
    );
    assert_eq!(found.events[0].rightness, Rightness::Unlabelled);
}

#[test]
fn rows_of_nobody_count_for_nothing_and_are_told() {
    cov_mark::check!(backtest_row_of_nobody);
    let mut history = rows(100, &an_outage);
    let stranger = Row { vantage: "mars-1".parse().unwrap(), ..history[0].clone() };
    let elsewhere = Row { endpoint: endpoint("checkout@mars"), ..history[0].clone() };
    let without = run(|_| (), &history);
    history.extend([stranger, elsewhere]);
    assert_eq!(run(|_| (), &history), Findings { ignored: 2, ..without });
}

#[test]
fn a_history_of_one_endpoint_knows_no_other_to_move_to_and_says_so() {
    let mut history = rows(100, &an_outage);
    history.retain(|row| row.endpoint == endpoint("checkout@eu-west"));
    let found = run(|_| (), &history);
    assert_eq!(found.unseen, [endpoint("checkout@ap-south"), endpoint("checkout@us-east")]);
    assert_eq!((found.totals.failovers, found.totals.outages_missed), (0, 1), "{found:#?}");
    assert_eq!(run(|_| (), &rows(100, &an_outage)).unseen, []);
}

#[test]
fn a_failover_of_two_services_is_over_when_both_are_back() {
    let of = |service: &str, rounds: std::ops::Range<u64>| {
        let world = |n: u64, _: &str, key: &str| {
            let out = key == "checkout@eu-west" && rounds.contains(&n);
            if out { (Seen::Failed, Label::Outage) } else { (Seen::Good, Label::Fine) }
        };
        let service: ServiceId = service.parse().unwrap();
        let of_service = |row: Row| Row { endpoint: EndpointKey::new(&service, &row.endpoint.region), ..row };
        rows(300, &world).into_iter().map(of_service).collect::<Vec<Row>>()
    };
    let history_of = |catalog_until| {
        let mut history = [of("checkout", 20..60), of("catalog", 20..catalog_until)].concat();
        // One vantage alone sees it at first, so that both are down at the moment when another may speak again.
        for row in history.iter_mut().filter(|row| row.vantage.as_str() != "us-east-1") {
            row.blind = (NOW + INTERVAL.times(20)..NOW + INTERVAL.times(40)).contains(&row.at);
        }
        history.sort_by_key(|row| row.at);
        history
    };
    let both = |f: &mut Fixture| {
        let mut catalog = Fixture::three_regions_and_witness().service("catalog").clone();
        catalog.interval = INTERVAL;
        f.config().services.insert(catalog.name.clone(), catalog);
    };
    let found = run(both, &history_of(150));
    let [event] = found.events.as_slice() else { panic!("{found:#?}") };
    assert_eq!((event.services.len(), found.totals.failbacks), (2, 2), "{found:#?}");
    assert!(event.back_at > Some(NOW + INTERVAL.times(150)), "{event:?}");
    let never = run(both, &history_of(300));
    assert_eq!((never.events[0].back_at, never.totals.failbacks), (None, 1), "{never:#?}");
}

#[test]
fn the_whole_world_at_once_is_asked_about() {
    let all = |n: u64, vantage: &str, key: &str| {
        let lost = !key.ends_with(vantage.trim_end_matches("-1")) && (20..60).contains(&n);
        (if lost { Seen::Failed } else { Seen::Good }, Label::Fine)
    };
    let found = run(|_| (), &rows(100, &all));
    assert_eq!(found.totals.failovers, 0, "the breaker: {found:#?}");
}

proptest! {
    /// However the probes end, no single vantage makes a failover (I6), every failover and outage is counted once, and
    /// what hurt is never more than there was.
    #[test]
    fn the_sums_are_right(bits in proptest::collection::vec(0u8..16, 120), who in 0usize..4) {
        let world = |n: u64, vantage: &str, key: &str| {
            let bits = bits[n as usize];
            let out = bits & 1 == 1 && key == "checkout@eu-west";
            let lies = bits & 6 == 2 && vantage == VANTAGES[who];
            (if out || lies { Seen::Failed } else { Seen::Good }, if out { Label::Outage } else { Label::Fine })
        };
        let found = run(|_| (), &rows(120, &world));
        let t = found.totals;
        prop_assert!(found.events.iter().all(|e| e.region.as_str() == "eu-west"), "{:#?}", found.events);
        prop_assert_eq!(t.failovers, t.failovers_right + t.failovers_late + t.failovers_wrong);
        prop_assert_eq!(t.questions, t.questions_right + t.questions_late + t.questions_wrong);
        prop_assert_eq!(t.outages, t.outages_moved + t.outages_asked + t.outages_sheltered + t.outages_missed);
        prop_assert!(t.exposed_time <= t.outage_time);
        prop_assert_eq!(found.events.len() as u64, t.failovers + t.questions);
    }
}
