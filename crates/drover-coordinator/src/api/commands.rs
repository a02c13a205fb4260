//! Commands. Each carries an idempotency key: sent twice, it is done once and answered twice alike.

use super::problem::ApiError;
use crate::coordinator::Coordinator;
use crate::db::keys;
use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use drover_model::api::{
    CommandRequest, Done, FreezeRequest, PlanRequest, PlanView, Problem, RearmRequest, RunSummary,
};
use drover_model::config::version_of;
use drover_model::{PlanId, RunId, Timestamp};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Bytes of an idempotency key, at most.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 128;

/// The `Idempotency-Key` of a command.
pub struct IdempotencyKey(String);

impl<S: Send + Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let missing = || {
            ApiError::new(
                StatusCode::BAD_REQUEST,
                "idempotency_key_missing",
                format!(
                    "a command needs an Idempotency-Key header of 1 to {IDEMPOTENCY_KEY_BYTES_MAX} printable bytes"
                ),
            )
        };
        let value = parts.headers.get("idempotency-key").and_then(|v| v.to_str().ok()).ok_or_else(missing)?;
        if value.is_empty() || value.len() > IDEMPOTENCY_KEY_BYTES_MAX {
            return Err(missing());
        }
        Ok(Self(value.to_owned()))
    }
}

/// A JSON body; what is wrong with it comes back as a problem.
pub struct Body<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: axum::extract::Request, state: &S) -> Result<Self, ApiError> {
        match Json::<T>::from_request(request, state).await {
            Ok(Json(value)) => Ok(Self(value)),
            Err(JsonRejection::BytesRejection(e)) => {
                Err(ApiError::new(e.status(), "body_too_large_or_broken", e.body_text()))
            }
            Err(e) => Err(ApiError::new(e.status(), "malformed", e.body_text())),
        }
    }
}

/// An answer as it was given.
#[derive(Serialize, Deserialize)]
pub(crate) struct StoredAnswer {
    pub(crate) at: Timestamp,
    request: String,
    body: Result<serde_json::Value, Problem>,
}

/// Does `work` once for this key. A second request with the same key gets the first answer; with the same key but
/// another content it is refused.
async fn once<Req, Res, Fut>(
    c: &Coordinator,
    key: &IdempotencyKey,
    request: &Req,
    work: impl FnOnce() -> Fut,
) -> Result<Json<Res>, ApiError>
where
    Req: Serialize,
    Res: Serialize + DeserializeOwned,
    Fut: Future<Output = Result<Res, ApiError>>,
{
    let _one_at_a_time = c.admission.lock().await;
    let store_key = format!("{}{}", keys::ANSWERS, version_of(&key.0));
    let digest = version_of(request);
    if let Some((answer, _)) = c.db.get::<StoredAnswer>(&store_key).await? {
        if answer.request != digest {
            return Err(ApiError::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "idempotency_key_reused",
                "this Idempotency-Key was used for another command",
            ));
        }
        return match answer.body {
            Ok(value) => serde_json::from_value(value).map(Json).map_err(|e| {
                ApiError::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "internal",
                    format!("can't read the kept answer: {e}"),
                )
            }),
            Err(problem) => Err(ApiError(Box::new(problem))),
        };
    }
    let result = work().await;
    let body = match &result {
        Ok(value) => Ok(serde_json::to_value(value).unwrap_or_default()),
        // An internal failure may pass; keeping it would refuse the retry that cures it.
        Err(e) if e.0.status >= 500 => return result.map(Json),
        Err(e) => Err((*e.0).clone()),
    };
    c.db.put(&store_key, &StoredAnswer { at: c.clock.now(), request: digest, body }).await?;
    result.map(Json)
}

pub(super) async fn make_plan(
    State(c): State<Arc<Coordinator>>,
    key: IdempotencyKey,
    Body(request): Body<PlanRequest>,
) -> Result<Json<PlanView>, ApiError> {
    once(&c, &key, &request, || c.make_plan(&request)).await
}

pub(super) async fn apply(
    State(c): State<Arc<Coordinator>>,
    Path(id): Path<String>,
    key: IdempotencyKey,
    Body(request): Body<CommandRequest>,
) -> Result<Json<RunSummary>, ApiError> {
    let id = PlanId::from_text(&id);
    once(&c, &key, &(&id, &request), || c.apply_plan(&id, &request)).await
}

pub(super) async fn run_command(
    State(c): State<Arc<Coordinator>>,
    Path((id, verb)): Path<(String, String)>,
    key: IdempotencyKey,
    Body(request): Body<CommandRequest>,
) -> Result<Json<Done>, ApiError> {
    let id = RunId::new(&id).map_err(|_| ApiError::not_found(format!("run {id}"), Vec::new()))?;
    once(&c, &key, &(&id, &verb, &request), || c.command_run(&id, &verb, &request)).await
}

pub(super) async fn freeze(
    State(c): State<Arc<Coordinator>>,
    key: IdempotencyKey,
    Body(request): Body<FreezeRequest>,
) -> Result<Json<Done>, ApiError> {
    once(&c, &key, &request, || c.freeze(&request)).await
}

pub(super) async fn unfreeze(
    State(c): State<Arc<Coordinator>>,
    key: IdempotencyKey,
    Body(request): Body<CommandRequest>,
) -> Result<Json<Done>, ApiError> {
    once(&c, &key, &request, || c.unfreeze(&request)).await
}

pub(super) async fn rearm(
    State(c): State<Arc<Coordinator>>,
    key: IdempotencyKey,
    Body(request): Body<RearmRequest>,
) -> Result<Json<Done>, ApiError> {
    once(&c, &key, &request, || c.rearm(&request)).await
}

pub(super) async fn reload(
    State(c): State<Arc<Coordinator>>,
    key: IdempotencyKey,
    Body(request): Body<CommandRequest>,
) -> Result<Json<Done>, ApiError> {
    once(&c, &key, &request, || async {
        c.audit(&request.by, "config reload", "configuration", &request.reason, "asked").await?;
        let sentence = c.reload_now().await?;
        Ok(Done { sentence })
    })
    .await
}
