//! Questions about DNS: an agent hears them at once, asks a real server over both transports, and asks what is old again.

use crate::agent::{identity, start};
use crate::world::{HANG_GUARD, nobody};
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use drover_dns::Epoch;
use drover_dns::publish::{Batch, Change};
use drover_dns::server::{Limits, Running, ServerConfig, run};
use drover_dns::zone::{DnsName, Member, NameServer, RecordSet, RecordType, ZoneConfig};
use drover_model::config;
use drover_model::sight::{DnsQuestion, GenerationMark, MarkForm, QuestionList, Seen, Sight, SightReport};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// A coordinator that has questions, and keeps what is told.
struct Board {
    list: watch::Sender<QuestionList>,
    told: watch::Sender<Vec<Sight>>,
    /// The version that was fetched last.
    given: watch::Sender<u64>,
}

impl Board {
    async fn sees(&self, what: &str, wanted: impl Fn(&Sight) -> bool) -> Sight {
        let mut told = self.told.subscribe();
        let waits = told.wait_for(|told| told.iter().any(&wanted));
        let all = tokio::time::timeout(HANG_GUARD, waits).await;
        all.unwrap_or_else(|_| panic!("never came: {what}"))
            .unwrap()
            .iter()
            .find(|s| wanted(s))
            .unwrap()
            .clone()
    }
}

async fn questions(State(board): State<Arc<Board>>, Query(query): Query<BTreeMap<String, u64>>) -> Response {
    let mut listed = board.list.subscribe();
    let patience = std::time::Duration::from_millis(query["patience_millis"]);
    let news = tokio::time::timeout(patience, listed.wait_for(|list| list.version != query["have"])).await;
    match news {
        Ok(list) => {
            let list = list.unwrap().clone();
            board.given.send_replace(list.version);
            Json(list).into_response()
        }
        Err(_) => axum::http::StatusCode::NOT_MODIFIED.into_response(),
    }
}

async fn sights(State(board): State<Arc<Board>>, Json(report): Json<SightReport>) {
    board.told.send_modify(|told| told.extend(report.sights));
}

async fn board() -> (Arc<Board>, String) {
    let list = watch::Sender::new(QuestionList { version: 7, ..QuestionList::default() });
    let board = Arc::new(Board { list, told: watch::Sender::new(vec![]), given: watch::Sender::new(0) });
    let router = Router::new()
        .route("/v1/agents/{agent}/questions", get(questions))
        .route("/v1/agents/{agent}/sights", post(sights))
        .with_state(Arc::clone(&board));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (board, url)
}

fn set(generation: u64) -> RecordSet {
    let member =
        |region: &str, value: &str, weight| Member { set_id: region.into(), value: value.into(), weight };
    RecordSet {
        name: "app.example.test".into(),
        rtype: RecordType::A,
        ttl_seconds: 30,
        members: vec![
            member("eu", "192.0.2.1", if generation > 1 { 0 } else { 1 }),
            member("us", "192.0.2.2", 1),
        ],
        generation,
        epoch: Epoch { incarnation: 1, counter: 1 },
        owner: "drover".into(),
        note: String::new(),
        answering: Default::default(),
    }
}

fn publish(dns: &Running, expected_generation: Option<u64>) {
    let record_set = set(expected_generation.unwrap_or_default() + 1);
    let key = format!("put-{}", record_set.generation);
    let change = Change::Put { expected_generation, record_set, take_over: false };
    let epoch = Epoch { incarnation: 1, counter: 1 };
    dns.publisher().publish(&Batch { epoch, idempotency_key: key, changes: vec![change] }).unwrap();
}

async fn dns(directory: &Path) -> Running {
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let name = |text: &str| DnsName::parse(text).unwrap();
    let server = |host: &str| NameServer { name: name(host), addresses: vec!["127.0.0.1".parse().unwrap()] };
    let servers = vec![server("ns1.example.test"), server("ns2.example.test")];
    let zone = ZoneConfig::new(name("example.test"), servers).unwrap();
    let limits = Limits::default();
    let config = ServerConfig {
        listen: vec![any],
        control: any,
        state_dir: directory.to_owned(),
        zone,
        limits,
        peering: Default::default(),
    };
    run(config, CancellationToken::new()).await.unwrap()
}

