//! From opinions to verdicts: whenever a report touched an endpoint, and on a tick for what changes by silence alone.

use crate::coordinator::Coordinator;
use crate::live::{Judged, Live};
use crate::recorder::ToRecord;
use drover_core::damping::{self, Damping};
use drover_core::opinion::{Opinion, policy_of};
use drover_core::{quorum, verdict};
use drover_model::config::{Config, Service};
use drover_model::decision::{DecisionBody, VantageOpinion, VantageState, VerdictInputs, VerdictState};
use drover_model::{AgentId, EndpointKey, RegionId, Timestamp};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How often verdicts are looked at when nothing arrives. A tenth of the smallest probe interval allowed twice over:
/// silence is judged by spans of at least three intervals, so a fifth of a second adds little.
const TICK: Duration = Duration::from_millis(200);

impl Coordinator {
    /// Judges every endpoint again on a tick, until told to stop.
    pub(crate) async fn run_verdicts(self: Arc<Self>) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                _ = tick.tick() => {}
            }
            let loaded = self.loaded();
            let now = self.clock.now();
            let all: Vec<EndpointKey> = loaded
                .config
                .services
                .values()
                .flat_map(|s| s.endpoints.keys().map(|r| EndpointKey::new(&s.name, r)))
                .collect();
            let changed = self.judge(&mut self.live(), &loaded.config, all.iter(), now);
            if changed {
                self.decide_wake.notify_one();
            }
        }
    }

    /// Concludes the verdicts of these endpoints. Says whether any state or suspicion changed.
    pub(crate) fn judge<'a>(
        &self,
        live: &mut Live,
        config: &Config,
        endpoints: impl Iterator<Item = &'a EndpointKey>,
        now: Timestamp,
    ) -> bool {
        let agents = config.agents();
        let states = vantage_states(live, config, &agents, now);
        let mut changed = false;
        for endpoint in endpoints {
            let Some(service) = config.services.get(&endpoint.service) else { continue };
            let inputs = inputs(live, service, endpoint, &agents, &states, now);
            let concluded = verdict::conclude(&inputs);
            let before = live.standing.get(endpoint).map(|j| &j.standing);
            let was = before.map(|s| (s.verdict.state, s.verdict.suspect));
            let recalled = is_settled(concluded.state).then(|| live.recalled.remove(endpoint)).flatten();
            let recalled = recalled.map(|stored| damping::recalled(stored, now));
            let before = recalled.as_ref().or(before);
            let standing = damping::apply(before, concluded, now, &Damping::of(service));
            let is = (standing.verdict.state, standing.verdict.suspect);
            if was != Some(is) {
                changed = true;
            }
            if was.map_or(VerdictState::Unknown, |(s, _)| s) != is.0 {
                tracing::info!(%endpoint, verdict = %is.0, "verdict: {}", standing.verdict.reason);
                // What stands after damping, not what the moment alone would say.
                let verdict = standing.verdict.clone();
                let body = DecisionBody::Verdict { inputs: inputs.clone(), verdict };
                // What has not settled yet must not replace what is recalled: the next start would recall that.
                let remember = is_settled(is.0).then(|| (endpoint.clone(), standing.clone()));
                self.record_later(ToRecord { at: now, body, remember });
            }
            live.standing.insert(endpoint.clone(), Judged { standing, inputs });
        }
        changed
    }
}

/// Something is concluded. While reports trickle in after a start nothing is, and an endpoint that was down before the
/// start and is down after it has been in one trouble and not in two: not a flap, and not a trouble that began now,
/// which the common-cause breaker would count with any other region's.
fn is_settled(state: VerdictState) -> bool {
    match state {
        VerdictState::Healthy | VerdictState::Degraded | VerdictState::Unreachable | VerdictState::Down => {
            true
        }
        VerdictState::Partitioned | VerdictState::Unknown => false,
    }
}

/// What each configured vantage may say at `now`.
pub(crate) fn vantage_states(
    live: &Live,
    config: &Config,
    agents: &BTreeMap<AgentId, RegionId>,
    now: Timestamp,
) -> BTreeMap<AgentId, VantageState> {
    agents
        .keys()
        .map(|a| {
            let state = live
                .vantages
                .get(a)
                .map_or(VantageState::NeverHeard, |v| v.gate.state(now, &config.settings.vantage));
            (a.clone(), state)
        })
        .collect()
}

fn inputs(
    live: &Live,
    service: &Service,
    endpoint: &EndpointKey,
    agents: &BTreeMap<AgentId, RegionId>,
    states: &BTreeMap<AgentId, VantageState>,
    now: Timestamp,
) -> VerdictInputs {
    let nothing = Opinion::new();
    let opinions = live.opinions.get(endpoint);
    let policy = policy_of(service);
    let mut outside: Vec<VantageOpinion> = Vec::new();
    let mut inside: Vec<VantageOpinion> = Vec::new();
    for (agent, region) in agents {
        let opinion = opinions.and_then(|o| o.get(agent)).unwrap_or(&nothing);
        let state = states.get(agent).copied().unwrap_or(VantageState::NeverHeard);
        let told = opinion.at(now, &policy).told_by(agent, region, state);
        if *region == endpoint.region { inside.push(told) } else { outside.push(told) }
    }
    let n = u32::try_from(outside.len()).unwrap_or(u32::MAX);
    let need = quorum::need_under(n, service.failover.quorum);
    VerdictInputs { endpoint: endpoint.clone(), at: now, need, outside, inside }
}
