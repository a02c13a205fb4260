//! What agents fetch and send.

use super::commands::Body;
use super::problem::ApiError;
use crate::coordinator::Coordinator;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use drover_model::AgentId;
use drover_model::probe::{ProbeList, REPORT_OBSERVATIONS_MAX, REPORT_SCHEMA, Report, ReportAck};
use std::sync::Arc;

fn known(c: &Coordinator, agent: &str) -> Result<AgentId, ApiError> {
    let agents = c.loaded().config.agents();
    AgentId::new(agent).ok().filter(|a| agents.contains_key(a)).ok_or_else(|| {
        ApiError::not_found(format!("agent {agent}"), agents.keys().map(ToString::to_string).collect())
    })
}

pub(super) async fn probes(
    State(c): State<Arc<Coordinator>>,
    Path(agent): Path<String>,
) -> Result<Json<ProbeList>, ApiError> {
    let agent = known(&c, &agent)?;
    crate::probe_list::for_agent(&c.loaded(), &agent)
        .map(Json)
        .ok_or_else(|| ApiError::not_found(format!("agent {agent}"), Vec::new()))
}

pub(super) async fn report(
    State(c): State<Arc<Coordinator>>,
    Path(agent): Path<String>,
    Body(report): Body<Report>,
) -> Result<Json<ReportAck>, ApiError> {
    let agent = known(&c, &agent)?;
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
