//! Blind, or a witness?

use crate::agent::{http_target, identity, list, start};
use crate::coordinator::{Desk, serve};
use crate::world::{Script, answer, endpoint, nobody};
use drover_agent::buffer::Buffer;
use drover_agent::clock::{monotonic_now, wall_now};
use drover_agent::ledger::Ledger;
use drover_agent::probe::ProbeResult;
use drover_agent::probe::failure::Failure;
use drover_agent::roster::Rosters;
use drover_agent::state::StateDir;
use drover_model::Span;
use drover_model::decision::OpinionState;
use drover_model::probe::{FailureKind, ProbeTarget, Report, SelfCheck};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

async fn reporting(
    targets: Vec<ProbeTarget>,
    references: Vec<SocketAddr>,
) -> (Arc<Desk>, crate::agent::Running, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let mut list = list("v1", targets);
    list.references = references;
    // So long that only the dark itself can have called for a second look.
    list.reference_interval = Span::from_hours(1);
    let desk = Desk::new(list);
    let url = serve(&desk).await;
    let agent = start(identity(dir.path(), &[&url]));
    (desk, agent, dir)
}

fn holds_failing(report: &Report) -> bool {
    report.opinions.iter().any(|o| o.state == OpinionState::Failing)
}

fn failing(reports: &[Report]) -> Option<SelfCheck> {
    reports.iter().find(|r| holds_failing(r)).map(|r| r.self_check)
}

/// More probes than make a failing opinion ended blindly, and none was formed. Says what the agent thinks of itself.
fn blindly(reports: &[Report]) -> Option<SelfCheck> {
    let blind = reports.iter().flat_map(|r| &r.observations).filter(|o| o.blind && !o.outcome.is_good());
    let last = reports.last().filter(|_| blind.count() > 3)?;
    assert!(!reports.iter().any(holds_failing), "an opinion was formed blindly");
    Some(last.self_check)
}

#[tokio::test]
async fn an_agent_to_which_nothing_answers_is_blind() {
    let (own, _) = endpoint(answer("200 OK", "")).await;
    // Its own region answers, without the network that is in doubt.
    let targets = vec![http_target("shop@us-east", nobody()), http_target("shop@eu-west", own)];
    let (desk, agent, _dir) = reporting(targets, vec![nobody(), nobody()]).await;
    let check = desk.wait_for("blind", blindly).await;
    assert_eq!(check, SelfCheck { references_reached: 0, references: 2, blind: true });
    agent.stop().await;
}

#[tokio::test]
async fn one_reference_or_one_endpoint_outside_is_enough_to_see() {
    let (alive, _) = endpoint(answer("200 OK", "")).await;
    let (desk, agent, _dir) =
        reporting(vec![http_target("shop@us-east", nobody())], vec![nobody(), alive]).await;
    let check = desk.wait_for("failing", failing).await;
    assert_eq!(check, SelfCheck { references_reached: 1, references: 2, blind: false });
    agent.stop().await;
    let targets = vec![http_target("shop@us-east", nobody()), http_target("shop@ap-south", alive)];
    let (desk, agent, _dir) = reporting(targets, vec![nobody()]).await;
    let healthy = |r: &[Report]| crate::agent::holds(r, "shop@ap-south", OpinionState::Healthy);
    desk.wait_for("healthy", healthy).await;
    assert!(!desk.wait_for("failing", failing).await.blind);
    agent.stop().await;
}

#[tokio::test]
async fn without_references_it_never_claims_to_be_blind() {
    let (desk, agent, _dir) = reporting(vec![http_target("shop@us-east", nobody())], Vec::new()).await;
    let check = desk.wait_for("failing", failing).await;
    assert_eq!(check, SelfCheck { references_reached: 0, references: 0, blind: false });
    agent.stop().await;
}

/// Answers until it is cut, and then refuses.
async fn until_cut(cut: &CancellationToken) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let cut = cut.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = cut.cancelled() => return,
                accepted = listener.accept() => {
                    let (mut stream, peer) = accepted.unwrap();
                    tokio::spawn(async move {
                        let seen = crate::world::Seen::default();
                        crate::world::converse(&mut stream, peer, answer("200 OK", ""), &seen).await;
                        let _ = stream.read(&mut [0; 16]).await;
                    });
                }
            }
        }
    });
    address
}

