//! Any bytes are read as the body of each `POST` of the API, or refused. What was read is written and read again as it
//! was; a report passes the gate once and never twice; an intent is planned without panic, and the checker agrees.

use drover_core::check;
use drover_core::opinion::{Opinion, policy_of};
use drover_core::plan;
use drover_core::targets::{initial_traffic, retarget};
use drover_core::vantage::{Placement, Vantage};
use drover_model::api::{CommandRequest, FreezeRequest, PlanRequest, RearmRequest};
use drover_model::config::Config;
use drover_model::config::decode::{SourceFile, load, load_runbooks};
use drover_model::decision::{OpinionState, VantageState, Verdict, VerdictState};
use drover_model::plan::{Finding, StandingVerdict, World};
use drover_model::probe::{FailureKind, ProbeOutcome, REPORT_OBSERVATIONS_MAX, Report};
use drover_model::reason::Reason;
use drover_model::traffic::{RegionShare, ShareReason};
use drover_model::{EndpointKey, Percent, RegionId, RunId, Span, Timestamp};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::{Arc, LazyLock};

/// The time at which every report arrives.
const NOW: Timestamp = Timestamp::from_millis(1_893_456_000_000);

/// The shipped sample, in which all is well.
static WELL: LazyLock<World> = LazyLock::new(world);
/// The same with one region drained, so that there is something to bring back.
static DRAINED: LazyLock<World> = LazyLock::new(|| drained(world(), "eu-west"));

/// Checks one input: its first byte, a digit in the seeds, says which body the rest is.
pub fn check(bytes: &[u8]) {
    let Some((which, body)) = bytes.split_first() else { return };
    match which % 6 {
        0 => drop(read::<CommandRequest>(body)),
        1 => drop(read::<FreezeRequest>(body)),
        2 => drop(read::<RearmRequest>(body)),
        3 => read::<PlanRequest>(body).iter().for_each(|request| check_plan(&WELL, request)),
        4 => read::<PlanRequest>(body).iter().for_each(|request| check_plan(&DRAINED, request)),
        _ => read::<Report>(body).iter().for_each(check_report),
    }
}

fn read<T: Serialize + DeserializeOwned + PartialEq + Debug>(body: &[u8]) -> Option<T> {
    let value: T = serde_json::from_slice(body).ok()?;
    let written = serde_json::to_vec(&value).expect("what was read can be written");
    let again: T = serde_json::from_slice(&written).expect("what was written can be read");
    assert_eq!(again, value);
    Some(value)
}

/// By a person, as the API has it, and by drover itself, which takes on no refusal.
fn check_plan(world: &World, request: &PlanRequest) {
    for automatic in [false, true] {
        let mut intent = request.intent.clone();
        intent.automatic = automatic;
        if automatic {
            intent.accept.clear();
        }
        let planned = plan::plan(world, &intent, NOW);
        assert!(planned.plan.is_some() || !planned.refusals.is_empty(), "no plan, and no reason");
        let Some(made) = planned.plan else { continue };
        assert!(automatic || planned.refusals.is_empty(), "a person's refused intent has a plan");
        // An automatic plan with a refusal that a person may overrule becomes a question.
        let asks = |found: &Finding| {
            automatic && !planned.refusals.is_empty() && check::a_person_may_overrule(found)
        };
        let found: Vec<_> = check::check(&made, world).into_iter().filter(|f| !asks(f)).collect();
        assert!(found.is_empty(), "the checker refuses what was planned: {found:?}");
        assert!(plan::stale(&made, world).is_empty(), "a plan is stale at once");
    }
}

