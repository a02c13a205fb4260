//! What agents fetch and send.

use super::commands::Body;
use super::paging::Asked;
use super::problem::ApiError;
use crate::coordinator::Coordinator;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use drover_model::probe::{ProbeList, REPORT_OBSERVATIONS_MAX, REPORT_SCHEMA, Report, ReportAck};
use drover_model::sight::{QUESTIONS_MAX, SightReport};
use drover_model::{AgentId, RegionId};
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;

/// A request for questions stands for so long, at most: below [`super::API_REQUEST_TIMEOUT`].
const PATIENCE_MAX: Duration = Duration::from_secs(25);

/// What an agent has already, and how long it waits for something else.
#[derive(Debug, Deserialize)]
pub(super) struct QuestionsQuery {
    #[serde(default)]
    have: u64,
    #[serde(default)]
    patience_millis: u64,
}

/// The agent, and where it is.
pub(super) fn known(c: &Coordinator, agent: &str) -> Result<(AgentId, RegionId), ApiError> {
    let loaded = c.loaded();
    let found = AgentId::new(agent).ok().and_then(|agent| {
        let region = loaded.config.region_of_agent(&agent)?.clone();
        Some((agent, region))
    });
    found.ok_or_else(|| {
        let known = loaded.config.agents().keys().map(ToString::to_string).collect();
        ApiError::not_found(format!("agent {agent}"), known)
    })
}

pub(super) async fn probes(
    State(c): State<Arc<Coordinator>>,
    Path(agent): Path<String>,
) -> Result<Json<ProbeList>, ApiError> {
    let (agent, _) = known(&c, &agent)?;
    crate::probe_list::for_agent(&c.loaded(), &agent)
        .map(Json)
        .ok_or_else(|| ApiError::not_found(format!("agent {agent}"), Vec::new()))
}

pub(super) async fn report(
    State(c): State<Arc<Coordinator>>,
    Path(agent): Path<String>,
    Body(report): Body<Report>,
) -> Result<Json<ReportAck>, ApiError> {
    let (agent, _) = known(&c, &agent)?;
    let bad = |code: &str, detail: String| Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail));
    if report.agent != agent {
        return bad("wrong_agent", format!("the report of {} was sent as {agent}", report.agent));
    }
    if report.schema != REPORT_SCHEMA {
        return bad("schema", format!("report schema {} is not {REPORT_SCHEMA}", report.schema));
    }
    if report.observations.len() > REPORT_OBSERVATIONS_MAX {
        let n = report.observations.len();
        return bad("too_many", format!("{n} observations in one report, {REPORT_OBSERVATIONS_MAX} allowed"));
    }
    Ok(Json(c.ingest(&report)))
}

pub(super) async fn questions(
    State(c): State<Arc<Coordinator>>,
    Path(agent): Path<String>,
    Asked(query): Asked<QuestionsQuery>,
) -> Result<Response, ApiError> {
    let (agent, region) = known(&c, &agent)?;
    let patience = Duration::from_millis(query.patience_millis).min(PATIENCE_MAX);
    let waits = c.sights.questions(&agent, &region, query.have, patience);
    let news = c.stop.run_until_cancelled(waits).await.flatten();
    Ok(news.map_or_else(|| StatusCode::NOT_MODIFIED.into_response(), |list| Json(list).into_response()))
}

pub(super) async fn sights(
    State(c): State<Arc<Coordinator>>,
    Path(agent): Path<String>,
    Body(report): Body<SightReport>,
) -> Result<StatusCode, ApiError> {
    let (agent, region) = known(&c, &agent)?;
    let n = report.sights.len().max(report.traffic.len());
    if n > QUESTIONS_MAX {
        let detail = format!("{n} answers in one report, {QUESTIONS_MAX} allowed");
        return Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "too_many", detail));
    }
    c.sights.take(&agent, report.sights);
    c.sights.take_counts(&agent, &region, report.traffic);
    Ok(StatusCode::NO_CONTENT)
}
