//! From a runbook's typed steps to exact ones, so that nothing is left to decide when the plan runs.
//!
//! A ramp repeats its inner steps once for each stage. Services with different ramps go together: the ramp has as many
//! rounds as the longest, and a service whose own ramp has ended is not changed again. A step that would do nothing
//! (no weights to change, no scripted request to make) is left out: an empty check must not look like a passed one.

use super::figures::{drain_span, ttl_seconds};
use super::moves::{Move, Stage};
use super::proof;
use crate::capacity;
use drover_model::config::{Endpoint, HealthCheck, Service};
use drover_model::ids::EndpointKey;
use drover_model::plan::{
    AppCheckTarget, DrainTarget, Intent, LoadedRunbook, PlannedShare, PlannedShareReason, Predicate, Program,
    Reversal, Step, StepKind, TrafficChange, ValidationTarget, World,
};
use drover_model::runbook::{Purpose, RunStep, RunUndo, RunbookStep, RunbookStepKind, WaitFor};
use drover_model::time::Span;
use drover_model::traffic::ShareReason;
use drover_model::units::{Generation, WEIGHT_SUM};
use drover_model::{Percent, RegionId, RequestsPerSecond, Weights};
use std::collections::BTreeMap;

/// All steps of the plan.
pub(super) fn expand(
    world: &World,
    intent: &Intent,
    loaded: &LoadedRunbook,
    moves: &[Move<'_>],
) -> Vec<Step> {
    let positions = moves.iter().map(Position::start).collect();
    let programs = &loaded.programs;
    let mut expansion = Expansion { world, intent, programs, moves, positions, shifted: None, steps: vec![] };
    for step in &loaded.runbook.steps {
        match &step.kind {
            RunbookStepKind::Ramp(inner) => {
                let rounds = moves.iter().map(|m| m.stages.len()).max().unwrap_or(0);
                for round in 0..rounds {
                    inner.iter().for_each(|step| expansion.add(step, round));
                }
            }
            _ => expansion.add(step, usize::MAX), // Outside a ramp: to where the move ends.
        }
    }
    expansion.steps
}

/// Where one service stands at this point of the plan.
struct Position {
    generation: Generation,
    /// The stage that was published last; none yet at the start.
    stage: Option<usize>,
}

impl Position {
    fn start(found: &Move<'_>) -> Self {
        Self { generation: found.state.generation, stage: None }
    }
}

struct Expansion<'a, 'w> {
    world: &'a World,
    intent: &'a Intent,
    /// Digests of the runbook's programs, by path.
    programs: &'a BTreeMap<String, String>,
    moves: &'a [Move<'w>],
    /// Beside `moves`.
    positions: Vec<Position>,
    /// The last step that published anything.
    shifted: Option<String>,
    steps: Vec<Step>,
}

impl Expansion<'_, '_> {
    /// Adds what `step` means in this round of a ramp; a ramp inside a ramp means nothing more than its steps.
    fn add(&mut self, step: &RunbookStep, round: usize) {
        let (kind, reversal, by_design) = match &step.kind {
            RunbookStepKind::Preflight => (self.preflight(round), Reversal::Nothing, Span::ZERO),
            RunbookStepKind::VerifyApp => (self.verify_app(), Reversal::Nothing, Span::ZERO),
            RunbookStepKind::ShiftTraffic => {
                let (kind, reversal) = self.shift(round);
                (kind, reversal, Span::ZERO)
            }
            RunbookStepKind::VerifyDns => (self.verify_dns(), Reversal::Nothing, Span::ZERO),
            RunbookStepKind::Wait(wait) => {
                let (span, why) = self.wait(*wait);
                let kind = (span > Span::ZERO).then_some(StepKind::Wait { span, why });
                (kind, Reversal::Nothing, span)
            }
            RunbookStepKind::Validate => {
                let targets = proof::targets(self.intent, self.moves, round);
                let longest = targets.iter().map(ValidationTarget::longest).max().unwrap_or_default();
                (Some(StepKind::Validate { targets }), Reversal::Nothing, longest)
            }
            RunbookStepKind::Drained => {
                let (targets, quiet) = (self.left(), drain_span(self.services()));
                let holds = targets.iter().filter_map(|t| t.source.as_ref()).map(|source| source.hold);
                let by_design = quiet.plus(holds.max().unwrap_or_default());
                let kind = (!targets.is_empty()).then_some(StepKind::Drained { targets, quiet });
                (kind, Reversal::Nothing, by_design)
            }
            RunbookStepKind::Approve(message) => {
                let expires = self.services().map(|s| s.failover.approval_expires).min().unwrap_or_default();
                let message = message.clone();
                let approvals = super::approvals(self.services());
                (Some(StepKind::Approve { message, expires, approvals }), Reversal::Nothing, expires)
            }
            RunbookStepKind::Notify(message) => {
                (Some(StepKind::Notify { message: message.clone() }), Reversal::Nothing, Span::ZERO)
            }
            RunbookStepKind::Run(run) => {
                let reversal = match run.undo {
                    RunUndo::Nothing => Reversal::Nothing,
                    RunUndo::Ask => Reversal::AskOperator,
                };
                (self.run(run), reversal, Span::ZERO)
            }
            RunbookStepKind::Ramp(inner) => return inner.iter().for_each(|s| self.add(s, round)),
        };
        let Some(kind) = kind else { return };
        self.steps.push(Step {
            id: self.next_id(kind.word()),
            kind,
            timeout: step.timeout.plus(by_design),
            attempts: step.attempts.max(1),
            backoff: step.backoff,
            on_failure: step.on_failure,
            reversal,
        });
    }

