//! `explain` of what has a number: a run, by the decision that began it and by what is seen of its services now; a
//! stored decision, by what it was made from.

use super::explain::summary;
use crate::api::problem::ApiError;
use crate::coordinator::Coordinator;
use crate::db::keys;
use crate::verdicts::{explain, panel_of};
use drover_model::api::{API_SCHEMA, EndpointExplanation, ExplainView};
use drover_model::decision::{DecisionBody, StoredDecision};
use drover_model::journal::Trigger;
use drover_model::{DecisionId, EndpointKey, RunId};

impl Coordinator {
    /// Explains a run or a decision; nothing when `text` names neither kind.
    pub(crate) async fn explain_numbered(&self, text: &str) -> Result<Option<ExplainView>, ApiError> {
        let Some(number) = keys::number_of(text) else { return Ok(None) };
        if RunId::numbered(number).as_str() == text {
            return self.explain_run(&RunId::numbered(number)).await.map(Some);
        }
        if DecisionId::numbered(number).as_str() == text {
            return self.explain_decision(&DecisionId::numbered(number)).await.map(Some);
        }
        Ok(None)
    }

    async fn explain_run(&self, run: &RunId) -> Result<ExplainView, ApiError> {
        let view =
            self.run_view(run).await?.ok_or_else(|| ApiError::not_found(run.to_string(), Vec::new()))?;
        let s = &view.summary;
        let services = crate::text::list(&s.services);
        let sentence =
            format!("{run} ({} of {services} from {}) is {}: {}", s.purpose, s.region, s.state, s.summary);
        let decision = match &view.trigger {
            Trigger::Decision { decision, .. } => self.stored_decision(decision).await?,
            Trigger::Command => None,
        };
        let endpoints = {
            let (loaded, now) = (self.loaded(), self.clock.now());
            let live = self.live();
            let panel = panel_of(&live, &loaded.config, now);
            let of_run = s.services.iter().map(|service| EndpointKey::new(service, &s.region));
            of_run.filter_map(|e| explain(&panel, &live, &loaded.config, &e, now)).collect()
        };
        Ok(ExplainView {
            schema: API_SCHEMA,
            subject: run.to_string(),
            sentence,
            standing: Vec::new(),
            endpoints,
            decisions: decision.iter().filter_map(action).collect(),
            history: decision.iter().map(summary).collect(),
        })
    }

    async fn explain_decision(&self, id: &DecisionId) -> Result<ExplainView, ApiError> {
        let stored = self.stored_decision(id).await?;
        let stored = stored.ok_or_else(|| ApiError::not_found(id.to_string(), Vec::new()))?;
        let line = summary(&stored);
        let endpoints = match &stored.body {
            DecisionBody::Verdict { inputs, verdict } => {
                let (endpoint, inputs, verdict) = (inputs.endpoint.clone(), inputs.clone(), verdict.clone());
                vec![EndpointExplanation { endpoint, inputs, verdict, since: Some(stored.at) }]
            }
            DecisionBody::Action { .. } => Vec::new(),
        };
        Ok(ExplainView {
            schema: API_SCHEMA,
            subject: id.to_string(),
            sentence: line.sentence.clone(),
            standing: Vec::new(),
            endpoints,
            decisions: action(&stored).into_iter().collect(),
            history: vec![line],
        })
    }

    /// A stored decision, unless there is none of that name.
    pub(crate) async fn stored_decision(&self, id: &DecisionId) -> Result<Option<StoredDecision>, ApiError> {
        // Only the number is looked up, so that `run-7` must not find `decision-7`.
        let number = keys::number_of(id.as_str()).filter(|n| DecisionId::numbered(*n) == *id);
        let Some(number) = number else { return Ok(None) };
        Ok(self.db.get(&keys::numbered(keys::DECISIONS, number)).await?.map(|(d, _)| d))
    }

    /// The same, with the world that it was made from where that was kept.
    pub(crate) async fn decision_and_world(
        &self,
        id: &DecisionId,
    ) -> Result<Option<StoredDecision>, ApiError> {
        let Some(mut stored) = self.stored_decision(id).await? else { return Ok(None) };
        if let (DecisionBody::Action { world: world @ None, .. }, Some(number)) =
            (&mut stored.body, keys::number_of(id.as_str()))
        {
            *world = self.world_of(number).await?.map(Box::new);
        }
        Ok(Some(stored))
    }
}

fn action(stored: &StoredDecision) -> Option<drover_model::decision::ActionDecision> {
    match &stored.body {
        DecisionBody::Action { decision, .. } => Some(decision.clone()),
        DecisionBody::Verdict { .. } => None,
    }
}
