//! A command is done once, however often it is sent. Its first answer is kept under its key; and what it began is kept
//! in or before the transaction that begins it, so that a process that is killed between work and answer leaves a
//! trace by which the repeat finds what was done.

use super::asks::{Asks, check_words};
use super::problem::ApiError;
use crate::access::Caller;
use crate::access::refusals::Refusal;
use crate::coordinator::Coordinator;
use crate::db::{Db, keys};
use crate::error::CoordinatorError;
use crate::runs::BUSY;
use axum::Json;
use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;
use drover_model::api::Problem;
use drover_model::config::version_of;
use drover_model::traffic::Actor;
use drover_model::{RunId, Timestamp};
use drover_store::Op;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Bytes of an idempotency key, at most.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 128;

/// The `Idempotency-Key` of a command.
pub struct IdempotencyKey {
    key: String,
    /// Who sent it.
    caller: Option<Caller>,
}

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
        Ok(Self { key: value.to_owned(), caller: parts.extensions.get::<Caller>().cloned() })
    }
}

/// What a command has begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "begun", rename_all = "snake_case")]
pub(crate) enum Begun {
    /// A run: written in the transaction that created it, so that the one is there if and only if the other is.
    Created {
        /// Which.
        run: RunId,
    },
    /// A command to a run: written before it. Whether it landed, the run's journal says.
    Told {
        /// Which run.
        run: RunId,
        /// The sequence from which on its record would stand.
        from: u64,
    },
}

/// A command as it is kept: begun, or answered.
#[derive(Serialize, Deserialize)]
pub(crate) struct StoredAnswer {
    at: Timestamp,
    request: String,
    #[serde(default)]
    body: Option<Result<serde_json::Value, Problem>>,
    #[serde(default)]
    begun: Option<Begun>,
}

/// The place where a command's answer is kept, and what an interrupted attempt left there.
pub(crate) struct Claim {
    key: String,
    request: String,
    at: Timestamp,
    /// What an attempt that was never answered had begun.
    pub(crate) left: Option<Begun>,
    /// Who sends it, as the door knows it.
    pub(crate) caller: Option<Caller>,
}

impl Claim {
    /// Writes down what begins, in the transaction that begins it.
    pub(crate) fn begin(&self, begun: Begun) -> Result<Op, CoordinatorError> {
        let (at, request) = (self.at, self.request.clone());
        Op::put_json(&self.key, &StoredAnswer { at, request, body: None, begun: Some(begun) })
            .map_err(|e| CoordinatorError::store(format!("encode {}", self.key), e))
    }

    /// Writes down what is about to begin. It may use the journal's reserve: a nearly full disk must stop no command.
    pub(crate) async fn begin_now(&self, db: &Db, begun: Begun) -> Result<(), CoordinatorError> {
        let txn = db.fenced().op(self.begin(begun)?).for_journal();
        db.commit("write down what a command begins", txn).await.map(|_| ())
    }
}

/// Does `work` once for this key. A second request with the same key gets the first answer; with the same key but
/// to another `route` or with another content it is refused. Commands wait for each other (I2).
pub(super) async fn once<Req, Res, Fut>(
    c: Arc<Coordinator>,
    route: &'static str,
    key: IdempotencyKey,
    mut request: Req,
    work: impl FnOnce(Arc<Coordinator>, Claim, Req) -> Fut + Send + 'static,
) -> Result<Json<Res>, ApiError>
where
    Req: Asks + Serialize + Send + 'static,
    Res: Serialize + DeserializeOwned + Send + 'static,
    Fut: Future<Output = Result<Res, ApiError>> + Send + 'static,
{
    let me = c.clone();
    check_words(&mut request)?;
    let order = Order::new(route, key, &mut request);
    to_the_end(&c, async move {
        let _one_at_a_time = me.admission.lock().await;
        let digest = version_of(&(route, &request));
        answer_once(&me, &order, digest, |claim| work(me.clone(), claim, request)).await
    })
    .await
}

