//! Two coordinators of one process on one store: what each knows and does while the other leads, and what passes on.

use super::*;
use crate::config_dir::ConfigDir;
use crate::records::Records;
use crate::testbed::{
    GUARD, Meddled, Meddling, SHIPPED, all_is_well, certificate_of, code_of, get, person, send, send_by,
};
use crate::{Options, api, listen};
use axum::http::Method;
use axum::http::header::AUTHORIZATION;
use drover_model::TokenName;
use drover_model::access::{Role, TokenDigest, TokenRequest};
use drover_model::api::StatusView;
use drover_pki::authority::Authority;
use drover_pki::{ServerTls, TlsFiles, client_config};
use drover_store::{EmbeddedStore, Store, TxnError};
use futures::FutureExt as _;
use serde_json::json;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

const BOUND: Span = Span::from_secs(1);

/// One of the two.
struct Member {
    c: Arc<Coordinator>,
    tasks: TaskTracker,
    api: SocketAddr,
    url: String,
}

impl Member {
    async fn start(dir: &Path, name: &str, store: Arc<dyn Store>) -> Self {
        Self::with(dir, name, store, None).await
    }

    async fn with(dir: &Path, name: &str, store: Arc<dyn Store>, tls: Option<TlsFiles>) -> Self {
        let config = dir.join("config");
        if !config.exists() {
            std::fs::create_dir(&config).unwrap();
            for (file, text) in SHIPPED {
                std::fs::write(config.join(file), text).unwrap();
            }
        }
        let options = Options {
            config: ConfigDir { config, runbooks: None },
            state_directory: dir.join(name),
            listen: None,
            launcher: vec![],
            tls: tls.clone(),
        };
        std::fs::create_dir_all(&options.state_directory).unwrap();
        let loaded = Coordinator::read_config(&options).unwrap();
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let records = Records::Shared(store, BOUND);
        let c = Coordinator::open_on(records, loaded, options, stop, tasks.clone()).await.unwrap();
        let socket = c.options.state_directory.join("drover.sock");
        let bound = listen::bind(
            ([127, 0, 0, 1], 0).into(),
            &socket,
            tls.clone().map(|files| ServerTls::load(files).unwrap()),
        );
        let bound = bound.await.unwrap();
        let api = bound.address;
        let url = format!("{}://{api}", if tls.is_some() { "https" } else { "http" });
        c.advertise(url.clone());
        c.start().await.unwrap();
        bound.serve(api::router(c.clone()), &c, &c.stop, &c.tasks);
        Self { c, tasks, api, url }
    }

    async fn leads(&self) {
        until("it leads", || self.c.leads()).await;
    }

    async fn follows(&self, leader: &Member) {
        let wanted = Some(leader.url.clone());
        until("it has seen who leads", || self.c.leading.leader().and_then(|l| l.advertise) == wanted).await;
    }

