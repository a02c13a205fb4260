//! A whole agent between real endpoints and real coordinators: what it reports, what it survives, what it keeps.

use crate::coordinator::{Desk, serve, serve_unix};
use crate::world::{HANG_GUARD, Script, answer, endpoint, http_check, nobody, spec};
use drover_agent::{AgentError, AgentStatus, Identity};
use drover_model::Span;
use drover_model::config::HealthCheck;
use drover_model::decision::OpinionState;
use drover_model::probe::{ProbeList, ProbeTarget, Report};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A list that reports every 20 ms, unless a test wants otherwise.
pub fn list(version: &str, targets: Vec<ProbeTarget>) -> ProbeList {
    ProbeList {
        config_version: version.to_owned(),
        agent: "eu-west-1".parse().unwrap(),
        region: "eu-west".parse().unwrap(),
        source_address: None,
        targets,
        references: Vec::new(),
        reference_interval: Span::from_secs(30),
        report_interval: Span::from_millis(20),
    }
}

pub fn http_target(endpoint: &str, address: SocketAddr) -> ProbeTarget {
    spec(endpoint, address, HealthCheck::Http(http_check()))
}

pub struct Running {
    stop: CancellationToken,
    task: JoinHandle<Result<(), AgentError>>,
}

impl Running {
    pub async fn stop(self) {
        self.stop.cancel();
        let ended = tokio::time::timeout(Duration::from_secs(5), self.task).await;
        ended.expect("it stops in time").unwrap().unwrap();
    }
}

pub fn identity(state_dir: &Path, coordinators: &[&str]) -> Identity {
    let urls = coordinators.iter().map(|u| u.parse().unwrap()).collect();
    Identity::new("eu-west-1".parse().unwrap(), "eu-west".parse().unwrap(), urls, state_dir.to_owned())
}

pub fn start(identity: Identity) -> Running {
    let stop = CancellationToken::new();
    let task = tokio::spawn(drover_agent::run(identity, stop.clone()));
    Running { stop, task }
}

/// The newest word on `endpoint`.
pub fn opinion(reports: &[Report], endpoint: &str) -> Option<(OpinionState, u32)> {
    let opinions = reports.iter().rev().flat_map(|r| &r.opinions);
    opinions.into_iter().find(|o| o.endpoint.to_string() == endpoint).map(|o| (o.state, o.streak))
}

pub fn holds(reports: &[Report], endpoint: &str, state: OpinionState) -> Option<()> {
    (opinion(reports, endpoint)?.0 == state).then_some(())
}

