//! `explain`: one plain sentence, then the vantages, the rules and the guards with their numbers.

use crate::api::problem::ApiError;
use crate::coordinator::Coordinator;
use crate::db::keys;
use crate::verdicts::{explain, panel_of};
use drover_core::decide;
use drover_model::api::{
    API_SCHEMA, Attention, DecisionSummary, EndpointExplanation, ExplainView, StatusView,
};
use drover_model::decision::{ActionDecision, Conclusion, DecisionBody, StoredDecision, VerdictState};
use drover_model::plan::World;
use drover_model::reason::Reason;
use drover_model::{EndpointKey, RegionId, ServiceId};

/// Stored decisions shown beside the live state.
const HISTORY_SHOWN: usize = 10;
/// Stored decisions looked at for them, newest first, at most: what is older is listed by `drover log`.
const HISTORY_READ_MAX: u64 = 2_000;
/// Of these, so many at a time: one holds the world that it was made from, which may be large.
const HISTORY_PAGE: usize = 50;

/// What is asked about.
struct Subject {
    endpoints: Vec<EndpointKey>,
    regions: Vec<RegionId>,
}

fn subject(world: &World, text: &str) -> Option<Subject> {
    let all = || {
        world.config.services.values().flat_map(|s| s.endpoints.keys().map(|r| EndpointKey::new(&s.name, r)))
    };
    let endpoints: Vec<EndpointKey> = if text.contains('@') {
        all().filter(|e| e.to_string() == text).collect()
    } else if world.config.services.keys().any(|s| s.as_str() == text) {
        all().filter(|e| e.service.as_str() == text).collect()
    } else if world.config.regions.keys().any(|r| r.as_str() == text) {
        all().filter(|e| e.region.as_str() == text).collect()
    } else {
        return None;
    };
    let mut regions: Vec<RegionId> = endpoints.iter().map(|e| e.region.clone()).collect();
    regions.sort();
    regions.dedup();
    if text.contains('@') && endpoints.is_empty() { None } else { Some(Subject { endpoints, regions }) }
}

fn known(world: &World) -> Vec<String> {
    let regions = world.config.regions.keys().map(ToString::to_string);
    regions.chain(world.config.services.keys().map(ToString::to_string)).collect()
}

impl Coordinator {
    /// Why a region, service or endpoint is as it is.
    pub(crate) async fn explain_view(&self, text: &str) -> Result<ExplainView, ApiError> {
        let now = self.clock.now();
        let world = self.world(now);
        let Some(subject) = subject(&world, text) else {
            return Err(ApiError::not_found(format!("region, service or endpoint {text}"), known(&world)));
        };
        let endpoints: Vec<EndpointExplanation> = {
            let live = self.live();
            let panel = panel_of(&live, &world.config, now);
            subject.endpoints.iter().filter_map(|e| explain(&panel, &live, &world.config, e, now)).collect()
        };
        let decisions: Vec<ActionDecision> =
            decide::decide(&world, now).into_iter().filter(|d| subject.regions.contains(&d.region)).collect();
        let history = self.decision_history(&subject).await?;
        let standing = subject.standing(self.status_view());
        let sentence = sentence(text, &decisions, &standing, &endpoints);
        Ok(ExplainView {
            schema: API_SCHEMA,
            subject: text.to_owned(),
            sentence,
            standing,
            endpoints,
            decisions,
            history,
        })
    }

    async fn decision_history(&self, subject: &Subject) -> Result<Vec<DecisionSummary>, ApiError> {
        let last = self.counters.decisions.last();
        let end = last.saturating_sub(HISTORY_READ_MAX);
        let mut found = Vec::new();
        let mut below = last + 1;
        while below > end + 1 && found.len() < HISTORY_SHOWN {
            let page = self.db.list_below(keys::DECISIONS, below, last, HISTORY_PAGE).await?;
            let Some((lowest, _)) = page.last() else { break };
            below = *lowest;
            let concerning = page.iter().map(|(_, stored)| stored).filter(|d| subject.is_concerned_by(d));
            found.extend(concerning.map(summary));
        }
        found.truncate(HISTORY_SHOWN);
        Ok(found)
    }
}

impl Subject {
    /// The lines about it of what is not normal anywhere. What each endpoint is stands in its own verdict.
    fn standing(&self, view: StatusView) -> Vec<Attention> {
        let StatusView { attention, runs, holds, failbacks, .. } = view;
        let has = |region: &RegionId, services: &[ServiceId]| {
            self.endpoints.iter().any(|e| e.region == *region && services.contains(&e.service))
        };
        let concerns = |a: &Attention| match a.code.as_str() {
            "frozen" | "frozen_lapsing" => true,
            "overloaded" | "ramp_left" | "certificate_expiring" => {
                self.endpoints.iter().any(|e| e.to_string() == a.subject)
            }
            "blocked" | "held_by_break_glass" => {
                self.endpoints.iter().any(|e| e.service.as_str() == a.subject)
            }
            // Of one region there may be several: each of its own services.
            "drained" | "drained_lapsing" => holds.iter().any(|h| {
                h.region.as_str() == a.subject && a.since == Some(h.since) && has(&h.region, &h.services)
            }),
            "failback_offered" | "failback_not_yet" => {
                failbacks.iter().any(|f| f.region.as_str() == a.subject && has(&f.region, &f.services))
            }
            "automatic_impossible" => self.regions.iter().any(|r| r.as_str() == a.subject),
            _ => runs.iter().any(|r| r.id.as_str() == a.subject && has(&r.region, &r.services)),
        };
        attention.into_iter().filter(concerns).collect()
    }