    fn next_id(&self, word: &str) -> String {
        format!("{}-{word}", self.steps.len() + 1)
    }

    fn services(&self) -> impl Iterator<Item = &Service> {
        self.moves.iter().map(|m| m.service)
    }

    /// The live facts that must hold, for what is published next.
    fn preflight(&self, round: usize) -> Option<StepKind> {
        let mut predicates = vec![];
        for (found, position) in self.moves.iter().zip(&self.positions) {
            let service = &found.service.name;
            predicates
                .push(Predicate::TrafficAt { service: service.clone(), generation: position.generation });
            if self.intent.automatic && self.intent.purpose == Purpose::Failover {
                let endpoint = EndpointKey::new(service, &self.intent.region);
                predicates.push(Predicate::EndpointStillBad { endpoint });
            }
            let load = capacity::load_of(self.world, found.service).rate();
            for region in found.chosen() {
                predicates.push(Predicate::EndpointHealthy { endpoint: EndpointKey::new(service, region) });
            }
            for region in found.carrying() {
                predicates.extend(load.and_then(|load| fits(found, found.stage(round), region, load)));
            }
        }
        Some(StepKind::Preflight { predicates })
    }

    /// Scripted requests against every endpoint that takes traffic.
    fn verify_app(&self) -> Option<StepKind> {
        let mut targets = vec![];
        for found in self.moves.iter().filter(|m| !m.service.app_checks.is_empty()) {
            for region in found.chosen() {
                targets.extend(app_checks(found.service, region));
            }
        }
        (!targets.is_empty()).then_some(StepKind::VerifyApp { targets })
    }

    fn shift(&mut self, round: usize) -> (Option<StepKind>, Reversal) {
        let (mut changes, mut back, mut out) = (vec![], vec![], vec![]);
        for (found, position) in self.moves.iter().zip(&mut self.positions) {
            let to = round.min(found.stages.len() - 1);
            if position.stage.is_some_and(|at| at >= to) {
                // Its own ramp has ended; should the region die while another's goes on, it goes out as well.
                let ended = change(found, position, to, &self.intent.region);
                out.extend(taken_out(found, &ended, &self.intent.region));
                continue;
            }
            let change = change(found, position, to, &self.intent.region);
            if self.intent.purpose != Purpose::Failover {
                back.push(reversed(found, position, &change, &self.intent.region));
                out.extend(taken_out(found, &change, &self.intent.region));
            }
            *position = Position { generation: change.to_generation, stage: Some(to) };
            changes.push(change);
        }
        if changes.is_empty() {
            return (None, Reversal::Nothing);
        }
        // A failed region's traffic is never sent back to it by drover; a failback does that, when it is healthy.
        let reversal = match self.intent.purpose {
            Purpose::Failover => Reversal::ForwardOnly,
            // Inside of a ramp: what was validated at the stages before stays.
            _ if round != usize::MAX => Reversal::StepBack { changes: back, out },
            _ => Reversal::RestoreWeights { changes: back },
        };
        self.shifted = Some(self.next_id("shift_traffic"));
        (Some(StepKind::ShiftTraffic { changes }), reversal)
    }

    fn verify_dns(&self) -> Option<StepKind> {
        self.shifted.clone().map(|of| StepKind::VerifyDns { of: Some(of), expected: Vec::new() })
    }

    /// The endpoints that are left.
    fn left(&self) -> Vec<DrainTarget> {
        let region = &self.intent.region;
        let endpoints = self.moves.iter().filter_map(|m| Some((m.service, m.service.endpoints.get(region)?)));
        let target = |(service, endpoint): (&Service, &Endpoint)| DrainTarget {
            endpoint: EndpointKey::new(&service.name, region),
            address: endpoint.address.clone(),
            port: endpoint.port,
            source: service.traffic.clone(),
        };
        endpoints.map(target).collect()
    }

    fn run(&self, run: &RunStep) -> Option<StepKind> {
        let program = |line: &Vec<String>| {
            let (path, arguments) = line.split_first()?;
            // A program that nobody read has no digest, and the checker lets no such plan run.
            let digest = self.programs.get(path).cloned().unwrap_or_default();
            Some(Program { path: path.clone(), arguments: arguments.to_vec(), digest })
        };
        let command = program(&run.command)?;
        let observe = run.observe.as_ref().and_then(program);
        Some(StepKind::Run { command, repeatability: run.repeatability, observe })
    }

