//! `explain`: one plain sentence, then the vantages, the rules and the guards with their numbers.

use crate::api::problem::ApiError;
use crate::coordinator::Coordinator;
use crate::db::keys;
use crate::verdicts::Panel;
use drover_core::decide;
use drover_model::api::{API_SCHEMA, DecisionSummary, EndpointExplanation, ExplainView};
use drover_model::decision::{ActionDecision, DecisionBody, StoredDecision};
use drover_model::plan::World;
use drover_model::{EndpointKey, RegionId};

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
            let panel = Panel::of(&live, &world.config, now);
            subject.endpoints.iter().filter_map(|e| panel.explain(&live, &world.config, e, now)).collect()
        };
        let decisions: Vec<ActionDecision> =
            decide::decide(&world, now).into_iter().filter(|d| subject.regions.contains(&d.region)).collect();
        let history = self.decision_history(&subject).await?;
        let sentence = sentence(text, &decisions, &endpoints);
        Ok(ExplainView {
            schema: API_SCHEMA,
            subject: text.to_owned(),
            sentence,
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
    fn is_concerned_by(&self, stored: &StoredDecision) -> bool {
        match &stored.body {
            DecisionBody::Verdict { inputs, .. } => self.endpoints.contains(&inputs.endpoint),
            DecisionBody::Action { region, .. } => self.regions.contains(region),
        }
    }
}

/// The most telling sentence: a decision that acts or asks, else one that holds for a reason, else what is seen.
fn sentence(text: &str, decisions: &[ActionDecision], endpoints: &[EndpointExplanation]) -> String {
    use drover_model::decision::Conclusion;
    let rank = |d: &ActionDecision| match d.conclusion {
        Conclusion::Act => 3,
        Conclusion::Ask => 2,
        Conclusion::Hold => 1,
    };
    if let Some(d) = decisions.iter().max_by_key(|d| rank(d)) {
        return decide::sentence(d);
    }
    match endpoints.iter().find(|e| e.verdict.state != drover_model::decision::VerdictState::Healthy) {
        Some(e) => format!("{} is {}: {}", e.endpoint, e.verdict.state, e.verdict.reason),
        None if endpoints.is_empty() => format!("nothing is known of {text} yet"),
        None => format!("{text} is healthy: {}", endpoints[0].verdict.reason),
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
