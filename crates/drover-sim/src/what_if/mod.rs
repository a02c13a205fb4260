//! What would happen to this configuration if regions were lost or cut off from each other: drover's own decisions and
//! runs in a world that is as configured, with traffic as DNS would send it.
//!
//! Beside what happens ([`ask`]), arithmetic says whether what remains can carry the traffic at all ([`survival`]):
//! a person may fail over where drover asks, but nobody moves traffic to where it does not fit.

mod survival;

pub use survival::{Survival, each_loss, survival};

use crate::render::plain;
use crate::sim::Simulation;
use crate::state::{BEGINNING, State, WARM_UP};
use crate::verbs::{self, Words};
use crate::world::{WorldError, WorldFiles};
use drover_core::capacity;
use drover_model::{EndpointKey, RegionId, RequestsPerSecond, ServiceId, Span, Weights};
use serde::Serialize;
use std::collections::BTreeMap;

/// The name of the world among its files.
const WORLD: &str = "configured";
/// Between two looks at what DNS answers: drover itself looks as often.
const LOOK: Span = Span::from_secs(1);

/// What is to happen.
#[derive(Debug, Clone, Default)]
pub struct Question {
    /// Regions of which nothing is left.
    pub kill: Vec<RegionId>,
    /// Regions between which nothing passes.
    pub partition: Vec<(RegionId, RegionId)>,
    /// After the begin.
    pub at: Span,
    /// How long it is watched from there.
    pub lasts: Span,
    /// Moves the begin by less than a probe interval: the moment between two probes is chance.
    pub later: Span,
}

/// One line of what happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Moment {
    /// Since the begin.
    pub at: Span,
    /// In words.
    pub what: String,
}

/// Where the traffic of one service goes from one moment on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Traffic {
    /// Since the begin.
    pub at: Span,
    /// Of which service.
    pub service: ServiceId,
    /// By region.
    pub regions: Vec<Share>,
}

/// One region's part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Share {
    /// The region.
    pub region: RegionId,
    /// Of a hundred.
    pub weight: u8,
    /// What users ask of it; nothing where no load is declared.
    pub load: Option<RequestsPerSecond>,
    /// What it can serve.
    pub capacity: RequestsPerSecond,
    /// Of that, in whole percent, rounded up.
    pub used_percent: Option<u64>,
    /// Nothing of it is left.
    pub lost: bool,
}

/// How one service came through.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Recovery {
    /// The service.
    pub service: ServiceId,
    /// Did users of it ask a region that was lost?
    pub affected: bool,
    /// From the loss to DNS without what was lost.
    pub moved_after: Option<Span>,
    /// To the last resolver without it: a TTL later. Absent when DNS was not brought there.
    pub rta: Option<Span>,
    /// The objective.
    pub rto: Span,
}

/// What would happen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// In order.
    pub timeline: Vec<Moment>,
    /// Each change of it, the first of each service at the begin.
    pub traffic: Vec<Traffic>,
    /// By service.
    pub services: Vec<Recovery>,
    /// What must never happen and did: a mistake in drover.
    pub violations: Vec<String>,
}

/// Plays it. `files` needs no world: the configuration is `yaml`.
///
/// # Errors
/// [`WorldError`] when the configuration is refused, or a region is not in it.
pub fn ask(runbooks: &WorldFiles, yaml: &str, question: &Question) -> Result<Answer, WorldError> {
    let mut files = runbooks.clone();
    files.worlds.insert(WORLD.to_owned(), yaml.to_owned());
    let mut sim = Simulation::new(&files, WORLD, false)?;
    let mut watched = Watched::default();
    let until_known = until_known(&sim.shared.lock());
    sim.advance(until_known);
    sim.told();
    let begin = until_known;
    watched.look(&sim.shared.lock(), Span::ZERO);
    let loss = question.at.plus(question.later);
    watched.pass(&mut sim, begin, loss);
    for verb in verbs_of(question) {
        watched.timeline.push(Moment { at: loss, what: format!("-- {verb}") });
        let handle = sim.handle();
        let _inside = handle.enter();
        let mut words = Words::of(&verb);
        let refused = |why| WorldError::Refused(format!("`{verb}`: {why}"));
        let word = words.next("a verb").map_err(refused)?;
        verbs::play(&mut sim, &word, words).map_err(refused)?;
    }
    watched.look(&sim.shared.lock(), loss);
    watched.pass(&mut sim, begin, loss.plus(question.lasts));
    let violations = sim.violations();
    let state = sim.shared.lock();
    let services = recoveries(&state, question, &watched, loss);
    Ok(Answer { timeline: watched.timeline, traffic: watched.traffic, services, violations })
}