    fn wait(&self, wait: WaitFor) -> (Span, String) {
        match wait {
            WaitFor::Drain => {
                let span = drain_span(self.services());
                (span, "old answers leave the caches (TTL and half)".to_owned())
            }
            WaitFor::Soak => {
                let span = self.services().map(|s| s.failover.soak).max().unwrap_or_default();
                (span, "soak at the new weights".to_owned())
            }
            WaitFor::Fixed(span) => (span, "as the runbook says".to_owned()),
        }
    }
}

/// Asks again for what fitted when it was planned. What did not was refused, or let go ahead by a person; asking again
/// would only stop them.
fn fits(found: &Move<'_>, stage: &Stage, region: &RegionId, load: RequestsPerSecond) -> Option<Predicate> {
    let weight = stage.weights.of(region);
    let usable = capacity::usable(found.service, region);
    (capacity::projected(load, weight) <= usable).then(|| Predicate::Fits {
        service: found.service.name.clone(),
        region: region.clone(),
        share: Percent::of(u64::from(weight.0), u64::from(WEIGHT_SUM)),
        usable,
    })
}

fn app_checks(service: &Service, region: &RegionId) -> Vec<AppCheckTarget> {
    let Some(endpoint) = service.endpoints.get(region) else { return vec![] };
    let (tls, host) = match &service.check {
        HealthCheck::Http(http) => (http.tls, http.host.clone()),
        HealthCheck::Tcp(_) => (false, None),
    };
    let target = |check: &drover_model::config::AppCheck| AppCheckTarget {
        endpoint: EndpointKey::new(&service.name, region),
        address: endpoint.address.clone(),
        port: endpoint.port,
        tls,
        host: host.clone().unwrap_or_else(|| service.dns_name.clone()),
        check: check.clone(),
    };
    service.app_checks.iter().map(target).collect()
}

fn change(found: &Move<'_>, position: &Position, to: usize, region: &RegionId) -> TrafficChange {
    let service = found.service;
    TrafficChange {
        service: service.name.clone(),
        dns_name: service.dns_name.clone(),
        record_type: service.record_type,
        ttl_seconds: ttl_seconds(service),
        addresses: BTreeMap::new(),
        from_generation: position.generation,
        to_generation: position.generation.next(),
        weights_before: weights_at(found, position).clone(),
        weights_after: found.stages[to].weights.clone(),
        shares_after: BTreeMap::from([(region.clone(), found.stages[to].share)]),
    }
}

fn weights_at<'a>(found: &'a Move<'_>, position: &Position) -> &'a Weights {
    position.stage.map_or(&found.state.weights, |stage| &found.stages[stage].weights)
}

/// The change back to where `position` stood before it.
fn reversed(
    found: &Move<'_>,
    position: &Position,
    forth: &TrafficChange,
    region: &RegionId,
) -> TrafficChange {
    let share =
        position.stage.map_or_else(|| standing_share(found, region), |stage| found.stages[stage].share);
    TrafficChange {
        from_generation: forth.to_generation,
        to_generation: forth.to_generation.next(),
        weights_before: forth.weights_after.clone(),
        weights_after: forth.weights_before.clone(),
        shares_after: BTreeMap::from([(region.clone(), share)]),
        ..forth.clone()
    }
}

/// From where `forth` leads, the change that takes the region out altogether; none for a service that would go dark.
fn taken_out(found: &Move<'_>, forth: &TrafficChange, region: &RegionId) -> Option<TrafficChange> {
    let mut percents = crate::targets::percents(&found.state.shares);
    percents.insert(region.clone(), Percent::ZERO);
    let weights_after = crate::weights::published(found.service, &percents).ok()?;
    let share = PlannedShare { share: Percent::ZERO, reason: PlannedShareReason::FailedOver };
    Some(TrafficChange {
        from_generation: forth.to_generation,
        to_generation: forth.to_generation.next(),
        weights_before: forth.weights_after.clone(),
        weights_after,
        shares_after: BTreeMap::from([(region.clone(), share)]),
        ..forth.clone()
    })
}

/// The share that the region has now, with its reason renewed: whoever undoes a return drains again under its own name.
fn standing_share(found: &Move<'_>, region: &RegionId) -> PlannedShare {
    let Some(standing) = found.state.shares.get(region) else {
        return PlannedShare { share: Percent::ZERO, reason: PlannedShareReason::Drained };
    };
    let reason = match standing.reason {
        ShareReason::Configured => PlannedShareReason::Configured,
        ShareReason::Drained { .. } => PlannedShareReason::Drained,
        ShareReason::FailedOver { .. } => PlannedShareReason::FailedOver,
        ShareReason::Returning { .. } => PlannedShareReason::Returning,
    };
    PlannedShare { share: standing.share, reason }
}
