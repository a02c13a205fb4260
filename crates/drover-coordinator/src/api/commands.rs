//! Commands. Each carries an idempotency key: sent twice, it is done once and answered twice alike.
//!
//! Where a process was killed between doing and answering, a run that was created or told is found by what was written
//! down before; everything else is done again, which changes nothing that the first time had not changed.

use super::once::{Begun, Claim, IdempotencyKey, once, once_at_once};
use super::problem::ApiError;
use crate::coordinator::Coordinator;
use crate::operator::ALONE;
use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, Path, State};
use drover_model::api::{
    AdoptRequest, CommandRequest, Done, FreezeRequest, PlanRequest, PlanView, RearmRequest, RunSummary,
    TakeCommandRequest,
};
use drover_model::approvals::Voice;
use drover_model::break_glass::{ReconcileRequest, Reconciled};
use drover_model::journal::{Entry, Record};
use drover_model::traffic::Actor;
use drover_model::{PlanId, RunId};
use serde::de::DeserializeOwned;
use std::sync::Arc;

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

pub(super) async fn make_plan(
    State(c): State<Arc<Coordinator>>,
    key: IdempotencyKey,
    Body(request): Body<PlanRequest>,
) -> Result<Json<PlanView>, ApiError> {
    once(c, "plans", key, request, |c, _, r| async move { c.make_plan(&r).await }).await
}

pub(super) async fn apply(
    State(c): State<Arc<Coordinator>>,
    Path(id): Path<String>,
    key: IdempotencyKey,
    Body(request): Body<CommandRequest>,
) -> Result<Json<RunSummary>, ApiError> {
    let id = PlanId::from_text(&id);
    once(c, "plans/apply", key, (id, request), |c, claim, (id, r)| async move {
        match &claim.left {
            Some(Begun::Created { run }) => created_before(&c, run, &id, &r).await,
            _ => c.apply_plan(&id, &r, &claim).await,
        }
    })
    .await
}

pub(super) async fn run_command(
    State(c): State<Arc<Coordinator>>,
    Path((id, verb)): Path<(String, String)>,
    key: IdempotencyKey,
    Body(request): Body<CommandRequest>,
) -> Result<Json<Done>, ApiError> {
    let id = RunId::new(&id).map_err(|_| ApiError::not_found(format!("run {id}"), Vec::new()))?;
    once(c, "runs/command", key, (id, verb, request), |c, claim, (id, verb, r)| async move {
        tell(&c, &claim, &id, &verb, &r).await
    })
    .await
}

pub(super) async fn freeze(
    State(c): State<Arc<Coordinator>>,
    key: IdempotencyKey,
    Body(request): Body<FreezeRequest>,
) -> Result<Json<Done>, ApiError> {
    once_at_once(c, "freeze", key, request, |c, r| async move { c.freeze(&r).await }).await
}

pub(super) async fn unfreeze(
    State(c): State<Arc<Coordinator>>,
    key: IdempotencyKey,
    Body(request): Body<CommandRequest>,
) -> Result<Json<Done>, ApiError> {
    once_at_once(c, "unfreeze", key, request, |c, r| async move { c.unfreeze(&r).await }).await
}

pub(super) async fn rearm(
    State(c): State<Arc<Coordinator>>,
    key: IdempotencyKey,
    Body(request): Body<RearmRequest>,
) -> Result<Json<Done>, ApiError> {
    once(c, "rearm", key, request, |c, _, r| async move { c.rearm(&r).await }).await
}

pub(super) async fn adopt(
    State(c): State<Arc<Coordinator>>,
    key: IdempotencyKey,
    Body(request): Body<AdoptRequest>,
) -> Result<Json<Done>, ApiError> {
    once(c, "dns/adopt", key, request, |c, _, r| async move { c.adopt(&r).await }).await
}

pub(super) async fn take_dns_command(
    State(c): State<Arc<Coordinator>>,
    key: IdempotencyKey,
    Body(request): Body<TakeCommandRequest>,
) -> Result<Json<Done>, ApiError> {
    once(c, "dns/command", key, request, |c, _, r| async move { c.take_dns_command(&r).await }).await
}

pub(super) async fn reconcile_glass(
    State(c): State<Arc<Coordinator>>,
    key: IdempotencyKey,
    Body(request): Body<ReconcileRequest>,
) -> Result<Json<Reconciled>, ApiError> {
    once(c, "break-glass/reconcile", key, request, |c, _, r| async move { c.reconcile_glass(&r).await }).await
}

pub(super) async fn reload(
    State(c): State<Arc<Coordinator>>,
    key: IdempotencyKey,
    Body(request): Body<CommandRequest>,
) -> Result<Json<Done>, ApiError> {
    once(c, "config/reload", key, request, |c, _, r| async move {
        let sentence = c.reload_now().await?;
        c.noted(&r.by, "config reload", "configuration", &r.reason, &sentence).await?;
        Ok(Done { sentence })
    })
    .await
}

/// The answer for a run that an attempt created which was never answered.
async fn created_before(
    c: &Coordinator,
    run: &RunId,
    plan: &PlanId,
    request: &CommandRequest,
) -> Result<RunSummary, ApiError> {
    let outcome = format!("{run}: answered after an interruption");
    c.noted(&request.by, "apply", plan.as_str(), &request.reason, &outcome).await?;
    c.run_summary(run).await?.ok_or_else(|| ApiError::not_found(run.to_string(), Vec::new()))
}

/// Sends a command to a run, unless an attempt that was never answered did: `skip` done twice would skip two steps.
async fn tell(
    c: &Coordinator,
    claim: &Claim,
    run: &RunId,
    verb: &str,
    request: &CommandRequest,
) -> Result<Done, ApiError> {
    if let Some(Begun::Told { run, from }) = &claim.left
        && let Some(record) = c.journal_from(run, *from).await?.into_iter().find(|r| tells(r, verb, request))
    {
        c.noted(&request.by, verb, run.as_str(), &request.reason, &after_interruption(&record)).await?;
        return Ok(Done { sentence: format!("{run}: {verb} accepted") });
    }
    if claim.left.is_none()
        && let Some(from) = c.runs.next_sequence(run)
    {
        let noted = claim.begin_now(&c.db, Begun::Told { run: run.clone(), from }).await;
        // A command such as `abort` must get through although nothing can be noted beside it.
        c.unless_fenced("note a command", run.as_str(), noted)?;
    }
    c.command_run(run, verb, request, claim.caller.as_ref()).await
}

/// Audited for a command that had landed before its answer was lost.
const AFTER_INTERRUPTION: &str = "done: answered after an interruption";

fn after_interruption(record: &Record) -> String {
    match &record.entry {
        Entry::Approved { voice: Voice::Alone, .. } => format!("{ALONE}: {AFTER_INTERRUPTION}"),
        _ => AFTER_INTERRUPTION.to_owned(),
    }
}

/// Is this the record of that very command?
fn tells(record: &Record, verb: &str, request: &CommandRequest) -> bool {
    let same = |by: &Actor, reason: &str| *by == request.by && *reason == request.reason;
    match &record.entry {
        Entry::Approved { by, reason, .. } => verb == "approve" && same(by, reason),
        Entry::Rejected { by, reason } => verb == "reject" && same(by, reason),
        Entry::Paused { by, reason } => verb == "pause" && same(by, reason),
        Entry::Resumed { by, reason } => verb == "resume" && same(by, reason),
        Entry::StepSkipped { by, reason, .. } => verb == "skip" && same(by, reason),
        Entry::AbortRequested { by, reason, .. } => verb == "abort" && same(by, reason),
        _ => false,
    }
}
