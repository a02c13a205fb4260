//! A coordinator on a store of its own, with the shipped configuration and none of its loops, for tests that need its
//! inside: a time of their own, a store from before, a part that does not work.

use crate::config_dir::ConfigDir;
use crate::{Coordinator, Options, api, listen};
use async_trait::async_trait;
use drover_core::out_of_service::answered;
use drover_dns::provider::{
    Applied, Capabilities, Commands, Coverage, InstanceMismatch, Mismatch, MissingInstance, Observed,
    ProviderError, RecordSets, Verification,
};
use drover_dns::publish::{Batch, CHANGES_PER_BATCH_MAX, Change, FenceReason};
use drover_dns::zone::{Member, RecordKey, RecordSet};
use drover_exec::{Approved, Order, Origin};
use drover_model::api::PlanRequest;
use drover_model::config::{Config, encode};
use drover_model::decision::VerdictState;
use drover_model::journal::Trigger;
use drover_model::machine::MachineIdentity;
use drover_model::plan::{Intent, Plan, StepKind, World};
use drover_model::probe::REPORT_OBSERVATIONS_MAX;
use drover_model::runbook::Purpose;
use drover_model::traffic::Actor;
use drover_model::{Epoch, RegionId, RunId, Span, Timestamp, Weight};
use drover_pki::TlsFiles;
use drover_pki::authority::{Authority, Wanted};
use drover_store::{Committed, Limited, Page, ReadError, Revision, Store, Txn, TxnError, Versioned, Watch};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Hang guard for what a test waits for.
pub const GUARD: Duration = Duration::from_secs(60);

pub const SHIPPED: [(&str, &str); 6] = [
    ("eu-west.yaml", include_str!("../../../regions/eu-west.yaml")),
    ("us-east.yaml", include_str!("../../../regions/us-east.yaml")),
    ("ap-south.yaml", include_str!("../../../regions/ap-south.yaml")),
    ("witness.yaml", include_str!("../../../regions/witness.yaml")),
    ("services.yaml", include_str!("../../../regions/services.yaml")),
    ("settings.yaml", include_str!("../../../regions/settings.yaml")),
];

pub struct Bed {
    pub dir: tempfile::TempDir,
    pub c: Arc<Coordinator>,
    tasks: TaskTracker,
}