    fn is_concerned_by(&self, stored: &StoredDecision) -> bool {
        match &stored.body {
            DecisionBody::Verdict { inputs, .. } => self.endpoints.contains(&inputs.endpoint),
            DecisionBody::Action { region, .. } => self.regions.contains(region),
        }
    }
}

/// The most telling sentence: a decision that acts or asks, else what is under way, else why nothing is done, else what
/// people and runs left standing, else what is seen.
fn sentence(
    text: &str,
    decisions: &[ActionDecision],
    standing: &[Attention],
    endpoints: &[EndpointExplanation],
) -> String {
    let of = |rank| decisions.iter().find(|d| telling(d) == rank).map(decide::sentence);
    let run = || standing.iter().find(|a| a.code.starts_with("run_"));
    let said = |a: &Attention| format!("{}: {}", a.subject, a.sentence);
    let found = of(Telling::Acts)
        .or_else(|| of(Telling::Asks))
        .or_else(|| run().map(said))
        .or_else(|| of(Telling::Holds))
        .or_else(|| standing.first().map(|a| a.sentence.clone()))
        .or_else(|| of(Telling::Idle));
    if let Some(found) = found {
        return found;
    }
    match endpoints.iter().find(|e| e.verdict.state != VerdictState::Healthy) {
        Some(e) => format!("{} is {}: {}", e.endpoint, e.verdict.state, e.verdict.reason),
        None if endpoints.is_empty() => format!("nothing is known of {text} yet"),
        None => format!("{text} is healthy: {}", endpoints[0].verdict.reason),
    }
}

/// How much a decision tells one who asks why.
#[derive(PartialEq)]
enum Telling {
    Acts,
    Asks,
    Holds,
    /// There is nothing that it could do.
    Idle,
}

fn telling(d: &ActionDecision) -> Telling {
    match d.conclusion {
        Conclusion::Act => Telling::Acts,
        Conclusion::Ask => Telling::Asks,
        Conclusion::Hold if d.reason == Reason::NothingToDo => Telling::Idle,
        Conclusion::Hold => Telling::Holds,
    }
}

/// A stored decision in one line.
#[must_use]
pub fn summary(stored: &StoredDecision) -> DecisionSummary {
    let (subject, sentence, code) = match &stored.body {
        DecisionBody::Verdict { inputs, verdict } => (
            inputs.endpoint.to_string(),
            format!("{} is {}: {}", inputs.endpoint, verdict.state, verdict.reason),
            verdict.reason.code(),
        ),
        DecisionBody::Action { region, decision, run, .. } => {
            let run = run.as_ref().map_or_else(String::new, |r| format!(" ({r})"));
            (region.to_string(), format!("{}{run}", decide::sentence(decision)), decision.reason.code())
        }
    };
    DecisionSummary { id: stored.id.clone(), at: stored.at, subject, sentence, code }
}

#[cfg(test)]
mod tests {
    use super::*;
    use drover_model::api::Severity;
    use drover_model::decision::FailureClass;
    use drover_model::runbook::Purpose;

    fn decision(conclusion: Conclusion, reason: Reason) -> ActionDecision {
        ActionDecision {
            purpose: Purpose::Failover,
            region: RegionId::new("eu-west").unwrap(),
            services: vec![],
            class: FailureClass::Region,
            conclusion,
            guards: vec![],
            reason,
            look_again_at: None,
        }
    }

    fn stands(code: &str, sentence: &str) -> Attention {
        Attention {
            severity: Severity::Info,
            subject: "run-1".into(),
            sentence: sentence.into(),
            code: code.into(),
            next: None,
            since: None,
        }
    }

    #[test]
    fn the_headline_is_what_tells_most() {
        let nothing = decision(Conclusion::Hold, Reason::NothingToDo);
        let split =
            decision(Conclusion::Hold, Reason::QuorumNotReached { failing: 1, configured: 3, need: 2 });
        let acts = decision(Conclusion::Act, Reason::Passed);
        let drained = stands("drained", "eu-west is drained of checkout by ann");
        let runs = stands("run_running", "running: drain of checkout");
        let said = |decisions: &[&ActionDecision], standing: &[&Attention]| {
            let decisions: Vec<_> = decisions.iter().map(|d| (*d).clone()).collect();
            let standing: Vec<_> = standing.iter().map(|a| (*a).clone()).collect();
            sentence("eu-west", &decisions, &standing, &[])
        };
        assert_eq!(
            said(&[&nothing], &[&drained]),
            drained.sentence,
            "a drain is told before that nothing is wrong"
        );
        assert!(said(&[&nothing], &[]).contains("nothing is wrong"));
        assert!(said(&[&nothing, &split], &[&drained]).contains("1 of 3 outside vantages agree"));
        assert!(said(&[&split], &[&drained, &runs]).starts_with("run-1: running"));
        assert!(said(&[&split, &acts], &[&runs]).starts_with("failing over eu-west"));
    }
}
