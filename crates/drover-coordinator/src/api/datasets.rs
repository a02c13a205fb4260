//! Datasets: what their members ask and say, and what people see and command.

use super::agents::known;
use super::commands::Body;
use super::once::{IdempotencyKey, once};
use super::problem::ApiError;
use super::{Route, SchemaOf, command, read, schema};
use crate::access::Needs;
use crate::coordinator::Coordinator;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use drover_model::access::Role;
use drover_model::api::{CommandRequest, DatasetView, Done, MoveBegun, MoveRequest};
use drover_model::write_right::{RenewAnswer, RenewRequest, RightForAgent, Sealed};
use drover_model::{AgentId, DatasetId};
use std::sync::Arc;

pub(super) fn routes() -> [Route; 6] {
    let told = |path, summary, request, response, handler| Route {
        method: "post",
        request: Some(request),
        needs: Needs::Machine,
        ..read(path, summary, response, handler)
    };
    [
        Route {
            needs: Needs::Machine,
            ..read(
                "/v1/agents/{agent}/datasets",
                "How the write rights stand of the datasets that an agent is a member of",
                Some(schema::<Vec<RightForAgent>>),
                get(rights),
            )
        },
        told(
            "/v1/agents/{agent}/datasets/{dataset}/renew",
            "Renew a write right for its holder; any coordinator does",
            schema::<RenewRequest> as SchemaOf,
            Some(schema::<RenewAnswer> as SchemaOf),
            post(renew),
        ),
        told(
            "/v1/agents/{agent}/datasets/{dataset}/sealed",
            "That a member is sealed, as the record ordered",
            schema::<Sealed>,
            None,
            post(sealed),
        ),
        read("/v1/datasets", "Who may write which dataset", Some(schema::<Vec<DatasetView>>), get(list)),
        command(
            Role::Operator,
            "/v1/datasets/{dataset}/move",
            "Move the right to write to another member",
            schema::<MoveRequest>,
            schema::<MoveBegun>,
            post(begin_move),
        ),
        command(
            Role::Operator,
            "/v1/datasets/{dataset}/abort",
            "Give the right back to its holder, where it is not granted yet",
            schema::<CommandRequest>,
            schema::<Done>,
            post(abort_move),
        ),
    ]
}

/// The dataset, of which the agent must be a member, speaking for itself.
fn member(c: &Coordinator, agent: &str, dataset: &str, from: &AgentId) -> Result<DatasetId, ApiError> {
    let (agent, _) = known(c, agent)?;
    let dataset = c.dataset(dataset)?;
    if agent != *from || !dataset.agents().contains(&agent) {
        let detail = format!("{agent} speaks for itself, and as a member of {} only", dataset.name);
        return Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "wrong_agent", detail));
    }
    Ok(dataset.name)
}

pub(super) async fn rights(
    State(c): State<Arc<Coordinator>>,
    Path(agent): Path<String>,
) -> Result<Json<Vec<RightForAgent>>, ApiError> {
    let (agent, _) = known(&c, &agent)?;
    Ok(Json(c.rights_for(&agent).await?))
}

pub(super) async fn renew(
    State(c): State<Arc<Coordinator>>,
    Path((agent, dataset)): Path<(String, String)>,
    Body(asked): Body<RenewRequest>,
) -> Result<Json<RenewAnswer>, ApiError> {
    let dataset = member(&c, &agent, &dataset, &asked.renew.from)?;
    c.renew_right(&dataset, &asked).await.map(Json)
}

pub(super) async fn sealed(
    State(c): State<Arc<Coordinator>>,
    Path((agent, dataset)): Path<(String, String)>,
    Body(sealed): Body<Sealed>,
) -> Result<StatusCode, ApiError> {
    let dataset = member(&c, &agent, &dataset, &sealed.from)?;
    c.datasets.sealed(&dataset, sealed);
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn list(State(c): State<Arc<Coordinator>>) -> Result<Json<Vec<DatasetView>>, ApiError> {
    c.datasets_now().await.map(Json)
}

pub(super) async fn begin_move(
    State(c): State<Arc<Coordinator>>,
    Path(dataset): Path<String>,
    key: IdempotencyKey,
    Body(request): Body<MoveRequest>,
) -> Result<Json<MoveBegun>, ApiError> {
    once(c, "datasets/move", key, (dataset, request), |c, _, (dataset, r)| async move {
        c.move_dataset(&dataset, &r).await
    })
    .await
}

pub(super) async fn abort_move(
    State(c): State<Arc<Coordinator>>,
    Path(dataset): Path<String>,
    key: IdempotencyKey,
    Body(request): Body<CommandRequest>,
) -> Result<Json<Done>, ApiError> {
    once(c, "datasets/abort", key, (dataset, request), |c, _, (dataset, r)| async move {
        c.abort_move(&dataset, &r).await
    })
    .await
}