impl Bed {
    pub async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("config")).unwrap();
        for (name, text) in SHIPPED {
            std::fs::write(dir.path().join("config").join(name), text).unwrap();
        }
        let (c, tasks) = open(dir.path()).await;
        Self { dir, c, tasks }
    }

    /// With another configuration from the beginning.
    pub async fn with(edit: impl FnOnce(&mut Config)) -> Self {
        let bed = Self::new().await;
        bed.rewrite(edit);
        bed.reopened().await
    }

    /// Another coordinator on the same store.
    pub async fn reopened(self) -> Self {
        let Self { dir, c, tasks } = self;
        c.stop.cancel();
        tasks.close();
        tokio::time::timeout(GUARD, tasks.wait()).await.unwrap();
        assert_eq!(Arc::strong_count(&c), 1, "somebody still holds the store");
        drop(c);
        let (c, tasks) = open(dir.path()).await;
        Self { dir, c, tasks }
    }

    /// Every agent has seen every endpoint well.
    pub fn all_is_well(&self) {
        self::all_is_well(&self.c);
    }

    /// All is well, but for one region that has died.
    pub fn world_without(&self, region: &str) -> World {
        self.all_is_well();
        let mut world = self.c.world(self.c.clock.now());
        for (_, standing) in world.verdicts.iter_mut().filter(|(key, _)| key.region.as_str() == region) {
            let verdict = &mut standing.verdict;
            verdict.state = VerdictState::Down;
            (verdict.failing, verdict.healthy) = (verdict.configured, 0);
        }
        world
    }

    /// What can be planned when all is well.
    pub fn intent() -> Intent {
        Intent {
            purpose: Purpose::Drain,
            services: Vec::new(),
            region: RegionId::new("us-east").unwrap(),
            to: None,
            automatic: false,
            hold_for: None,
            accept: Vec::new(),
            reason: "test".into(),
        }
    }

    /// A plan that can be made when all is well.
    pub async fn plan(&self) -> Plan {
        self.all_is_well();
        let intent = Self::intent();
        let view = self.c.make_plan(&PlanRequest { by: person(), intent }).await.unwrap();
        let refusals = view.planned.refusals;
        view.planned.plan.unwrap_or_else(|| panic!("no plan: {refusals:?}"))
    }

    /// The step that shifts traffic, of a plan that can be made when all is well.
    pub async fn order(&self) -> Order {
        let plan = self.plan().await;
        let id = plan.id.clone();
        let index = plan.steps.iter().position(|s| matches!(s.kind, StepKind::ShiftTraffic { .. })).unwrap();
        let run = RunId::numbered(1);
        let origin = Origin {
            run: run.clone(),
            by: person(),
            trigger: Trigger::Command,
            ask: None,
            rto: Span::from_mins(30),
        };
        Order {
            run,
            epoch: self.c.db.epoch(),
            plan: Approved::by_command(plan, &id).unwrap(),
            origin: Arc::new(origin),
            index: u32::try_from(index).unwrap(),
            attempt: 1,
            keeps: false,
            declared_at: None,
            began_at: self.c.clock.now(),
            key: "run-1/shift".into(),
            deadline: self.c.clock.now() + Span::from_millis(u64::try_from(GUARD.as_millis()).unwrap()),
        }
    }

    /// Changes what is on disk, and nothing else.
    pub fn rewrite(&self, edit: impl FnOnce(&mut Config)) {
        let mut config = Config::clone(&self.c.loaded().config);
        edit(&mut config);
        let directory = self.dir.path().join("config");
        for (name, _) in SHIPPED {
            let _ = std::fs::remove_file(directory.join(name));
        }
        std::fs::write(directory.join("world.yaml"), encode::to_yaml(&config)).unwrap();
    }

    /// The same, on a store that is meddled with. Before anything runs on it.
    pub fn meddle(&mut self, meddle: impl Fn(&Txn) -> BoxFuture<'static, Meddling> + Send + Sync + 'static) {
        let db = self.c.db.on(Meddled::new(self.c.store.clone(), meddle));
        Arc::get_mut(&mut self.c).unwrap().db = db;
    }

    /// Records under this prefix are larger than one may be.
    pub fn refuse_as_too_large(&mut self, prefix: &'static str) {
        self.meddle(move |txn| {
            let hit = txn.ops.iter().any(|op| op.key().starts_with(prefix));
            let error = TxnError::TooLarge { what: Limited::Bytes, actual: 2_000_000, limit: 1_048_576 };
            futures::future::ready(if hit { Meddling::Refuse(error) } else { Meddling::None }).boxed()
        });
    }

    /// The API on loopback.
    pub async fn serve(&self) -> SocketAddr {
        self.serve_router(api::router(self.c.clone())).await
    }

    pub async fn serve_router(&self, router: axum::Router) -> SocketAddr {
        self.serve_with(router, None).await
    }

    /// The API behind TLS.
    pub async fn serve_tls(&self, tls: drover_pki::ServerTls) -> SocketAddr {
        self.serve_with(api::router(self.c.clone()), Some(tls)).await
    }

    async fn serve_with(&self, router: axum::Router, tls: Option<drover_pki::ServerTls>) -> SocketAddr {
        let socket = self.dir.path().join("drover.sock");
        let any = ([127, 0, 0, 1], 0).into();
        let bound = listen::bind(any, &socket, tls).await.unwrap();
        let address = bound.address;
        bound.serve(router, &self.c, &self.c.stop, &self.tasks);
        address
    }
}

/// What a [`Meddled`] store does with a transaction.
pub enum Meddling {
    /// Nothing.
    None,
    /// Fails it.
    Refuse(TxnError),
    /// Commits it, and says that it failed.
    Lose(TxnError),
}

type Meddle = dyn Fn(&Txn) -> BoxFuture<'static, Meddling> + Send + Sync;

/// A store between which and its users somebody stands who may hold up a transaction, refuse it, or lose its answer.
pub struct Meddled {
    inner: Arc<dyn Store>,
    meddle: Box<Meddle>,
}

impl Meddled {
    pub fn new(
        inner: Arc<dyn Store>,
        meddle: impl Fn(&Txn) -> BoxFuture<'static, Meddling> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self { inner, meddle: Box::new(meddle) })
    }