async fn status(state_dir: &Path) -> AgentStatus {
    let asking = async {
        loop {
            let address = std::fs::read_to_string(state_dir.join("status.address"));
            if let Ok(address) = address
                && let Ok(answer) = get(&address, "/v1/agent").await
            {
                return serde_json::from_str(&answer).unwrap();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(HANG_GUARD, asking).await.expect("the status answers")
}

async fn get(address: &str, path: &str) -> std::io::Result<String> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(address).await?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: agent\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
    assert!(head.contains(" 200 "), "{head}");
    Ok(body.to_owned())
}

#[tokio::test]
async fn it_pulls_its_list_probes_and_reports() {
    let dir = tempfile::tempdir().unwrap();
    let (alive, _) = endpoint(answer("200 OK", "")).await;
    let desk = Desk::new(list(
        "v1",
        vec![http_target("shop@us-east", alive), http_target("shop@ap-south", nobody())],
    ));
    let url = serve(&desk).await;
    let agent = start(identity(dir.path(), &[&url]));
    desk.wait_for("healthy", |r| holds(r, "shop@us-east", OpinionState::Healthy)).await;
    desk.wait_for("failing", |r| holds(r, "shop@ap-south", OpinionState::Failing)).await;
    agent.stop().await;
    let reports = desk.reports();
    let last = reports.last().unwrap();
    assert_eq!((last.config_version.as_str(), last.dropped, last.agent.as_str()), ("v1", 0, "eu-west-1"));
    assert_eq!(desk.pulls.load(Ordering::SeqCst), 1, "one pull is enough");
    let sequences = desk.sequences();
    assert!(sequences.iter().copied().eq(1..=sequences.len() as u64), "{sequences:?}");
}

/// With a report interval of a minute only the change itself can have sent the report.
#[tokio::test]
async fn a_changed_opinion_is_reported_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut slow = list("v1", vec![http_target("shop@us-east", nobody())]);
    slow.report_interval = Span::from_mins(1);
    let desk = Desk::new(slow);
    let url = serve(&desk).await;
    let agent = start(identity(dir.path(), &[&url]));
    let began = std::time::Instant::now();
    desk.wait_for("failing", |r| holds(r, "shop@us-east", OpinionState::Failing)).await;
    assert!(began.elapsed() < Duration::from_secs(20));
    agent.stop().await;
}

#[tokio::test]
async fn nothing_is_lost_while_cut_off_and_all_of_it_arrives_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let (alive, _) = endpoint(answer("200 OK", "")).await;
    let targets = (0..5).map(|i| http_target(&format!("s{i}@us-east"), alive)).collect();
    let desk = Desk::new(list("v1", targets));
    let url = serve(&desk).await;
    let mut with_status = identity(dir.path(), &[&url]);
    with_status.status = Some("127.0.0.1:0".parse().unwrap());
    let agent = start(with_status);
    desk.wait_for("the first results", |r| {
        (r.iter().map(|r| r.observations.len()).sum::<usize>() > 10).then_some(())
    })
    .await;
    desk.cut_off(true);
    let before = status(dir.path()).await;
    let cut_off = async {
        loop {
            let now = status(dir.path()).await;
            if now.observations > before.observations + 50 {
                return now;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let meanwhile = tokio::time::timeout(HANG_GUARD, cut_off).await.unwrap();
    assert!(meanwhile.buffered >= 50 && meanwhile.dropped == 0, "{meanwhile:?}");
    assert!(meanwhile.coordinators[0].error.as_ref().unwrap().contains("503"), "{meanwhile:?}");
    let heard = desk.reports().len();
    desk.cut_off(false);
    desk.wait_for("what waited", |r| {
        let last = r.iter().flat_map(|r| &r.observations).last()?;
        (last.sequence > meanwhile.observations).then_some(())
    })
    .await;
    agent.stop().await;
    let sequences = desk.sequences();
    assert!(sequences.iter().copied().eq(1..=sequences.len() as u64), "{sequences:?}");
    let back = &desk.reports()[heard];
    assert_eq!(back.opinions.len(), 5, "a coordinator that was away is told every opinion");
    assert!(back.observations[0].age >= Span::from_millis(500), "late results say how old they are");
}

#[tokio::test]
async fn a_full_buffer_drops_the_oldest_and_says_how_many() {
    let dir = tempfile::tempdir().unwrap();
    let (alive, _) = endpoint(answer("200 OK", "")).await;
    let targets = (0..5).map(|i| http_target(&format!("s{i}@us-east"), alive)).collect();
    let desk = Desk::new(list("v1", targets));
    let url = serve(&desk).await;
    let mut small = identity(dir.path(), &[&url]);
    small.buffer_observations_max = 20;
    let agent = start(small);
    desk.wait_for("the first results", |r| r.iter().any(|r| !r.observations.is_empty()).then_some(())).await;
    desk.cut_off(true);
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    desk.cut_off(false);
    desk.wait_for("a gap", |r| r.last().filter(|r| r.dropped > 0).map(drop)).await;
    agent.stop().await;
    let sequences = desk.sequences();
    assert!(sequences.is_sorted());
    let dropped = desk.reports().last().unwrap().dropped;
    let missing = sequences.last().unwrap() - sequences.iter().collect::<BTreeSet<_>>().len() as u64;
    // One that was on its way while it was dropped may have arrived nevertheless.
    assert!(missing > 0 && missing <= dropped, "{missing} are missing and {dropped} were dropped");
    assert!(desk.reports().iter().all(|r| r.observations.len() <= 20));
}

/// The answer got lost, so the agent cannot know that the report arrived: it sends the same numbers again.
#[tokio::test]
async fn a_lost_answer_repeats_the_same_sequence() {
    let dir = tempfile::tempdir().unwrap();
    let (alive, _) = endpoint(answer("200 OK", "")).await;
    let desk = Desk::new(list("v1", vec![http_target("shop@us-east", alive)]));
    let url = serve(&desk).await;
    let agent = start(identity(dir.path(), &[&url]));
    desk.wait_for("results", |r| r.iter().any(|r| !r.observations.is_empty()).then_some(())).await;
    desk.loses_answers.store(true, Ordering::SeqCst);
    let heard = desk.reports().len();
    let repeated = desk.wait_for("a repetition", |r| {
        let with: Vec<_> = r[heard..].iter().filter(|r| !r.observations.is_empty()).collect();
        (with.len() >= 2).then(|| (with[0].observations[0].clone(), with[1].observations[0].clone()))
    });
    let (first, second) = repeated.await;
    assert_eq!((first.sequence, first.began_at), (second.sequence, second.began_at));
    assert!(second.age > first.age, "the age is counted anew");
    agent.stop().await;
}

#[tokio::test]
async fn after_a_restart_it_goes_on_without_any_coordinator() {
    cov_mark::check!(i12_agent_keeps_its_list);
    let dir = tempfile::tempdir().unwrap();
    let (alive, _) = endpoint(answer("200 OK", "")).await;
    let desk = Desk::new(list("v1", vec![http_target("shop@us-east", alive)]));
    let url = serve(&desk).await;
    let agent = start(identity(dir.path(), &[&url]));
    desk.wait_for("healthy", |r| holds(r, "shop@us-east", OpinionState::Healthy)).await;
    agent.stop().await;
    let first = desk.reports().last().unwrap().clone();

    let mut alone = identity(dir.path(), &[&format!("http://{}", nobody())]);
    alone.status = Some("127.0.0.1:0".parse().unwrap());
    let agent = start(alone);
    let probing = async {
        loop {
            let now = status(dir.path()).await;
            if now.opinions.iter().any(|o| o.state == OpinionState::Healthy) {
                return now;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let now = tokio::time::timeout(HANG_GUARD, probing).await.unwrap();
    assert!(now.boot_number > first.boot_number && now.boot != first.boot);
    assert_eq!((now.config_version.as_str(), now.coordinators[0].last_ok_ms_ago), ("v1", None));
    assert!(now.coordinators[0].error.is_some() && now.buffered > 0);
    let address = std::fs::read_to_string(dir.path().join("status.address")).unwrap();
    let metrics = get(&address, "/metrics").await.unwrap();
    assert!(metrics.contains("drover_agent_targets 1\n"), "{metrics}");
    assert!(metrics.contains("drover_agent_opinions{state=\"healthy\"} 1\n"), "{metrics}");
    agent.stop().await;
}

#[tokio::test]
async fn a_new_list_keeps_the_opinions_of_what_is_probed_as_before() {
    let dir = tempfile::tempdir().unwrap();
    let (alive, _) = endpoint(answer("200 OK", "")).await;
    let (kept, moved) = (http_target("kept@us-east", alive), http_target("moved@us-east", alive));
    let desk = Desk::new(list("v1", vec![kept.clone(), moved.clone(), http_target("gone@us-east", alive)]));
    let url = serve(&desk).await;
    let agent = start(identity(dir.path(), &[&url]));
    let well = |r: &[Report], name| opinion(r, name).filter(|(s, n)| *s == OpinionState::Healthy && *n >= 10);
    desk.wait_for("two streaks", |r| well(r, "kept@us-east").and(well(r, "moved@us-east")).map(drop)).await;
    let mut judged_otherwise = kept.clone();
    judged_otherwise.policy.failure_threshold = 7;
    let mut probed_otherwise = moved.clone();
    probed_otherwise.host = "other.example".to_owned();
    *desk.list.lock().unwrap() = list("v2", vec![judged_otherwise, probed_otherwise]);
    let at_v2 =
        |r: &[Report]| -> Vec<Report> { r.iter().filter(|r| r.config_version == "v2").cloned().collect() };
    desk.wait_for("both anew", |r| {
        let r = at_v2(r);
        opinion(&r, "kept@us-east").and(opinion(&r, "moved@us-east")).map(drop)
    })
    .await;
    agent.stop().await;
    let reports = at_v2(&desk.reports());
    let first = |name: &str| {
        reports.iter().flat_map(|r| &r.opinions).find(|o| o.endpoint.to_string() == name).unwrap().clone()
    };
    assert!(first("kept@us-east").streak >= 10, "{:?}", first("kept@us-east"));
    assert!(first("moved@us-east").streak < 10, "{:?}", first("moved@us-east"));
    assert_eq!(opinion(&reports, "gone@us-east"), None);
}

#[tokio::test]
async fn a_list_for_somebody_else_is_refused_and_the_old_one_stays() {
    let dir = tempfile::tempdir().unwrap();
    let (alive, _) = endpoint(answer("200 OK", "")).await;
    let desk = Desk::new(list("v1", vec![http_target("shop@us-east", alive)]));
    let url = serve(&desk).await;
    let mut with_status = identity(dir.path(), &[&url]);
    with_status.status = Some("127.0.0.1:0".parse().unwrap());
    let agent = start(with_status);
    desk.wait_for("healthy", |r| holds(r, "shop@us-east", OpinionState::Healthy)).await;
    let mut foreign = list("v2", Vec::new());
    foreign.agent = "us-east-1".parse().unwrap();
    *desk.list.lock().unwrap() = foreign;
    let refused = async {
        loop {
            let now = status(dir.path()).await;
            if let Some(error) = &now.coordinators[0].error {
                return (now.config_version, error.clone());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let (version, error) = tokio::time::timeout(HANG_GUARD, refused).await.unwrap();
    assert!(error.contains("us-east-1"), "{error}");
    assert_eq!(version, "v1");
    agent.stop().await;
}

#[tokio::test]
async fn every_coordinator_hears_everything_and_a_dead_one_holds_nobody_up() {
    let dir = tempfile::tempdir().unwrap();
    let (alive, _) = endpoint(answer("200 OK", "")).await;
    let targets = vec![http_target("shop@us-east", alive)];
    let (one, other) = (Desk::new(list("v1", targets.clone())), Desk::new(list("v1", targets)));
    let (url, socket) = (serve(&one).await, serve_unix(&other, &dir.path().join("coordinator.sock")));
    let agent = start(identity(&dir.path().join("state"), &[&format!("http://{}", nobody()), &url, &socket]));
    for desk in [&one, &other] {
        desk.wait_for("twenty results", |r| {
            (r.iter().map(|r| r.observations.len()).sum::<usize>() >= 20).then_some(())
        })
        .await;
    }
    agent.stop().await;
    for desk in [&one, &other] {
        let sequences = desk.sequences();
        assert!(sequences.iter().copied().eq(1..=sequences.len() as u64), "{sequences:?}");
    }
}

/// Two coordinators that disagree about the configuration must not make the agent swing between them.
#[tokio::test]
async fn coordinators_that_disagree_do_not_make_it_swing() {
    let dir = tempfile::tempdir().unwrap();
    let (one, other) = (Desk::new(list("v1", Vec::new())), Desk::new(list("v2", Vec::new())));
    let (a, b) = (serve(&one).await, serve(&other).await);
    let agent = start(identity(dir.path(), &[&a, &b]));
    for desk in [&one, &other] {
        desk.wait_for("thirty reports", |r| (r.len() >= 30).then_some(())).await;
    }
    let pulls = one.pulls.load(Ordering::SeqCst) + other.pulls.load(Ordering::SeqCst);
    assert!(pulls <= 2, "{pulls} pulls");
    *one.list.lock().unwrap() = list("v3", Vec::new());
    one.wait_for("the change", |r| r.last().filter(|r| r.config_version == "v3").map(drop)).await;
    agent.stop().await;
}

#[tokio::test]
async fn a_report_holds_a_bounded_number_of_results() {
    let dir = tempfile::tempdir().unwrap();
    let (alive, _) = endpoint(answer("200 OK", "")).await;
    let targets = (0..150).map(|i| http_target(&format!("s{i}@us-east"), alive)).collect();
    let desk = Desk::new(list("v1", targets));
    let url = serve(&desk).await;
    let agent = start(identity(dir.path(), &[&url]));
    desk.wait_for("results", |r| r.iter().any(|r| !r.observations.is_empty()).then_some(())).await;
    desk.cut_off(true);
    tokio::time::sleep(Duration::from_secs(3)).await;
    desk.cut_off(false);
    let sizes = desk.wait_for("a full report", |r| {
        let sizes: Vec<_> = r.iter().map(|r| r.observations.len()).collect();
        sizes.iter().any(|&n| n >= 1_000).then_some(sizes)
    });
    assert!(sizes.await.iter().all(|&n| n <= 1_000));
    agent.stop().await;
}

#[tokio::test]
async fn it_stops_in_time_with_a_coordinator_that_hangs() {
    let dir = tempfile::tempdir().unwrap();
    let (hanging, seen) = endpoint(Script::Silence).await;
    let agent = start(identity(dir.path(), &[&format!("http://{hanging}")]));
    let reached = async {
        while seen.accepted.load(Ordering::SeqCst) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(HANG_GUARD, reached).await.unwrap();
    agent.stop().await;
}
