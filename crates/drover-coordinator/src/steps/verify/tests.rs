use super::*;
use crate::testbed::Bed;
use crate::zone::tests::published;
use drover_model::sight::{Seen, ServerSight, Sight};
use drover_model::{RegionId, Span};

/// For one attempt.
const ATTEMPT: Span = Span::from_secs(2);

/// No step may have more.
const LAST_ATTEMPT: u32 = 20;

/// What this vantage answers to whatever it is asked.
async fn says(c: &Coordinator, agent: &AgentId, region: &RegionId, seen: Seen) {
    let mut have = 0;
    loop {
        let asked = c.sights.questions(agent, region, have, Duration::from_millis(50)).await;
        let Some(list) = asked else { continue };
        have = list.version;
        let server = |name: &str| ServerSight { server: name.into(), udp: seen.clone(), tcp: seen.clone() };
        let servers: Vec<ServerSight> = list.servers.iter().map(|s| server(&s.name)).collect();
        let sight = |question| Sight { question, servers: servers.clone() };
        c.sights.take(agent, list.questions.iter().map(|q| sight(q.id)).collect());
    }
}

/// What the step comes to while so many vantages outside of the region say this, and the others what they should.
async fn ended(
    bed: &Bed,
    purpose: Purpose,
    attempt: u32,
    liars: usize,
    seen: &Seen,
) -> Result<StepOutcome, StepFailure> {
    let mut order = bed.order().await;
    let mut plan = drover_model::plan::Plan::clone(&order.plan);
    plan.intent.purpose = purpose;
    let (id, region) = (plan.id.clone(), plan.intent.region.clone());
    let index = plan.steps.iter().position(|s| s.kind.word() == "verify_dns").unwrap();
    order.plan = drover_exec::Approved::by_command(plan, &id).unwrap();
    (order.index, order.attempt) = (u32::try_from(index).unwrap(), attempt);
    order.deadline = bed.c.clock.now() + ATTEMPT;
    let config = bed.c.loaded().config.clone();
    let outside = config.outside_vantages(&region);
    let agents = config.agents();
    let vantages = outside.iter().enumerate().map(|(n, agent)| {
        let seen = if n < liars { seen.clone() } else { Seen::Wanted };
        says(&bed.c, agent, &agents[agent], seen)
    });
    let standing: Vec<TrafficChange> = {
        let expected = order.plan.expected_by(&order.step().kind).unwrap();
        let live = bed.c.live().traffic.clone();
        let as_it_stands = |change: &TrafficChange| TrafficChange {
            to_generation: live[&change.service].generation,
            weights_after: live[&change.service].weights.clone(),
            ..change.clone()
        };
        expected.iter().map(as_it_stands).collect()
    };
    let step = async {
        // They listen before it asks.
        tokio::time::sleep(Duration::from_millis(20)).await;
        dns(&bed.c, &order, &standing).await
    };
    tokio::select! {
        biased;
        _ = futures::future::join_all(vantages) => panic!("they answer for ever"),
        ended = step => ended,
    }
}

fn old() -> Seen {
    Seen::Other { found: "generation 0".into(), is_old: true }
}

#[tokio::test]
async fn one_vantage_that_lies_holds_a_failover_for_one_attempt_and_fails_nothing() {
    let (bed, _dns) = published().await;
    let went_on = ended(&bed, Purpose::Failover, 1, 1, &old()).await.unwrap();
    let exception = went_on.exception.unwrap();
    assert!(exception.contains("sees generation 0 of"), "{exception}");
    let told = went_on.measurements.last().unwrap();
    assert_eq!((told.name.as_str(), told.outcome), ("DNS from vantages", CheckOutcome::Noted));
    let again = ended(&bed, Purpose::Drain, 1, 1, &old()).await.unwrap_err();
    assert_eq!(again.kind, FailureNature::Retryable, "nothing presses here");
    assert!(ended(&bed, Purpose::Drain, LAST_ATTEMPT, 1, &old()).await.unwrap().exception.is_some());
}

#[tokio::test]
async fn a_quorum_of_vantages_that_sees_the_old_set_stops_the_run() {
    let (bed, _dns) = published().await;
    let need = drover_core::quorum::need_of(&bed.c.loaded().config, &"us-east".parse().unwrap(), &[]);
    let failure = ended(&bed, Purpose::Failover, 5, need as usize, &old()).await.unwrap_err();
    assert!(failure.message.starts_with("not seen everywhere: "), "{}", failure.message);
    let fewer = ended(&bed, Purpose::Failover, 5, need as usize - 1, &old()).await.unwrap();
    assert!(fewer.exception.is_some());
}

#[tokio::test]
async fn what_stands_between_or_was_told_before_the_run_is_named_and_holds_nothing() {
    let (bed, _dns) = published().await;
    let refused = Seen::Other { found: "REFUSED".into(), is_old: false };
    let went_on = ended(&bed, Purpose::Drain, 1, 3, &refused).await.unwrap();
    assert_eq!(went_on.exception, None);
    assert!(went_on.summary.contains("sees REFUSED of"), "{}", went_on.summary);
    let agents = bed.c.loaded().config.agents().into_keys();
    let servers = bed.c.loaded().config.settings.dns.clone().unwrap();
    for agent in agents {
        for (server, _) in servers.answering() {
            bed.c.live().contradict(agent.as_str(), server, drover_model::Timestamp::from_millis(0));
        }
    }
    assert_eq!(ended(&bed, Purpose::Failover, 1, 3, &old()).await.unwrap().exception, None);
}