    /// As if the disk were full while the switch is on.
    pub fn full_disk(inner: Arc<dyn Store>) -> (Arc<Self>, Arc<AtomicBool>) {
        let full = Arc::new(AtomicBool::new(false));
        let switch = full.clone();
        let meddle = move |_: &Txn| {
            let no_room = TxnError::OutOfSpace { path: "store".into(), needed_bytes: 1, free_bytes: 0 };
            let full = full.load(Ordering::Relaxed);
            futures::future::ready(if full { Meddling::Refuse(no_room) } else { Meddling::None }).boxed()
        };
        (Self::new(inner, meddle), switch)
    }
}

#[async_trait]
impl Store for Meddled {
    async fn get(&self, key: &str) -> Result<Option<Versioned>, ReadError> {
        self.inner.get(key).await
    }
    async fn list(&self, prefix: &str, after_key: Option<&str>, limit: usize) -> Result<Page, ReadError> {
        self.inner.list(prefix, after_key, limit).await
    }
    async fn txn(&self, txn: Txn) -> Result<Committed, TxnError> {
        match (self.meddle)(&txn).await {
            Meddling::None => self.inner.txn(txn).await,
            Meddling::Refuse(error) => Err(error),
            Meddling::Lose(error) => self.inner.txn(txn).await.and(Err(error)),
        }
    }
    async fn watch(&self, prefix: &str, after: Revision) -> Result<Watch, ReadError> {
        self.inner.watch(prefix, after).await
    }
    async fn revision(&self) -> Result<Revision, ReadError> {
        self.inner.revision().await
    }
}

/// A DNS server that is played: it keeps what it is told, within the bounds of a real one.
#[derive(Default)]
pub struct PlayedDns {
    sets: Mutex<BTreeMap<RecordKey, RecordSet>>,
    by_hand: Mutex<BTreeSet<RecordKey>>,
    batches: Mutex<Vec<String>>,
    refused: Mutex<Option<String>>,
    makes_the_rest: Mutex<bool>,
    is_cut_off: AtomicBool,
    out: Mutex<BTreeSet<RegionId>>,
    command: Mutex<Option<Epoch>>,
}

impl PlayedDns {
    /// What it answers.
    pub fn live(&self) -> Vec<RecordSet> {
        self.sets.lock().unwrap().values().cloned().collect()
    }

    /// Somebody else's hand.
    pub fn change_by_hand(&self, set: RecordSet) {
        let key = RecordKey::new(set.name.parse().unwrap(), set.rtype);
        self.by_hand.lock().unwrap().insert(key.clone());
        self.sets.lock().unwrap().insert(key, set);
    }

    /// As one that was made anew.
    pub fn lose(&self, set: &RecordSet) {
        self.sets.lock().unwrap().remove(&RecordKey::new(set.name.parse().unwrap(), set.rtype));
    }

    /// Keys of the batches that it took.
    pub fn batches(&self) -> Vec<String> {
        self.batches.lock().unwrap().clone()
    }

    /// From now on it refuses batches with this name in them.
    pub fn refuse(&self, name: &str) {
        *self.refused.lock().unwrap() = Some(name.to_owned());
    }

    /// From now on nobody reaches what changes and shows its records; it answers all the same.
    pub fn cut_off(&self, is_cut_off: bool) {
        self.is_cut_off.store(is_cut_off, Ordering::SeqCst);
    }

    /// From now on it obeys this one's store alone.
    pub fn obey(&self, epoch: Epoch) {
        *self.command.lock().unwrap() = Some(epoch);
    }

    /// What its health checks leave out from now on.
    pub fn leave_out(&self, regions: BTreeSet<RegionId>) {
        *self.out.lock().unwrap() = regions;
    }

    fn reached(&self) -> Result<(), ProviderError> {
        let missing = MissingInstance { instance: "played".into(), reason: "cut off".into() };
        let is_cut_off = self.is_cut_off.load(Ordering::SeqCst);
        if is_cut_off { Err(ProviderError::Unreachable { missing: vec![missing] }) } else { Ok(()) }
    }

    /// Does it make of such a batch what it can?
    pub fn make_the_rest(&self, makes: bool) {
        *self.makes_the_rest.lock().unwrap() = makes;
    }
}

