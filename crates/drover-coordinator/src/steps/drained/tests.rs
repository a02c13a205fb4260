use super::*;
use crate::testbed::{Bed, person};
use drover_exec::{Approved, Origin};
use drover_model::RunId;
use drover_model::journal::Trigger;
use drover_model::sight::{TrafficLevel, TrafficSight};
use std::sync::Arc;

fn target(source: Option<TrafficSource>) -> DrainTarget {
    let endpoint: EndpointKey = "checkout@eu-west".parse().unwrap();
    DrainTarget { endpoint, address: "192.0.2.1".into(), port: 443, source }
}

fn connections(hold: Span) -> TrafficSource {
    TrafficSource { from: TrafficFrom::Connections, drained_below: 5, hold }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds * 1_000)
}

async fn order(bed: &Bed, deadline: Timestamp, declared_at: Timestamp) -> Order {
    let plan = bed.plan().await;
    let (id, run) = (plan.id.clone(), RunId::numbered(1));
    let rto = Span::from_mins(30);
    let origin = Origin { run: run.clone(), by: person(), trigger: Trigger::Command, ask: None, rto };
    Order {
        run,
        epoch: bed.c.db.epoch(),
        plan: Approved::by_command(plan, &id).unwrap(),
        origin: Arc::new(origin),
        index: 0,
        attempt: 1,
        keeps: false,
        declared_at: Some(declared_at),
        began_at: declared_at,
        key: "run-1/drained".into(),
        deadline,
    }
}

/// An agent of the region that counts so many whenever it is asked.
async fn counting(bed: &Bed, thousandths: Option<u64>) {
    let region = "eu-west".parse().unwrap();
    let agent = bed.c.loaded().config.agents().into_iter().find(|(_, at)| *at == region).unwrap().0;
    let mut have = 0;
    loop {
        let asked = bed.c.sights.questions(&agent, &region, have, LOOK_EVERY / 10).await;
        have = asked.as_ref().map_or(have, |list| list.version);
        let traffic = asked.map(|list| list.traffic).unwrap_or_default();
        let level = |thousandths| TrafficLevel::Counted { thousandths };
        let level = thousandths.map_or(TrafficLevel::Unknown { why: "no such file".into() }, level);
        let sights = traffic.iter().map(|q| TrafficSight { question: q.id, level: level.clone() });
        bed.c.sights.take_counts(&agent, &region, sights.collect());
    }
}

/// What the step comes to while an agent counts so many.
async fn ended(
    source: Option<TrafficSource>,
    counts: Option<u64>,
    time: Span,
) -> Result<StepOutcome, StepFailure> {
    let bed = Bed::new().await;
    let target = target(source);
    let now = bed.c.clock.now();
    let order = order(&bed, now + time, now).await;
    let step = act(&bed.c, &order, std::slice::from_ref(&target), Span::from_millis(10));
    tokio::select! {
        ended = step => ended,
        () = counting(&bed, counts) => panic!("it counts for ever"),
    }
}

#[tokio::test]
async fn without_a_source_it_is_assumed_of_the_time_and_says_so() {
    let ended = ended(None, None, Span::from_mins(1)).await.unwrap();
    let drained = &ended.measurements[0];
    assert_eq!(drained.outcome, CheckOutcome::Noted);
    assert!(drained.as_drained().unwrap().1 && drained.bound.starts_with("assumed"), "{drained:?}");
}

#[tokio::test]
async fn traffic_below_the_threshold_for_its_hold_is_drained() {
    let source = connections(Span::from_millis(100));
    let ended = ended(Some(source), Some(4_000), Span::from_mins(1)).await.unwrap();
    let (drained, is_assumed) = ended.measurements[0].as_drained().unwrap();
    assert!(!is_assumed && drained > at(0), "{ended:?}");
    assert_eq!(ended.measurements[0].bound, "below 5 connections for 100ms");
}

#[tokio::test]
async fn traffic_that_stays_is_named_with_its_level() {
    let failure = ended(Some(connections(Span::ZERO)), Some(5_000), Span::from_secs(3)).await.unwrap_err();
    assert_eq!(failure.kind, FailureNature::Permanent);
    assert_eq!(
        failure.message,
        "not drained: traffic checkout@eu-west 5 connections (below 5 connections for 0s)"
    );
}

#[tokio::test]
async fn what_can_not_be_counted_is_not_drained() {
    let failure = ended(Some(connections(Span::ZERO)), None, Span::from_secs(3)).await.unwrap_err();
    assert_eq!(failure.kind, FailureNature::Inconclusive);
    assert!(failure.message.contains("no such file"), "{}", failure.message);
}

#[test]
fn an_answer_of_prometheus_is_summed_and_nothing_is_no_number() {
    let vector = |result: &str| {
        format!(r#"{{"status":"success","data":{{"resultType":"vector","result":[{result}]}}}}"#)
    };
    let sample = |value: &str| format!(r#"{{"metric":{{}},"value":[1435781451.781,"{value}"]}}"#);
    let of = |text: String| level(text.as_bytes());
    assert_eq!(of(vector(&format!("{},{}", sample("0.25"), sample("3")))), Ok(3_250));
    assert_eq!(of(vector("")).unwrap_err(), "the query gives nothing");
    assert_eq!(of(vector(&sample("NaN"))).unwrap_err(), "the query gives NaN");
    let scalar = r#"{"status":"success","data":{"resultType":"scalar","result":[1.5,"2"]}}"#;
    assert_eq!(of(scalar.to_owned()), Ok(2_000));
    let bad = r#"{"status":"error","errorType":"bad_data","error":"parse error"}"#;
    assert_eq!(of(bad.to_owned()).unwrap_err(), "parse error");
    assert!(of("<html>".to_owned()).is_err());
}
