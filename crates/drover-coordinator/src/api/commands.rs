//! Commands. Each carries an idempotency key: sent twice, it is done once and answered twice alike.

use super::problem::ApiError;
use crate::coordinator::Coordinator;
use crate::db::keys;
use crate::runs::BUSY;
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
/// another content it is refused. Commands wait for each other (I2).
async fn once<Req, Res, Fut>(
    c: Arc<Coordinator>,
    key: IdempotencyKey,
    request: Req,
    work: impl FnOnce(Arc<Coordinator>, Req) -> Fut + Send + 'static,
) -> Result<Json<Res>, ApiError>
where
    Req: Serialize + Send + 'static,
    Res: Serialize + DeserializeOwned + Send + 'static,
    Fut: Future<Output = Result<Res, ApiError>> + Send + 'static,
{
    let me = c.clone();
    to_the_end(&c, async move {
        let _one_at_a_time = me.admission.lock().await;
        answer_once(&me, &key, request, |r| work(me.clone(), r)).await
    })
    .await
}

/// As [`once`], for what must not wait behind the admission of a run: a freeze.
async fn once_at_once<Req, Res, Fut>(
    c: Arc<Coordinator>,
    key: IdempotencyKey,
    request: Req,
    work: impl FnOnce(Arc<Coordinator>, Req) -> Fut + Send + 'static,
) -> Result<Json<Res>, ApiError>
where
    Req: Serialize + Send + 'static,
    Res: Serialize + DeserializeOwned + Send + 'static,
    Fut: Future<Output = Result<Res, ApiError>> + Send + 'static,
{
    let me = c.clone();
    to_the_end(&c, async move {
        let _one_at_a_time = me.freezing.lock().await;
        answer_once(&me, &key, request, |r| work(me.clone(), r)).await
    })
    .await
}

/// Goes on although the client hangs up: what was begun is finished, and its answer kept for the repeat.
async fn to_the_end<Res: Send + 'static>(
    c: &Coordinator,
    work: impl Future<Output = Result<Json<Res>, ApiError>> + Send + 'static,
) -> Result<Json<Res>, ApiError> {
    c.tasks.spawn(work).await.unwrap_or_else(|e| {
        tracing::error!("a command ended by itself: {e}");
        Err(ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the command ended by itself"))
    })
}

async fn answer_once<Req, Res, Fut>(
    c: &Coordinator,
    key: &IdempotencyKey,
    request: Req,
    work: impl FnOnce(Req) -> Fut,
) -> Result<Json<Res>, ApiError>
where
    Req: Serialize,
    Res: Serialize + DeserializeOwned,
    Fut: Future<Output = Result<Res, ApiError>>,
{
    let store_key = format!("{}{}", keys::ANSWERS, version_of(&key.0));
    let digest = version_of(&request);
    if let Some((answer, _)) = c.db.get::<StoredAnswer>(&store_key).await? {
        return repeated(answer, &digest);
    }
    let result = work(request).await;
    let body = match &result {
        Ok(value) => Ok(serde_json::to_value(value).unwrap_or_default()),
        // What may pass by itself is not kept: that would refuse the retry that cures it.
        Err(e) if e.0.status >= 500 || e.0.code == BUSY => return result.map(Json),
        Err(e) => Err((*e.0).clone()),
    };
    let kept = c.db.put(&store_key, &StoredAnswer { at: c.clock.now(), request: digest, body }).await;
    c.unless_fenced("keep an answer", "a command", kept)?;
    result.map(Json)
}

/// The answer that was given the first time.
fn repeated<Res: DeserializeOwned>(answer: StoredAnswer, digest: &str) -> Result<Json<Res>, ApiError> {
    if answer.request != digest {
        return Err(ApiError::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "idempotency_key_reused",
            "this Idempotency-Key was used for another command",
        ));
    }
    match answer.body {
        Ok(value) => serde_json::from_value(value).map(Json).map_err(|e| {
            let detail = format!("can't read the kept answer: {e}");
            ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
        }),
        Err(problem) => Err(ApiError(Box::new(problem))),
    }
}

pub(super) async fn make_plan(
    State(c): State<Arc<Coordinator>>,
    key: IdempotencyKey,
    Body(request): Body<PlanRequest>,
) -> Result<Json<PlanView>, ApiError> {
    once(c, key, request, |c, r| async move { c.make_plan(&r).await }).await
}

pub(super) async fn apply(
    State(c): State<Arc<Coordinator>>,
    Path(id): Path<String>,
    key: IdempotencyKey,
    Body(request): Body<CommandRequest>,
) -> Result<Json<RunSummary>, ApiError> {
    let id = PlanId::from_text(&id);
    once(c, key, (id, request), |c, (id, r)| async move { c.apply_plan(&id, &r).await }).await
}

pub(super) async fn run_command(
    State(c): State<Arc<Coordinator>>,
    Path((id, verb)): Path<(String, String)>,
    key: IdempotencyKey,
    Body(request): Body<CommandRequest>,
) -> Result<Json<Done>, ApiError> {
    let id = RunId::new(&id).map_err(|_| ApiError::not_found(format!("run {id}"), Vec::new()))?;
    let work = |c: Arc<Coordinator>, (id, verb, r): (RunId, String, CommandRequest)| async move {
        c.command_run(&id, &verb, &r).await
    };
    once(c, key, (id, verb, request), work).await
}

pub(super) async fn freeze(
    State(c): State<Arc<Coordinator>>,
    key: IdempotencyKey,
    Body(request): Body<FreezeRequest>,
) -> Result<Json<Done>, ApiError> {
    once_at_once(c, key, request, |c, r| async move { c.freeze(&r).await }).await
}

pub(super) async fn unfreeze(
    State(c): State<Arc<Coordinator>>,
    key: IdempotencyKey,
    Body(request): Body<CommandRequest>,
) -> Result<Json<Done>, ApiError> {
    once_at_once(c, key, request, |c, r| async move { c.unfreeze(&r).await }).await
}

pub(super) async fn rearm(
    State(c): State<Arc<Coordinator>>,
    key: IdempotencyKey,
    Body(request): Body<RearmRequest>,
) -> Result<Json<Done>, ApiError> {
    once(c, key, request, |c, r| async move { c.rearm(&r).await }).await
}

pub(super) async fn reload(
    State(c): State<Arc<Coordinator>>,
    key: IdempotencyKey,
    Body(request): Body<CommandRequest>,
) -> Result<Json<Done>, ApiError> {
    once(c, key, request, |c, r| async move {
        c.audit(&r.by, "config reload", "configuration", &r.reason, "asked").await?;
        let sentence = c.reload_now().await?;
        Ok(Done { sentence })
    })
    .await
}
