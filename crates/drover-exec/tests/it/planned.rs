//! Plans as they are made in earnest: by the planner, from a runbook file and the shipped sample world.

use crate::fixtures::at;
use drover_core::{plan, targets};
use drover_model::config::decode::{self, SourceFile};
use drover_model::decision::{Verdict, VerdictState};
use drover_model::plan::{Intent, LoadedRunbook, Plan, StandingVerdict, StepKind, World, shares_with_run};
use drover_model::reason::Reason;
use drover_model::runbook::Purpose;
use drover_model::traffic::Load;
use drover_model::{EndpointKey, RegionId, RequestsPerSecond, RunId};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The region that everything is about.
pub const REGION: &str = "eu-west";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Every YAML file of a directory, by name.
#[allow(clippy::disallowed_methods, reason = "the test reads what is shipped; the core does not")]
fn files(directory: &Path) -> Vec<SourceFile> {
    let entries = std::fs::read_dir(directory).unwrap().map(|e| e.unwrap().path());
    let mut paths: Vec<PathBuf> = entries.filter(|p| p.extension().is_some_and(|e| e == "yaml")).collect();
    paths.sort();
    let file = |p: &PathBuf| SourceFile::new(p.display().to_string(), std::fs::read_to_string(p).unwrap());
    paths.iter().map(file).collect()
}

/// The runbooks of a directory, each program with the digest that a coordinator would have read.
fn runbooks(directory: &Path) -> Vec<LoadedRunbook> {
    let mut loaded = decode::load_runbooks(&files(directory)).unwrap();
    for book in &mut loaded {
        let programs = book.runbook.programs().into_iter().map(|p| (p.to_owned(), "d1".to_owned()));
        book.programs = programs.collect();
    }
    loaded
}

fn standing(state: VerdictState) -> StandingVerdict {
    let reason = Reason::QuorumReached { failing: 3, configured: 3, need: 2 };
    let verdict = Verdict {
        state,
        failing: 0,
        unconfirmed: 0,
        healthy: 0,
        abstaining: 0,
        configured: 3,
        need: 2,
        suspect: false,
        reason,
    };
    StandingVerdict { verdict, since: at(0), recent_changes: vec![] }
}

/// The shipped sample world, all of it healthy and measured.
fn world(books: Vec<LoadedRunbook>) -> World {
    let config = Arc::new(decode::load(&files(&root().join("regions"))).unwrap().config);
    let endpoints =
        config.services.values().flat_map(|s| s.endpoints.keys().map(|r| EndpointKey::new(&s.name, r)));
    let services = config.services.values();
    World {
        verdicts: endpoints.map(|e| (e, standing(VerdictState::Healthy))).collect(),
        vantages: BTreeMap::new(),
        traffic: services.map(|s| (s.name.clone(), targets::initial_traffic(s, at(0)))).collect(),
        loads: config
            .services
            .keys()
            .map(|s| (s.clone(), Load::Measured { rate: RequestsPerSecond(100), at: at(0) }))
            .collect(),
        holds: vec![],
        held: BTreeMap::new(),
        dns_of_another_store: None,
        freeze: None,
        blocks: vec![],
        runs: vec![],
        ended: vec![],
        rearmed: BTreeMap::new(),
        runbooks: books.into_iter().map(|b| (b.runbook.purpose, b)).collect(),
        service_versions: Arc::new(config.service_versions()),
        heard_since_start: vec![],
        config,
    }
}

fn made(world: &World, purpose: Purpose) -> Plan {
    let intent = Intent {
        purpose,
        services: vec![],
        region: RegionId::new(REGION).unwrap(),
        to: None,
        automatic: false,
        hold_for: None,
        reason: "a test".into(),
        accept: vec![],
    };
    let planned = plan::plan(world, &intent, at(0));
    let plan = planned.plan.unwrap_or_else(|| panic!("no {purpose}: {:?}", planned.refusals));
    assert_eq!(drover_core::check::check(&plan, world), []);
    plan
}

/// The world after all of a plan's changes.
fn follow(world: &mut World, plan: &Plan) {
    for step in &plan.steps {
        let StepKind::ShiftTraffic { changes } = &step.kind else { continue };
        for change in changes {
            let state = world.traffic.get_mut(&change.service).unwrap();
            let run = RunId::numbered(1);
            state.shares = shares_with_run(&state.shares, &change.shares_after, &run, &plan.intent);
            state.weights.clone_from(&change.weights_after);
            state.generation = change.to_generation;
        }
    }
}

/// A plan of each runbook: those that are shipped, and the one that holds every kind of step.
pub fn every_plan() -> Vec<(String, Plan)> {
    let shipped = runbooks(&root().join("runbooks"));
    let own = runbooks(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/runbooks"));
    let mut plans = vec![];
    for book in shipped.iter().chain(&own) {
        let purpose = book.runbook.purpose;
        let mut world = world(shipped.clone());
        world.runbooks.insert(purpose, book.clone());
        match purpose {
            Purpose::Failover => {
                for (key, held) in world.verdicts.iter_mut() {
                    if key.region.as_str() == REGION {
                        *held = standing(VerdictState::Down);
                    }
                }
            }
            Purpose::Failback | Purpose::Undrain => {
                let drained = made(&world, Purpose::Drain);
                follow(&mut world, &drained);
            }
            Purpose::Drain => {}
        }
        plans.push((book.runbook.name.clone(), made(&world, purpose)));
    }
    plans
}