fn question(id: u64, generation: u64) -> DnsQuestion {
    DnsQuestion {
        id,
        name: "app.example.test".into(),
        record_type: config::RecordType::A,
        mark: Some(GenerationMark {
            name: "_generation.app.example.test".into(),
            form: MarkForm::Counter,
            generation,
        }),
        values: vec!["192.0.2.2".into()],
        drained: vec!["192.0.2.1".into()],
        has_alias: false,
        may_refuse: false,
    }
}

/// Takes connections and datagrams, and says nothing.
async fn mute() -> (SocketAddr, tokio::net::TcpListener, tokio::net::UdpSocket) {
    let tcp = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = tcp.local_addr().unwrap();
    let udp = tokio::net::UdpSocket::bind(at).await.unwrap();
    (at, tcp, udp)
}

/// Were each question to wait for the server that is silent, these would take a minute.
#[tokio::test]
async fn a_silent_server_is_waited_for_once_and_what_a_run_asks_comes_before_what_stood_there() {
    let state = tempfile::tempdir().unwrap();
    let dns = dns(&state.path().join("dns")).await;
    publish(&dns, None);
    // Of the first set either value may be answered.
    publish(&dns, Some(1));
    let (mute, _tcp, _udp) = mute().await;
    let (board, url) = board().await;
    let agent = start(identity(&state.path().join("agent"), &[&url]));
    let server = |name: &str, query| config::ZoneServer { name: name.into(), query };
    let servers = vec![server("ns1", dns.dns[0]), server("mute", mute)];
    let rotation: Vec<_> = (1..=1_000).map(|id| question(id, 2)).collect();
    board.list.send_replace(QuestionList {
        version: 8,
        servers: servers.clone(),
        questions: rotation.clone(),
        traffic: vec![],
    });
    let newest = board.sees("the newest of many", |sight| sight.question == 1_000).await;
    assert!(newest.servers[1].silent().is_some() && newest.servers[0].udp == Seen::Wanted, "{newest:?}");
    board.sees("the oldest of many", |sight| sight.question == 1).await;
    let order: Vec<u64> = board.told.borrow().iter().map(|s| s.question).collect();
    let at = |id| order.iter().position(|told| *told == id).unwrap();
    assert!(at(1_000) < at(1), "the newest come first");

    // Another list, whose silent server is waited for anew; and while it is, a run's.
    let again: Vec<_> = (2_001..=3_000).map(|id| question(id, 2)).collect();
    let list =
        QuestionList { version: 9, servers: servers.clone(), questions: again.clone(), traffic: vec![] };
    board.list.send_replace(list);
    let mut given = board.given.subscribe();
    let fetched = given.wait_for(|given| *given == 9);
    tokio::time::timeout(HANG_GUARD, fetched).await.expect("never fetched").unwrap();
    let of_a_run = again.into_iter().chain([question(3_001, 2)]).collect();
    let servers = servers[..1].to_vec();
    board.list.send_replace(QuestionList { version: 10, servers, questions: of_a_run, traffic: vec![] });
    let seen = board.sees("a run's question", |sight| sight.question == 3_001).await;
    assert_eq!(seen.servers.len(), 1);
    let of_both = |s: &&Sight| s.question > 1_000 && s.servers.len() > 1;
    assert_eq!(board.told.borrow().iter().find(of_both), None, "what was asked before is broken off");
    agent.stop().await;
}

#[tokio::test]
async fn an_agent_asks_what_a_coordinator_wants_to_know_until_it_is_new() {
    let state = tempfile::tempdir().unwrap();
    let dns = dns(&state.path().join("dns")).await;
    publish(&dns, None);
    let (board, url) = board().await;
    let agent = start(identity(&state.path().join("agent"), &[&url]));
    let server = |name: &str, query| config::ZoneServer { name: name.into(), query };
    let servers = vec![server("ns1", dns.dns[0]), server("gone", nobody())];
    let questions = vec![question(1, 2)];
    board.list.send_replace(QuestionList { version: 8, servers, questions, traffic: vec![] });

    let old = board.sees("the old set", |sight| !sight.is_settled()).await;
    let found = Seen::Other { found: "generation 1".into(), is_old: true };
    assert_eq!((&old.servers[0].udp, &old.servers[0].tcp), (&found, &found));
    assert!(old.servers[1].silent().is_some(), "{old:?}");

    publish(&dns, Some(1));
    let new = board.sees("the new set", Sight::is_settled).await;
    assert_eq!((&new.servers[0].udp, &new.servers[0].tcp), (&Seen::Wanted, &Seen::Wanted));
    agent.stop().await;
}