/// A world begins probed for two minutes, which is enough at the default interval. A longer one needs more: every vantage
/// must have seen each endpoint as often as recovery takes.
fn until_known(state: &State) -> Span {
    let slowest = state.loaded.config.services.values().map(|s| s.interval.times(3)).max();
    Span::from_millis(slowest.unwrap_or_default().as_millis().saturating_sub(WARM_UP.as_millis()))
}

fn verbs_of(question: &Question) -> Vec<String> {
    let killed = question.kill.iter().map(|region| format!("break {region}"));
    let cut = question.partition.iter().map(|(a, b)| format!("break link {a} {b}"));
    killed.chain(cut).collect()
}

#[derive(Default)]
struct Watched {
    timeline: Vec<Moment>,
    traffic: Vec<Traffic>,
    stands: BTreeMap<ServiceId, (Weights, Vec<bool>)>,
}

impl Watched {
    /// Lets time pass up to `to`, counted from `begin`.
    fn pass(&mut self, sim: &mut Simulation, begin: Span, to: Span) {
        loop {
            let now = since(&*sim, begin);
            if now >= to {
                return;
            }
            sim.advance(LOOK.min(Span::from_millis(to.as_millis() - now.as_millis())));
            let (told, now) = (sim.told(), since(&*sim, begin));
            let state = sim.shared.lock();
            self.timeline.extend(told.into_iter().map(|(at, what)| {
                let at = Span::from_millis(at.since(BEGINNING).as_millis().saturating_sub(begin.as_millis()));
                Moment { at, what: plain(&state, what) }
            }));
            self.look(&state, now);
        }
    }

    fn look(&mut self, state: &State, at: Span) {
        for (service, answers) in &state.dns.answers {
            let lost: Vec<bool> =
                answers.weights.keys().map(|r| state.truth.dead_regions.contains(r)).collect();
            let stands = (answers.weights.clone(), lost);
            if self.stands.get(service) != Some(&stands) {
                self.traffic.extend(traffic(state, service, &answers.weights, at));
                self.stands.insert(service.clone(), stands);
            }
        }
    }
}

fn since(sim: &Simulation, begin: Span) -> Span {
    let handle = sim.handle();
    let _inside = handle.enter();
    let now = sim.shared.lock().now().since(BEGINNING);
    Span::from_millis(now.as_millis().saturating_sub(begin.as_millis()))
}

fn traffic(state: &State, name: &ServiceId, weights: &Weights, at: Span) -> Option<Traffic> {
    let service = state.loaded.config.services.get(name)?;
    let share = |region: &RegionId| {
        let endpoint = service.endpoints.get(region)?;
        let weight = weights.of(region);
        let load = service.peak_load.map(|load| capacity::projected(load, weight));
        Some(Share {
            region: region.clone(),
            weight: weight.0,
            load,
            capacity: endpoint.capacity,
            used_percent: load.map(|load| percent(load, endpoint.capacity)),
            lost: state.truth.condition(&EndpointKey::new(name, region)).dead,
        })
    };
    let regions = service.endpoints.keys().filter_map(share).collect();
    Some(Traffic { at, service: name.clone(), regions })
}

/// Of what can be served, rounded up.
pub(super) fn percent(load: RequestsPerSecond, capacity: RequestsPerSecond) -> u64 {
    load.0.saturating_mul(100).div_ceil(capacity.0.max(1))
}

fn recoveries(state: &State, question: &Question, watched: &Watched, loss: Span) -> Vec<Recovery> {
    let lost = |share: &&Share| question.kill.contains(&share.region) && share.weight > 0;
    let services = state.loaded.config.services.values();
    let recovery = services.map(|service| {
        let of_it: Vec<&Traffic> = watched.traffic.iter().filter(|t| t.service == service.name).collect();
        let goes_there = |t: &&Traffic| t.regions.iter().any(|s| lost(&s));
        let affected = of_it.iter().rfind(|t| t.at <= loss).is_some_and(goes_there);
        // The change after the last that sent anybody there; none when that lasted to the end.
        let last_bad = of_it.iter().rposition(goes_there);
        let moved_at = last_bad.and_then(|n| of_it.get(n + 1)).map(|t| t.at);
        let moved_after = moved_at
            .filter(|_| affected)
            .map(|at| Span::from_millis(at.as_millis().saturating_sub(loss.as_millis())));
        let rta = moved_after.map(|after| after.plus(service.ttl));
        Recovery { service: service.name.clone(), affected, moved_after, rta, rto: service.rto }
    });
    recovery.collect()
}