#[async_trait]
impl RecordSets for PlayedDns {
    fn name(&self) -> &str {
        "played"
    }
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            has_weights: true,
            weight_max: 255,
            is_batch_atomic: true,
            batch_changes_max: CHANGES_PER_BATCH_MAX,
            shows_generation: true,
            shortens_ttls: false,
        }
    }
    async fn observe(&self, keys: &[RecordKey]) -> Result<Vec<Observed>, ProviderError> {
        self.reached()?;
        let (sets, by_hand) = (self.sets.lock().unwrap(), self.by_hand.lock().unwrap());
        let one = |key: &RecordKey| Observed {
            key: key.clone(),
            current: sets.get(key).cloned(),
            is_changed_by_hand: by_hand.contains(key),
            lagging: vec![],
        };
        Ok(keys.iter().map(one).collect())
    }
    async fn commands(&self) -> Result<Commands, ProviderError> {
        self.reached()?;
        let written =
            self.sets.lock().unwrap().values().map(|set| set.epoch).max_by_key(|epoch| epoch.counter);
        let epoch = self.command.lock().unwrap().or(written);
        Ok(Commands { known: vec![("played".into(), epoch)], missing: vec![] })
    }
    async fn take_command(&self, from: &[(String, Epoch)], to: Epoch) -> Result<Coverage, ProviderError> {
        self.reached()?;
        let mut command = self.command.lock().unwrap();
        assert_eq!(*command, from.first().map(|(_, epoch)| *epoch), "as a real one would refuse");
        *command = Some(to);
        Ok(Coverage { instances: vec!["played".into()], missing: vec![] })
    }
    async fn apply(&self, batch: &Batch) -> Result<Applied, ProviderError> {
        self.reached()?;
        if let Some(highest) =
            self.command.lock().unwrap().filter(|c| c.incarnation != batch.epoch.incarnation)
        {
            let reason = FenceReason::OtherIncarnation;
            return Err(ProviderError::Fenced { instance: "played".into(), highest, reason });
        }
        let refused = self.refused.lock().unwrap().clone();
        let put = |change: &Change| match change {
            Change::Put { record_set, .. } => record_set.clone(),
            Change::Delete { .. } => panic!("nothing here deletes"),
        };
        let asked: Vec<RecordSet> = batch.changes.iter().map(put).collect();
        let (bad, good): (Vec<_>, Vec<_>) =
            asked.into_iter().partition(|set| Some(&set.name) == refused.as_ref());
        let is_refused = good.len() > CHANGES_PER_BATCH_MAX || !bad.is_empty();
        let made = if is_refused && !*self.makes_the_rest.lock().unwrap() { vec![] } else { good };
        if !made.is_empty() {
            let keyed: Vec<_> = made
                .into_iter()
                .map(|set| (RecordKey::new(set.name.parse().unwrap(), set.rtype), set))
                .collect();
            self.by_hand.lock().unwrap().retain(|key| keyed.iter().all(|(put, _)| put != key));
            self.sets.lock().unwrap().extend(keyed);
            self.batches.lock().unwrap().push(batch.idempotency_key.clone());
        }
        if is_refused {
            let (instance, code) = ("played".into(), "malformed".into());
            return Err(ProviderError::Refused { instance, code, detail: "as a real one does".into() });
        }
        Ok(Applied::Changed(Coverage { instances: vec!["played".into()], missing: vec![] }))
    }
    async fn unanswered(
        &self,
        key: &RecordKey,
        values: &BTreeSet<String>,
        _draws: u32,
    ) -> Result<Verification, ProviderError> {
        let (sets, out) = (self.sets.lock().unwrap(), self.out.lock().unwrap());
        let weight =
            |m: &Member| (RegionId::new(&m.set_id).unwrap(), Weight(u8::try_from(m.weight).unwrap()));
        let now = answered(&sets[key].members.iter().map(weight).collect(), &out);
        let is_answered = |m: &&Member| now.keys().any(|region| region.as_str() == m.set_id);
        let found = sets[key].members.iter().filter(is_answered).find(|m| values.contains(&m.value));
        let instance = || "played".to_owned();
        Ok(match found {
            None => Verification::Verified { instances: vec![instance()] },
            Some(m) => Verification::Mismatch {
                mismatches: vec![InstanceMismatch {
                    instance: instance(),
                    found: Mismatch::Value { value: m.value.clone() },
                }],
                verified: vec![],
                missing: vec![],
            },
        })
    }
    async fn verify(&self, key: &RecordKey, set: Option<&RecordSet>) -> Result<Verification, ProviderError> {
        self.reached()?;
        assert_eq!(self.sets.lock().unwrap().get(key), set, "as a real one would find out");
        Ok(Verification::Verified { instances: vec!["played".into()] })
    }
}