/// As the coordinator takes a report in: the gate, the agent's own opinions, and then what it observed.
fn check_report(report: &Report) {
    let config = &WELL.config;
    let settings = &config.settings.vantage;
    let configured =
        |e: &EndpointKey| config.services.get(&e.service).filter(|s| s.endpoints.contains_key(&e.region));
    let oldest = |e: &EndpointKey| configured(e).map(|s| s.stale_after());
    let mut gate = Vantage::new();
    let Ok(first) = gate.ingest(report, NOW, settings, oldest) else {
        assert_eq!(gate.state(NOW, settings), VantageState::NeverHeard, "a refused report was heard");
        return;
    };
    assert!(report.observations.len() <= REPORT_OBSERVATIONS_MAX);
    assert_eq!(first.placements.len(), report.observations.len());
    let counted = first.accepted + first.history_only + first.replayed;
    assert_eq!(counted as usize, report.observations.len());

    let mut opinions: BTreeMap<&EndpointKey, Opinion> = BTreeMap::new();
    let mut suspects: BTreeSet<&EndpointKey> = BTreeSet::new();
    for told in report.opinions.iter().filter(|_| first.opinions_count) {
        let Some(service) = configured(&told.endpoint) else { continue };
        opinions.entry(&told.endpoint).or_default().seed(told, NOW, &policy_of(service));
        if told.state == OpinionState::Failing {
            suspects.insert(&told.endpoint);
        }
    }
    for (o, placement) in report.observations.iter().zip(&first.placements) {
        let Placement::Current { began_at } = *placement else { continue };
        let service = configured(&o.endpoint).expect("only what is configured is current");
        assert!(began_at <= NOW && NOW.since(began_at) <= service.stale_after(), "out of its time: {o:?}");
        let kind = if let ProbeOutcome::Failed { kind, .. } = &o.outcome { Some(*kind) } else { None };
        let opinion = opinions.entry(&o.endpoint).or_default();
        opinion.observe(began_at, kind.is_none(), kind, &policy_of(service));
        if kind.is_some_and(|kind| kind != FailureKind::Local) {
            suspects.insert(&o.endpoint);
        }
    }
    for (endpoint, opinion) in &opinions {
        let policy = policy_of(configured(endpoint).expect("looked up before"));
        let view = opinion.at(NOW, &policy);
        assert!(view.last_probe_age.is_none_or(|age| age <= policy.stale_after), "stale: {view:?}");
        let failing = view.state == OpinionState::Failing;
        assert!(!failing || suspects.contains(endpoint), "{endpoint} fails, and nobody said so (I6)");
    }

    let again = gate.ingest(report, NOW + Span::from_secs(1), settings, oldest).expect("the same boot");
    assert_eq!((again.accepted, again.history_only), (0, 0), "a replay was counted");
    assert!(!again.opinions_count, "a replay told something new");
}

fn world() -> World {
    let config = Arc::new(sample());
    let books = [
        include_str!("../../../runbooks/failover.yaml"),
        include_str!("../../../runbooks/failback.yaml"),
        include_str!("../../../runbooks/drain.yaml"),
        include_str!("../../../runbooks/undrain.yaml"),
    ];
    let books = books.map(|text| SourceFile::new("runbook", text));
    let books = load_runbooks(&books).expect("the shipped runbooks");
    let endpoints =
        config.services.values().flat_map(|s| s.endpoints.keys().map(|r| EndpointKey::new(&s.name, r)));
    World {
        service_versions: std::sync::Arc::default(),
        verdicts: endpoints.map(|e| (e, healthy())).collect(),
        vantages: config.agents().into_keys().map(|a| (a, VantageState::Reporting)).collect(),
        traffic: config.services.values().map(|s| (s.name.clone(), initial_traffic(s, NOW))).collect(),
        loads: BTreeMap::new(),
        holds: vec![],
        held: std::collections::BTreeMap::new(),
        dns_of_another_store: None,
        freeze: None,
        blocks: vec![],
        runs: vec![],
        ended: vec![],
        rearmed: BTreeMap::new(),
        runbooks: books.into_iter().map(|b| (b.runbook.purpose, b)).collect(),
        heard_since_start: config.agents().into_keys().collect(),
        config,
    }
}

fn drained(mut world: World, region: &str) -> World {
    let region = RegionId::new(region).expect("a region's name");
    for (name, state) in world.traffic.iter_mut() {
        let reason = ShareReason::Drained { run: RunId::numbered(1) };
        state.shares.insert(region.clone(), RegionShare { share: Percent::ZERO, reason });
        let after = retarget(state, &world.config.services[name], NOW).expect("two regions are left");
        *state = after.expect("weights moved");
    }
    world
}

fn healthy() -> StandingVerdict {
    let verdict = Verdict {
        state: VerdictState::Healthy,
        failing: 0,
        unconfirmed: 0,
        healthy: 3,
        abstaining: 0,
        configured: 3,
        need: 2,
        suspect: false,
        reason: Reason::SeenHealthy { healthy: 3, configured: 3 },
    };
    StandingVerdict { verdict, since: NOW, recent_changes: vec![] }
}

fn sample() -> Config {
    let files = [
        include_str!("../../../regions/ap-south.yaml"),
        include_str!("../../../regions/eu-west.yaml"),
        include_str!("../../../regions/us-east.yaml"),
        include_str!("../../../regions/witness.yaml"),
        include_str!("../../../regions/services.yaml"),
        include_str!("../../../regions/settings.yaml"),
    ];
    load(&files.map(|text| SourceFile::new("sample", text))).expect("the shipped sample").config
}
