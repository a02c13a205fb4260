//! Blind, or a witness?

use crate::agent::{http_target, identity, list, start};
use crate::coordinator::{Desk, serve};
use crate::world::{Script, answer, endpoint, nobody};
use drover_model::Span;
use drover_model::decision::OpinionState;
use drover_model::probe::{ProbeTarget, Report, SelfCheck};
use std::net::SocketAddr;
use std::sync::Arc;
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

fn failing(reports: &[Report]) -> Option<SelfCheck> {
    let failing = |r: &&Report| r.opinions.iter().any(|o| o.state == OpinionState::Failing);
    reports.iter().find(failing).map(|r| r.self_check)
}

#[tokio::test]
async fn an_agent_to_which_nothing_answers_is_blind() {
    let (own, _) = endpoint(answer("200 OK", "")).await;
    // Its own region answers, without the network that is in doubt.
    let targets = vec![http_target("shop@us-east", nobody()), http_target("shop@eu-west", own)];
    let (desk, agent, _dir) = reporting(targets, vec![nobody(), nobody()]).await;
    let check = desk.wait_for("failing", failing).await;
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
async fn an_agent_that_loses_its_network_says_so_with_its_first_failing_opinion() {
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
    let check = desk.wait_for("failing", failing).await;
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
    assert!(desk.wait_for("failing", failing).await.blind);
    agent.stop().await;
}