/// The network goes away under an agent that saw everything: it must look at itself before it calls anything failing.
#[tokio::test]
async fn an_agent_that_loses_its_network_says_so_and_calls_nothing_failing() {
    let cut = CancellationToken::new();
    let (endpoint_address, reference) = (until_cut(&cut).await, until_cut(&cut).await);
    let mut target = http_target("shop@us-east", endpoint_address);
    // Three failures take two intervals, which is more than the shortest gap between two looks.
    target.interval = Span::from_secs(1);
    let (desk, agent, _dir) = reporting(vec![target], vec![reference]).await;
    let healthy = |r: &[Report]| {
        crate::agent::holds(r, "shop@us-east", OpinionState::Healthy)?;
        r.last().filter(|r| r.self_check.references_reached == 1).map(drop)
    };
    desk.wait_for("healthy", healthy).await;
    cut.cancel();
    let check = desk.wait_for("blind", blindly).await;
    assert_eq!(check, SelfCheck { references_reached: 0, references: 1, blind: true });
    agent.stop().await;
}

/// Silence is no different from refusal here.
#[tokio::test]
async fn a_silent_endpoint_outside_is_no_light() {
    let (silent, _) = endpoint(Script::Silence).await;
    let mut target = http_target("shop@us-east", silent);
    target.timeout = Span::from_millis(50);
    let (desk, agent, _dir) = reporting(vec![target], vec![nobody()]).await;
    assert!(desk.wait_for("blind", blindly).await.blind);
    agent.stop().await;
}

fn result(good: bool) -> ProbeResult {
    let refused = Failure::new(FailureKind::Refused, "refused");
    ProbeResult {
        began: monotonic_now(),
        began_at: wall_now(),
        latency: Duration::from_millis(1),
        outcome: if good { Ok(()) } else { Err(refused) },
        status: None,
        certificate_expires_at: None,
    }
}

/// What is seen blindly is marked for whoever gets it, however late, and forms no opinion; the first answer from outside
/// counts already.
#[tokio::test]
async fn what_is_seen_blindly_is_marked_and_changes_no_opinion() {
    use OpinionState::{Failing, Healthy};
    let dir = tempfile::tempdir().unwrap();
    let state = Arc::new(StateDir::open(dir.path()).unwrap());
    let rosters = Arc::new(Rosters::new("eu-west-1".parse().unwrap(), "eu-west".parse().unwrap(), state));
    let names = ["shop@ap-south", "shop@eu-west", "shop@us-east"];
    let mut targets = names.map(|name| http_target(name, nobody()));
    targets.iter_mut().for_each(|t| t.interval = Span::from_secs(10));
    rosters.install(list("v1", targets.to_vec())).await.unwrap();
    let roster = rosters.current().unwrap();
    let ledger = Ledger::new(Arc::clone(&rosters), Buffer::new(100, 1));
    let (outside, own, other) = (0, 1, 2);
    // The references are dark, of whom, how it ended, how often, was that blind, and what is held of it then.
    for (at, (dark, whose, good, times, blind, held)) in [
        (false, outside, true, 1, false, Healthy),
        (false, own, true, 1, false, Healthy),
        // The other one still answers, whatever the references do.
        (false, other, true, 1, false, Healthy),
        (true, outside, false, 1, false, Healthy),
        (true, other, false, 5, true, Healthy),
        (true, outside, false, 5, true, Healthy),
        // The own region is reached without the network that is in doubt.
        (true, own, true, 1, true, Healthy),
        (true, own, false, 5, true, Healthy),
        // One failure was seen before, and two now: it takes three.
        (false, outside, false, 2, false, Failing),
        (true, outside, true, 1, false, Failing),
        (true, other, false, 2, false, Healthy),
        (true, other, false, 1, false, Failing),
    ]
    .into_iter()
    .enumerate()
    {
        ledger.set_dark(dark);
        let before = ledger.batch(0, 0).observations.len();
        (0..times).for_each(|_| ledger.record(&roster.targets[whose], result(good)));
        let batch = ledger.batch(0, 0);
        let marks: Vec<bool> = batch.observations[before..].iter().map(|o| o.blind).collect();
        assert_eq!(marks, vec![blind; times], "row {at}");
        let state = batch.opinions.iter().find(|o| o.endpoint.to_string() == names[whose]).map(|o| o.state);
        assert_eq!(state, Some(held), "row {at}");
    }
}
