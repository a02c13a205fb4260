//! Tokens: made, shown without what opens anything, and ended.

use super::commands::Body;
use super::once::{IdempotencyKey, once};
use super::problem::ApiError;
use crate::coordinator::Coordinator;
use axum::Json;
use axum::extract::{Path, State};
use drover_model::TokenName;
use drover_model::access::{TokenRequest, TokenView};
use drover_model::api::{CommandRequest, Done};
use std::sync::Arc;

fn named(name: &str) -> Result<TokenName, ApiError> {
    TokenName::new(name)
        .map_err(|e| ApiError::new(axum::http::StatusCode::UNPROCESSABLE_ENTITY, "bad_name", e.to_string()))
}

/// All at once: there are [`crate::access::TOKENS_MAX`] at most.
pub(super) async fn list(State(c): State<Arc<Coordinator>>) -> Json<Vec<TokenView>> {
    Json(c.token_views())
}

pub(super) async fn create(
    State(c): State<Arc<Coordinator>>,
    Path(name): Path<String>,
    key: IdempotencyKey,
    Body(request): Body<TokenRequest>,
) -> Result<Json<TokenView>, ApiError> {
    let name = named(&name)?;
    once(c, "tokens/create", key, (name, request), |c, _, (name, r)| async move {
        c.create_token(&name, &r).await
    })
    .await
}

pub(super) async fn revoke(
    State(c): State<Arc<Coordinator>>,
    Path(name): Path<String>,
    key: IdempotencyKey,
    Body(request): Body<CommandRequest>,
) -> Result<Json<Done>, ApiError> {
    let name = named(&name)?;
    once(c, "tokens/revoke", key, (name, request), |c, _, (name, r)| async move {
        c.revoke_token(&name, &r).await
    })
    .await
}
