//! From opinions to verdicts: whenever a report touched an endpoint, and on a tick for what changes by silence alone.

use crate::coordinator::Coordinator;
use crate::live::Live;
use crate::recorder::ToRecord;
use drover_core::damping::{self, Damping};
use drover_core::panel::{Panel, is_as_it_stands, is_settled};
use drover_model::api::EndpointExplanation;
use drover_model::config::Config;
use drover_model::decision::{DecisionBody, VantageState, VerdictState};
use drover_model::{AgentId, EndpointKey, RegionId, Timestamp};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How often verdicts are looked at when nothing arrives. A tenth of the smallest probe interval allowed twice over:
/// silence is judged by spans of at least three intervals, so a fifth of a second adds little.
const TICK: Duration = Duration::from_millis(200);

impl Coordinator {
    /// Judges on a tick what changes by silence alone, until told to stop.
    pub(crate) async fn run_verdicts(self: Arc<Self>) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                _ = tick.tick() => {}
            }
            if self.judge_all() {
                self.decide_wake.notify_one();
            }
        }
    }

    /// Concludes the verdicts of all endpoints for which something else may stand now than does, though nothing arrived.
    /// Says whether any state or suspicion changed.
    pub fn judge_all(&self) -> bool {
        let now = self.clock.now();
        let mut live = self.live();
        // After the lock: what was in force before it was had may be no longer.
        let loaded = self.loaded();
        let panel = panel_of(&live, &loaded.config, now);
        let as_before = |(version, judges): &(String, Panel)| *version == loaded.version && *judges == panel;
        let open = if live.judged_by.as_ref().is_some_and(as_before) {
            live.agenda.take_due(now)
        } else {
            live.agenda.clear();
            live.judged_by = Some((loaded.version.clone(), panel));
            self.endpoints()
        };
        self.judge(&mut live, &loaded.config, open.iter(), now)
    }

    /// Concludes the verdicts of these endpoints. Says whether any state or suspicion changed.
    ///
    /// Most of them are as they were. For those only votes are counted; what they were made from is put together when
    /// something is to be told or written down.
    pub(crate) fn judge<'a>(
        &self,
        live: &mut Live,
        config: &Config,
        endpoints: impl Iterator<Item = &'a EndpointKey>,
        now: Timestamp,
    ) -> bool {
        let panel = panel_of(live, config, now);
        // A vantage that speaks otherwise than at the last tick may do so for this one report: what is judged by it now must
        // be judged again, although by then the panel is as it was.
        if live.judged_by.as_ref().is_some_and(|(_, judges)| *judges != panel) {
            live.judged_by = None;
        }
        let mut changed = false;
        for endpoint in endpoints {
            let Some(service) = config.services.get(&endpoint.service) else { continue };
            let (concluded, until) =
                panel.conclude(live.opinions_of(endpoint), service, &endpoint.region, now);
            let before = live.standing.get(endpoint);
            if before.is_some_and(|s| is_as_it_stands(s, &concluded)) {
                live.agenda.set(endpoint, until);
                continue;
            }
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
                let inputs = panel.inputs(live.opinions_of(endpoint), service, endpoint, now);
                let body = DecisionBody::Verdict { inputs, verdict };
                // What has not settled yet must not replace what is recalled: the next start would recall that.
                let remember = is_settled(is.0).then(|| (endpoint.clone(), standing.clone()));
                self.record_later(ToRecord { at: now, body, remember });
            }
            // Damping goes by time as well: what it may change is looked at until nothing of it is left.
            live.agenda.set(endpoint, if standing.recent_changes.is_empty() { until } else { Some(now) });
            if standing.verdict.suspect {
                live.suspects.insert(endpoint.clone());
            } else {
                live.suspects.remove(endpoint);
            }
            if live.standing.get(endpoint) != Some(&standing) {
                live.standing.insert(endpoint.clone(), standing);
            }
        }
        changed
    }
}

/// What each configured vantage may say at `now`.
pub(crate) fn vantage_states(
    live: &Live,
    config: &Config,
    agents: &BTreeMap<AgentId, RegionId>,
    now: Timestamp,
) -> BTreeMap<AgentId, VantageState> {
    agents.keys().map(|a| (a.clone(), state_of(live, config, a, now))).collect()
}

fn state_of(live: &Live, config: &Config, agent: &AgentId, now: Timestamp) -> VantageState {
    let known = live.vantages.get(agent);
    known.map_or(VantageState::NeverHeard, |v| v.gate.state(now, &config.settings.vantage))
}

/// Every configured vantage with what it may say at `now`.
pub(crate) fn panel_of(live: &Live, config: &Config, now: Timestamp) -> Panel {
    Panel::of(config, |agent| state_of(live, config, agent, now)).led_since(live.started_at)
}

/// What stands for an endpoint, and from what, in full.
pub(crate) fn explain(
    panel: &Panel,
    live: &Live,
    config: &Config,
    endpoint: &EndpointKey,
    now: Timestamp,
) -> Option<EndpointExplanation> {
    let standing = live.standing.get(endpoint)?;
    let service = config.services.get(&endpoint.service)?;
    Some(EndpointExplanation {
        endpoint: endpoint.clone(),
        inputs: panel.inputs(live.opinions_of(endpoint), service, endpoint, now),
        verdict: standing.verdict.clone(),
        since: Some(standing.since),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testbed::Bed;
    use serde_json::json;

    /// One more report of an agent that has reported before.
    fn report(bed: &Bed, sequence: u64, endpoint: &EndpointKey, blind: bool) {
        let now = bed.c.clock.now();
        let seen = json!({
            "sequence": sequence, "endpoint": endpoint, "began_at": now, "age": "5ms", "latency_micros": 900,
            "outcome": {"result": "good"}, "status": 200, "certificate_expires_at": null,
        });
        let report = json!({
            "schema": 1, "agent": "us-east-1", "boot": "b", "boot_number": 1, "sent_at": now, "config_version": "any",
            "observations": [seen], "opinions": [], "dropped": 0,
            "self_check": {"references_reached": 0, "references": 2, "blind": blind},
        });
        bed.c.ingest(&serde_json::from_value(report).unwrap());
    }

    #[tokio::test]
    async fn a_vantage_that_is_blind_for_one_report_leaves_no_verdict_behind() {
        let bed = Bed::new().await;
        bed.all_is_well();
        bed.c.judge_all();
        let (x, y): (EndpointKey, EndpointKey) =
            ("checkout@eu-west".parse().unwrap(), "catalog@eu-west".parse().unwrap());
        let standing = |e: &EndpointKey| bed.c.live().standing[e].verdict.clone();
        let before = standing(&x);
        report(&bed, 1_001, &x, true);
        assert!(standing(&x).healthy < before.healthy, "while it is blind it does not count");
        report(&bed, 1_002, &y, false);
        bed.c.judge_all();
        assert_eq!(standing(&x), before);
    }

    #[tokio::test]
    async fn silence_is_judged_when_it_is_due_and_nothing_before() {
        let bed = Bed::new().await;
        bed.all_is_well();
        bed.c.judge_all();
        let now = bed.c.clock.now();
        let mut live = bed.c.live();
        let loaded = bed.c.loaded();
        let stale_after =
            loaded.config.services.values().map(drover_model::config::Service::stale_after).min().unwrap();
        assert_eq!(live.agenda.take_due(now), []);
        let due = live.agenda.take_due(now + stale_after + drover_model::Span::from_secs(1));
        assert!(!due.is_empty(), "every endpoint that is held healthy goes stale");
    }
}