    async fn status(&self) -> StatusView {
        let (code, _, body) = get(self.api, "/v1/status").await;
        assert_eq!(code, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    /// As on SIGTERM.
    async fn ends(&self) {
        self.c.stop.cancel();
        self.tasks.close();
        tokio::time::timeout(GUARD, self.c.handed_over()).await.unwrap();
        tokio::time::timeout(GUARD, self.tasks.wait()).await.unwrap();
    }
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < GUARD, "not within {GUARD:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A store, and a switch that cuts off who uses it from writing.
fn stores(dir: &Path) -> (Arc<dyn Store>, Arc<dyn Store>, Arc<AtomicBool>) {
    let (store, _) = EmbeddedStore::open(dir.join("s.redb"), drover_store::Options::default()).unwrap();
    let store: Arc<dyn Store> = Arc::new(store);
    let cut_off = Arc::new(AtomicBool::new(false));
    let switch = cut_off.clone();
    let meddle = move |_: &drover_store::Txn| {
        let lost = TxnError::Uncertain { reason: "cut off".into() };
        let cut_off = switch.load(Ordering::SeqCst);
        futures::future::ready(if cut_off { Meddling::Refuse(lost) } else { Meddling::None }).boxed()
    };
    (Meddled::new(store.clone(), meddle), store, cut_off)
}

fn freeze() -> Option<Vec<u8>> {
    let body = json!({"by": person(), "reason": "a look around", "expires_after": null});
    Some(serde_json::to_vec(&body).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_answers_reads_itself_and_hands_commands_to_the_leader() {
    let dir = tempfile::tempdir().unwrap();
    let (_, store, _) = stores(dir.path());
    let leader = Member::start(dir.path(), "a", store.clone()).await;
    leader.leads().await;
    let follower = Member::start(dir.path(), "b", store).await;
    follower.follows(&leader).await;

    assert_eq!(get(follower.api, "/readyz").await.2, "follows\n");
    let (code, _, body) = send(Method::POST, follower.api, "/v1/freeze", freeze()).await;
    assert_eq!(code, 200, "{body}");
    let again = send(Method::POST, leader.api, "/v1/freeze", freeze()).await;
    assert_eq!(again.2, body, "the key came with it: it was done once");

    let status = follower.status().await;
    assert!(status.freeze.is_some(), "what the leader wrote is read");
    let view = status.coordinator.leadership.unwrap();
    assert_eq!(
        (view.leads, view.answered_by, view.leader),
        (false, Some(format!("http://{}", follower.api)), Some(format!("http://{}", leader.api)))
    );
    assert!(leader.status().await.coordinator.leadership.unwrap().leads);
    assert_eq!(status.coordinator.epoch, leader.c.db.epoch());
    assert!(get(follower.api, "/v1/audit").await.2.contains("a look around"));

    let mut headers = reqwest::header::HeaderMap::new();
    headers.insert("drover-forwarded", "1".parse().unwrap());
    headers.insert("idempotency-key", "other".parse().unwrap());
    let http = reqwest::Client::builder().no_proxy().default_headers(headers).build().unwrap();
    let url = format!("http://{}/v1/freeze", follower.api);
    let answer = http.post(url).body(freeze().unwrap()).send().await.unwrap();
    assert_eq!(answer.status(), 503);
    assert!(answer.text().await.unwrap().contains("not_leading"), "one hop and no more");
    follower.ends().await;
    leader.ends().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn between_machines_commands_are_handed_on_by_certificate_and_tokens_count_at_each() {
    let dir = tempfile::tempdir().unwrap();
    Authority::init(&dir.path().join("pki"), "test", Span::from_hours(24)).unwrap();
    let certificate = |machine: &str| certificate_of(dir.path(), machine);
    let (_, store, _) = stores(dir.path());
    let files = Some(certificate("drover://coordinator/a"));
    let leader = Member::with(dir.path(), "a", store.clone(), files).await;
    leader.leads().await;
    let files = Some(certificate("drover://coordinator/b"));
    let follower = Member::with(dir.path(), "b", store, files).await;
    follower.follows(&leader).await;

    let files = certificate("drover://client/laptop");
    let client = |token: Option<&'static str>| {
        let mut headers = reqwest::header::HeaderMap::new();
        headers.extend(token.map(|token| (AUTHORIZATION, format!("Bearer {token}").parse().unwrap())));
        let client = reqwest::Client::builder().no_proxy().default_headers(headers);
        client.tls_backend_preconfigured(client_config(&files).unwrap()).build().unwrap()
    };
    let (machine, ann) = (client(None), client(Some("drover_ann")));
    let asked = async |who: &reqwest::Client, method, path: &str, body| {
        send_by(who, method, &format!("{}{path}", follower.url), body).await
    };
    let (code, _, body) = asked(&machine, Method::POST, "/v1/freeze", freeze()).await;
    assert_eq!(code, 200, "{body}");
    assert!(leader.c.live().freeze.is_some(), "{body}");

    let request = TokenRequest {
        by: person(),
        reason: "first".into(),
        role: Role::Admin,
        digest: TokenDigest::of("drover_ann"),
        valid_for: None,
    };
    leader.c.create_token(&TokenName::new("ann").unwrap(), &request).await.unwrap();
    let unfreeze = || Some(serde_json::to_vec(&json!({"by": person(), "reason": "over"})).unwrap());
    let answer = asked(&machine, Method::POST, "/v1/unfreeze", unfreeze()).await;
    assert_eq!(code_of(&answer, 401), "token_missing", "the leader's word, handed back");
    let answer = asked(&machine, Method::GET, "/v1/status", None).await;
    assert_eq!(code_of(&answer, 401), "token_missing", "its own, once it has read the store");
    assert_eq!(asked(&ann, Method::GET, "/v1/status", None).await.0, 200);
    let url = format!("{}/v1/unfreeze", follower.url);
    let command = ann.post(url).header("idempotency-key", "ann's").header("content-type", "application/json");
    let answer = command.body(unfreeze().unwrap()).send().await.unwrap();
    let (code, body) = (answer.status(), answer.text().await.unwrap());
    assert_eq!(code, 200, "{body}");
    assert!(leader.c.live().freeze.is_none(), "{body}");
    follower.ends().await;
    leader.ends().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_can_not_write_stops_acting_and_is_replaced_by_one_that_lost_no_opinion() {
    let dir = tempfile::tempdir().unwrap();
    let (weak, store, cut_off) = stores(dir.path());
    let old = Member::start(dir.path(), "a", weak).await;
    old.leads().await;
    let new = Member::start(dir.path(), "b", store).await;
    new.follows(&old).await;
    all_is_well(&new.c);
    let (seen, epoch) = (new.c.live().seen.len(), old.c.db.epoch());
    assert!(seen > 0 && old.c.acts() && !new.c.acts());

    cut_off.store(true, Ordering::SeqCst);
    new.leads().await;
    assert!(!old.c.acts(), "it has stopped by itself before");
    assert!(new.c.acts());
    assert_eq!(new.c.db.epoch().counter, epoch.counter + 1);
    let live_seen = new.c.live().seen.len();
    assert_eq!(live_seen, seen, "what agents told the follower is what the leader knows");
    let world = new.c.world(new.c.clock.now());
    assert!(world.verdicts.values().any(|v| v.verdict.healthy > 0), "and judges by");
    assert!(world.heard_since_start.is_empty(), "but nothing automatic begins on what was probed before");

    cut_off.store(false, Ordering::SeqCst);
    until("its next write was refused, and it ends", || old.c.stop.is_cancelled()).await;
    old.ends().await;
    assert!(old.c.is_deposed());
    let refused = old.c.db.put("k", &1).await;
    assert!(matches!(refused, Err(CoordinatorError::Fenced { .. })));
    assert!(new.c.leads() && !new.c.stop.is_cancelled());
    new.ends().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_told_to_end_hands_over() {
    let dir = tempfile::tempdir().unwrap();
    let (_, store, _) = stores(dir.path());
    let old = Member::start(dir.path(), "a", store.clone()).await;
    old.leads().await;
    let new = Member::start(dir.path(), "b", store).await;
    new.follows(&old).await;
    let (code, _, body) = send(Method::POST, old.api, "/v1/freeze", freeze()).await;
    assert_eq!(code, 200, "{body}");
    old.ends().await;
    assert!(!old.c.is_deposed() && !old.c.acts());
    new.leads().await;
    assert_eq!(new.c.db.epoch().counter, old.c.db.epoch().counter + 1);
    assert!(new.status().await.freeze.is_some());
    let again = send(Method::POST, new.api, "/v1/freeze", freeze()).await;
    assert_eq!((again.0, again.2), (200, body), "it was done once, whoever leads");
    new.ends().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_store_was_away_goes_on_when_nobody_took_over() {
    let dir = tempfile::tempdir().unwrap();
    let (weak, _, cut_off) = stores(dir.path());
    let only = Member::start(dir.path(), "a", weak).await;
    only.leads().await;
    let epoch = only.c.db.epoch();
    assert!(only.c.acts());
    cut_off.store(true, Ordering::SeqCst);
    until("it acts no more", || !only.c.acts()).await;
    cut_off.store(false, Ordering::SeqCst);
    until("it acts again", || only.c.acts()).await;
    assert_eq!(only.c.db.epoch(), epoch);
    assert!(only.c.leads() && !only.c.stop.is_cancelled());
    only.ends().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_hears_fewer_vantages_than_a_follower_hands_over_to_it() {
    let dir = tempfile::tempdir().unwrap();
    let (_, store, _) = stores(dir.path());
    let deaf = Member::start(dir.path(), "a", store.clone()).await;
    deaf.leads().await;
    let hears = Member::start(dir.path(), "b", store.clone()).await;
    hears.follows(&deaf).await;
    let regions = u32::try_from(hears.c.loaded().config.regions.len()).unwrap();
    all_is_well(&hears.c);
    let told = |judged| {
        let url = hears.url.clone();
        move |c: &Coordinator| c.follower_views().iter().any(|f| f.url == url && f.regions_judged == judged)
    };
    until("the leader knows how much the follower hears", || told(regions)(&deaf.c)).await;
    assert!(deaf.c.gives_way() && !hears.c.gives_way());
    assert!(deaf.c.leads() && !deaf.c.stop.is_cancelled(), "not at once");
    until("it hands over", || {
        deaf.c.roster().outdone_since.replace(BootTime::default());
        deaf.c.stop.is_cancelled()
    })
    .await;
    deaf.ends().await;
    assert!(deaf.c.is_deposed(), "it is started again as a follower");
    hears.leads().await;
    let (_, _, log) = get(hears.api, "/v1/audit").await;
    assert!(log.contains("hand over") && log.contains(&hears.url), "{log}");

    // Of two that hear the same, whoever leads goes on; who left is not missed.
    let also = Member::start(dir.path(), "c", store).await;
    also.follows(&hears).await;
    all_is_well(&also.c);
    until("both are known", || hears.c.follower_views().iter().any(|f| f.url == also.url)).await;
    hears.c.roster().own = 0;
    assert!(!hears.c.gives_way(), "it counts what it hears now, not what it heard at its last word");
    also.ends().await;
    until("it has left", || hears.c.follower_views().is_empty()).await;
    assert!(hears.c.leads() && hears.c.roster().outdone_since.is_none());
    hears.ends().await;
}