/// Every agent has told this coordinator that it has seen every endpoint well.
pub fn all_is_well(c: &Coordinator) {
    let endpoints = c.endpoints();
    for agent in c.loaded().config.agents().keys() {
        let now = c.clock.now();
        let seen: Vec<Value> = (0..5 * endpoints.len())
            .map(|n| {
                json!({
                    "sequence": n + 1, "endpoint": endpoints[n % endpoints.len()], "began_at": now,
                    "age": "5ms", "latency_micros": 900, "outcome": {"result": "good"}, "status": 200,
                    "certificate_expires_at": null,
                })
            })
            .collect();
        for some in seen.chunks(REPORT_OBSERVATIONS_MAX) {
            let report = json!({
                "schema": 1, "agent": agent, "boot": "b", "boot_number": 1, "sent_at": now, "config_version": "any",
                "observations": some, "opinions": [], "dropped": 0,
                "self_check": {"references_reached": 2, "references": 2, "blind": false},
            });
            c.ingest(&serde_json::from_value(report).unwrap());
        }
    }
}

async fn open(dir: &Path) -> (Arc<Coordinator>, TaskTracker) {
    let options = Options {
        config: ConfigDir { config: dir.join("config"), runbooks: None },
        state_directory: dir.join("state"),
        listen: None,
        launcher: vec![],
        tls: None,
    };
    let tasks = TaskTracker::new();
    let c = Coordinator::open(options, CancellationToken::new(), tasks.clone()).await.unwrap();
    (c, tasks)
}

/// Status, content type and body of an answer.
pub async fn get(api: SocketAddr, path: &str) -> (u16, String, String) {
    send(reqwest::Method::GET, api, path, None).await
}

/// As [`get`], with any method and body.
pub async fn send(
    method: reqwest::Method,
    api: SocketAddr,
    path: &str,
    body: Option<Vec<u8>>,
) -> (u16, String, String) {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    send_by(&http, method, &format!("http://{api}{path}"), body).await
}

/// As [`send`], by a client of one's own.
pub async fn send_by(
    http: &reqwest::Client,
    method: reqwest::Method,
    url: &str,
    body: Option<Vec<u8>>,
) -> (u16, String, String) {
    let request = http.request(method, url).header("idempotency-key", "k");
    let request = request.header("content-type", "application/json").body(body.unwrap_or_default());
    let answer = request.send().await.unwrap();
    let kind = answer.headers().get("content-type").map(|v| v.to_str().unwrap().to_owned());
    (answer.status().as_u16(), kind.unwrap_or_default(), answer.text().await.unwrap())
}

/// A certificate of the authority in `pki` of this directory.
pub fn certificate_of(dir: &Path, machine: &str) -> TlsFiles {
    let identity: MachineIdentity = machine.parse().unwrap();
    let out = dir.join(machine.replace([':', '/'], "-"));
    let wanted = Wanted { identity, hosts: vec!["127.0.0.1".into()], lifetime: Span::from_hours(1) };
    Authority::open(&dir.join("pki")).unwrap().issue(&wanted, &out).unwrap();
    TlsFiles::in_directory(&out)
}

/// The code of an answer that must be a problem of this status.
#[track_caller]
pub fn code_of(answer: &(u16, String, String), status: u16) -> String {
    assert_eq!((answer.0, answer.1.as_str()), (status, "application/problem+json"), "{}", answer.2);
    let problem: Value = serde_json::from_str(&answer.2).unwrap();
    assert_eq!(problem["status"], json!(status), "{problem}");
    assert!(!problem["detail"].as_str().unwrap().is_empty(), "{problem}");
    problem["code"].as_str().unwrap().to_owned()
}

pub fn person() -> Actor {
    Actor::Person { name: "ann".into(), host: "here".into() }
}

pub fn at_secs(secs: i64) -> Timestamp {
    Timestamp::from_millis(secs * 1_000)
}