/// As [`once`], for what must not wait behind the admission of a run: a freeze.
pub(super) async fn once_at_once<Req, Res, Fut>(
    c: Arc<Coordinator>,
    route: &'static str,
    key: IdempotencyKey,
    mut request: Req,
    work: impl FnOnce(Arc<Coordinator>, Req) -> Fut + Send + 'static,
) -> Result<Json<Res>, ApiError>
where
    Req: Asks + Serialize + Send + 'static,
    Res: Serialize + DeserializeOwned + Send + 'static,
    Fut: Future<Output = Result<Res, ApiError>> + Send + 'static,
{
    let me = c.clone();
    check_words(&mut request)?;
    let order = Order::new(route, key, &mut request);
    to_the_end(&c, async move {
        let _one_at_a_time = me.freezing.lock().await;
        let digest = version_of(&(route, &request));
        answer_once(&me, &order, digest, |_| work(me.clone(), request)).await
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

/// A command as the audit tells of it.
struct Order {
    key: String,
    caller: Option<Caller>,
    by: Actor,
    verb: String,
    subject: String,
    reason: String,
}

impl Order {
    /// Of a request, whose actor is from here on who the door knows it to be.
    fn new(route: &str, key: IdempotencyKey, request: &mut impl Asks) -> Self {
        let by = request.by();
        if let Some(caller) = &key.caller {
            *by = caller.actor(by);
        }
        let by = by.clone();
        let (subject, reason) = (request.subject(), request.reason().to_owned());
        Self { key: key.key, caller: key.caller, by, verb: route.replace('/', " "), subject, reason }
    }

    /// Puts on record that it was refused, unless whoever refused it did.
    async fn refused(&self, c: &Coordinator, error: ApiError) -> ApiError {
        if !error.is_untold_refusal() {
            return error;
        }
        let outcome = format!("refused: {}", error.0.detail);
        let said = [self.verb.as_str(), &self.subject, &self.reason, &outcome];
        match c.audit_refusal(Refusal::Command, &self.by, said).await {
            Ok(()) => error.on_record(),
            Err(e) => {
                tracing::warn!(error = &e as &dyn std::error::Error, outcome, "a refusal is not on record");
                error
            }
        }
    }
}

async fn answer_once<Res, Fut>(
    c: &Coordinator,
    order: &Order,
    request: String,
    work: impl FnOnce(Claim) -> Fut,
) -> Result<Json<Res>, ApiError>
where
    Res: Serialize + DeserializeOwned,
    Fut: Future<Output = Result<Res, ApiError>>,
{
    let key = format!("{}{}", keys::ANSWERS, version_of(&order.key));
    let mut left = None;
    if let Some((kept, _)) = c.db.get::<StoredAnswer>(&key).await? {
        if kept.request != request {
            let error = ApiError::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "idempotency_key_reused",
                "this Idempotency-Key was used for another command",
            );
            return Err(order.refused(c, error).await);
        }
        match kept.body {
            Some(body) => return repeated(body),
            None => left = kept.begun,
        }
    }
    let (request_of, caller) = (request.clone(), order.caller.clone());
    let claim = Claim { key: key.clone(), request: request_of, at: c.clock.now(), left, caller };
    let result = match work(claim).await {
        Ok(value) => Ok(value),
        Err(error) => Err(order.refused(c, error).await),
    };
    let body = match &result {
        Ok(value) => Ok(serde_json::to_value(value).unwrap_or_default()),
        // What may pass by itself is not kept: that would refuse the retry that cures it.
        Err(e) if e.0.status >= 500 || e.0.code == BUSY => return result.map(Json),
        Err(e) => Err((*e.0).clone()),
    };
    let answer = StoredAnswer { at: c.clock.now(), request, body: Some(body), begun: None };
    let kept = c.db.put(&key, &answer).await;
    c.unless_fenced("keep an answer", "a command", kept)?;
    result.map(Json)
}

/// The answer that was given the first time.
fn repeated<Res: DeserializeOwned>(body: Result<serde_json::Value, Problem>) -> Result<Json<Res>, ApiError> {
    match body {
        Ok(value) => serde_json::from_value(value).map(Json).map_err(|e| {
            let detail = format!("can't read the kept answer: {e}");
            ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
        }),
        // On record since then.
        Err(problem) => Err(ApiError::from(problem).on_record()),
    }
}
