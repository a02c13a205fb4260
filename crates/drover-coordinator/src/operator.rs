//! What people ask for: plans, approvals, freezes. Every command and every refusal is written to the audit.

use crate::access::Caller;
use crate::access::refusals::Refusal;
use crate::api::once::{Begun, Claim};
use crate::api::problem::ApiError;
use crate::coordinator::Coordinator;
use crate::db::keys;
use crate::decider::asked_of;
use crate::error::CoordinatorError;
use crate::kinds;
use crate::runs::working_on;
use crate::text::list;
use axum::http::StatusCode;
use drover_model::access::Role;
use drover_model::api::{
    API_SCHEMA, CommandRequest, Done, FreezeRequest, PlanRequest, PlanView, RearmRequest, RunSummary,
};
use drover_model::approvals::Voice;
use drover_model::journal::Trigger;
use drover_model::plan::Plan;
use drover_model::reason::Reason;
use drover_model::runbook::Purpose;
use drover_model::traffic::{Actor, Freeze};
use drover_model::{PlanId, RegionId, RunId, Span};
use std::sync::Arc;

/// A plan that nobody applied is forgotten after this.
pub const PLAN_KEPT_FOR: Span = Span::from_hours(24);

/// Longest reason, in bytes.
pub(crate) const REASON_BYTES_MAX: usize = 2_000;

/// Audited of an approval that counts for everybody who was asked. Its page is the run's own, by its journal.
pub(crate) const ALONE: &str = "alone, for all who were asked";

pub(crate) fn need_reason(reason: &str) -> Result<(), ApiError> {
    if reason.trim().is_empty() || reason.len() > REASON_BYTES_MAX {
        let detail = format!("a reason of 1 to {REASON_BYTES_MAX} bytes is needed");
        return Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "reason_missing", detail));
    }
    Ok(())
}

/// What to do instead of a plan that is too large for one record.
pub(crate) fn in_parts(purpose: Purpose, region: &RegionId) -> String {
    match purpose {
        Purpose::Failover | Purpose::Failback => {
            format!("drover {purpose} SERVICE... --from {region} --plan, some services at a time")
        }
        Purpose::Drain | Purpose::Undrain => {
            format!("drover {purpose} {region} --service SERVICE ... --plan, some services at a time")
        }
    }
}

/// That a plan is larger than one record.
pub(crate) fn takes_too_much(services: usize, bytes: usize, limit: usize) -> String {
    format!("the plan for {services} services takes {bytes} bytes, and a record may have {limit}")
}

/// Why a plan can't be kept or run.
fn plan_failure(e: CoordinatorError, plan: &Plan) -> ApiError {
    let CoordinatorError::TooLarge { bytes, limit, .. } = e else { return e.into() };
    let detail = takes_too_much(plan.services.len(), bytes, limit);
    let mut error = ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "plan_too_large", detail);
    error.0.next = Some(in_parts(plan.intent.purpose, &plan.intent.region));
    error
}

/// As whom an approval counts. For everybody none speaks but an admin: he could make himself a second name as well, and
/// it is better that he says so.
fn voice_of(run: &RunId, request: &CommandRequest, caller: Option<&Caller>) -> Result<Voice, ApiError> {
    match caller {
        Some(caller) if request.alone && caller.role < Role::Admin => {
            let detail = format!("to approve {run} alone needs the role {}", Role::Admin);
            let mut error = ApiError::new(StatusCode::FORBIDDEN, "role_too_small", detail);
            error.0.next = Some(format!(
                "somebody else: drover approve {run} --reason TEXT; or with --alone at the coordinator's own socket"
            ));
            Err(error)
        }
        _ if request.alone => Ok(Voice::Alone),
        Some(caller) => Ok(caller.voice()),
        None => Ok(Voice::Claimed),
    }
}

impl Coordinator {
    /// Makes a plan and keeps it for `apply`.
    pub(crate) async fn make_plan(&self, request: &PlanRequest) -> Result<PlanView, ApiError> {
        let mut intent = request.intent.clone();
        intent.automatic = false;
        let now = self.clock.now();
        let world = self.world(now);
        let mut planned = drover_core::plan::plan(&world, &intent, now);
        if let Some(plan) = &planned.plan {
            let findings = drover_core::check::check(plan, &world);
            if let Some(f) = findings.first() {
                let finding = format!("{}: {}", f.invariant, f.message);
                tracing::error!(plan = %plan.id, "the plan checker found: {finding}");
                planned.refusals.push(Reason::CheckFailed { finding });
                planned.plan = None;
            }
        }
        let view = PlanView { schema: API_SCHEMA, intent, planned, made_at: now };
        let kept = match &view.planned.plan {
            Some(plan) => match self.db.put(&keys::plan(&plan.id), &view).await {
                Ok(()) => Ok(plan.id.to_string()),
                Err(e) => {
                    let e = plan_failure(e, plan);
                    Err((e.0.detail.clone(), Some(e)))
                }
            },
            None => Err((view.planned.refusals.first().map(ToString::to_string).unwrap_or_default(), None)),
        };
        let subject = format!("{} {}", view.intent.purpose, view.intent.region);
        let (by, reason) = (&request.by, &view.intent.reason);
        match kept {
            Ok(plan) => self.audit(by, "plan", &subject, reason, &plan).await?,
            Err((why, error)) => {
                let outcome = format!("refused: {why}");
                self.audit_refusal(Refusal::Command, by, ["plan", &subject, reason, &outcome]).await?;
                if let Some(error) = error {
                    return Err(error.on_record());
                }
            }
        }
        Ok(view)
    }

    /// Runs a plan that was shown, if the world that it was made from still stands (I9).
    pub(crate) async fn apply_plan(
        self: &Arc<Self>,
        id: &PlanId,
        request: &CommandRequest,
        claim: &Claim,
    ) -> Result<RunSummary, ApiError> {
        let Some((view, _)) = self.db.get::<PlanView>(&keys::plan(id)).await? else {
            return Err(ApiError::refused(vec![Reason::UnknownPlan { plan: id.to_string() }]));
        };
        let Some(mut plan) = view.planned.plan else {
            return Err(ApiError::refused(view.planned.refusals));
        };
        // Planned without a word and applied with one: the run, and a drain that comes of it, say the latter.
        if plan.intent.reason.trim().is_empty() {
            plan.intent.reason.clone_from(&request.reason);
        }
        let now = self.clock.now();
        let world = self.world(now);
        // First who is at work: that is why the plan is stale, or soon will be, and what there is to follow.
        let mut reasons: Vec<Reason> = working_on(&world, &plan.services, None).collect();
        reasons.extend(drover_core::plan::stale(&plan, &world));
        reasons.extend(drover_core::failback::too_early_for(&plan, &world, now));
        reasons.extend(
            drover_core::check::check(&plan, &world)
                .into_iter()
                .map(|f| Reason::CheckFailed { finding: format!("{}: {}", f.invariant, f.message) }),
        );
        if !reasons.is_empty() {
            let outcome = format!("refused: {}", list(&reasons));
            let said = ["apply", id.as_str(), &request.reason, &outcome];
            self.audit_refusal(Refusal::Command, &request.by, said).await?;
            return Err(ApiError::refused(reasons).on_record());
        }
        let rto = self.rto_of(&plan.services);
        let asked = plan.clone();
        let (expires, approvals) = asked_of(&world.config, &plan);
        let approvals = approvals.begun_by(claim.caller.as_ref().and_then(|c| c.token.clone()));
        let consent = drover_exec::Consent::by_command(plan, id, approvals, expires)
            .map_err(|e| ApiError::new(StatusCode::CONFLICT, "other_plan", e.to_string()))?;
        let run = self.next_run();
        let begun = claim.begin(Begun::Created { run: run.clone() })?;
        let by = request.by.clone();
        let created = self.create_run_with(run, consent, by, Trigger::Command, rto, vec![begun]).await;
        let run = created.map_err(|e| plan_failure(e, &asked))?;
        self.noted(&request.by, "apply", id.as_str(), &request.reason, run.as_str()).await?;
        self.run_summary(&run).await?.ok_or_else(|| ApiError::not_found(run.to_string(), Vec::new()))
    }

    /// Stops automatic action: at once for whatever this coordinator is about to decide, then durably, then on record.
    pub(crate) async fn freeze(&self, request: &FreezeRequest) -> Result<Done, ApiError> {
        need_reason(&request.reason)?;
        let now = self.clock.now();
        let freeze = Freeze {
            by: request.by.clone(),
            reason: request.reason.clone(),
            since: now,
            expires_at: request.expires_after.map(|s| now + s),
        };
        let until = freeze.expires_at.map_or_else(|| "with no end set".to_owned(), |t| format!("until {t}"));
        self.live().freeze = Some(freeze.clone());
        self.db.put_reserved(keys::FREEZE, &freeze).await?;
        self.noted(&request.by, "freeze", "automatic action", &request.reason, "frozen").await?;
        Ok(Done { sentence: format!("automatic action is frozen {until}") })
    }

    /// Allows automatic action again.
    pub(crate) async fn unfreeze(&self, request: &CommandRequest) -> Result<Done, ApiError> {
        need_reason(&request.reason)?;
        let was = self.live().freeze.is_some() || self.db.unreadable().has(keys::FREEZE);
        self.db.delete(keys::FREEZE).await?;
        self.db.unreadable().forget(keys::FREEZE);
        self.live().freeze = None;
        let outcome = if was { "automatic action is allowed again" } else { "it was not frozen" };
        self.noted(&request.by, "unfreeze", "automatic action", &request.reason, outcome).await?;
        self.decide_wake.notify_one();
        Ok(Done { sentence: outcome.into() })
    }

    /// Ends block periods.
    pub(crate) async fn rearm(&self, request: &RearmRequest) -> Result<Done, ApiError> {
        if let Some(service) = &request.service
            && !self.loaded().config.services.contains_key(service)
        {
            let known = self.loaded().config.services.keys().map(ToString::to_string).collect();
            return Err(ApiError::not_found(format!("service {service}"), known));
        }
        let _one_at_a_time = self.shifting.lock().await;
        let ended: Vec<String> = {
            let live = self.live();
            let matching =
                live.blocks.iter().filter(|(_, b)| request.service.as_ref().is_none_or(|s| *s == b.service));
            let of_service = |key: &String| {
                let of = kinds::of_block(key).map(|(service, _)| service);
                request.service.is_none() || of == request.service
            };
            let unreadable = self.db.unreadable().under(keys::BLOCKS).into_iter().filter(of_service);
            matching.map(|(k, _)| k.clone()).chain(unreadable).collect()
        };
        for key in &ended {
            self.db.delete(key).await?;
            self.live().blocks.remove(key);
            self.db.unreadable().forget(key);
        }
        let mut rearmed = self.live().rearmed.clone();
        let services: Vec<_> = match &request.service {
            Some(s) => vec![s.clone()],
            None => self.loaded().config.services.keys().cloned().collect(),
        };
        rearmed.extend(services.into_iter().map(|s| (s, self.clock.now())));
        self.db.put(keys::REARMED, &rearmed).await?;
        self.live().rearmed = rearmed;
        let outcome = format!("{} block period(s) ended", ended.len());
        let subject = request.service.as_ref().map_or_else(|| "all services".to_owned(), ToString::to_string);
        self.noted(&request.by, "rearm", &subject, &request.reason, &outcome).await?;
        self.decide_wake.notify_one();
        Ok(Done { sentence: outcome })
    }

    /// Audits what has been done already: that a line could not be written must not read as a refusal.
    pub(crate) async fn noted(
        &self,
        by: &Actor,
        verb: &str,
        subject: &str,
        reason: &str,
        outcome: &str,
    ) -> Result<(), CoordinatorError> {
        let audited = self.audit(by, verb, subject, reason, outcome).await;
        self.unless_fenced("audit a command", subject, audited)
    }

    /// Approve, reject, pause, resume, skip, abort.
    pub(crate) async fn command_run(
        &self,
        run: &RunId,
        verb: &str,
        request: &CommandRequest,
        caller: Option<&Caller>,
    ) -> Result<Done, ApiError> {
        let (by, reason) = (request.by.clone(), request.reason.clone());
        need_reason(&reason)?;
        let command = self.command_of(run, verb, request, caller)?;
        let asks_several = self.runs.question(run).is_some_and(|approvals| approvals.asks_several());
        let alone =
            asks_several && matches!(command, drover_exec::Command::Approve { voice: Voice::Alone, .. });
        if alone {
            // First: whatever becomes of its answer, and of this leader, it stands in the audit as what it was.
            self.noted(&by, verb, run.as_str(), &reason, &format!("{verb}: {ALONE}")).await?;
        }
        let outcome = self.send_command(run, command).await;
        if let Err(error) = outcome {
            let text = format!("refused: {}", error.0.detail);
            let said = [verb, run.as_str(), &reason, &text];
            let audited = self.audit_refusal(Refusal::Command, &by, said).await;
            self.unless_fenced("audit a refusal", run.as_str(), audited)?;
            return Err(error.on_record());
        }
        let done = if alone { format!("{ALONE}: done") } else { "done".to_owned() };
        self.noted(&by, verb, run.as_str(), &reason, &format!("{verb}: {done}")).await?;
        let open = self.runs.question(run).filter(|_| verb == "approve");
        let open = open.map(|approvals| format!("; {approvals}")).unwrap_or_default();
        Ok(Done { sentence: format!("{run}: {verb} accepted{open}") })
    }

    fn command_of(
        &self,
        run: &RunId,
        verb: &str,
        request: &CommandRequest,
        caller: Option<&Caller>,
    ) -> Result<drover_exec::Command, ApiError> {
        use drover_exec::Command;
        let (by, reason) = (request.by.clone(), request.reason.clone());
        Ok(match verb {
            "approve" => {
                let Some(plan) = request.plan.clone() else {
                    let detail = format!("approving {run} needs the id of the plan that was shown");
                    return Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "plan_missing", detail));
                };
                let voice = voice_of(run, request, caller)?;
                Command::Approve { by, plan, reason, voice }
            }
            "reject" => Command::Reject { by, reason },
            "pause" => Command::Pause { by, reason },
            "resume" => Command::Resume { by, reason },
            "skip" => Command::Skip { by, reason, step: None },
            "abort" => Command::Abort { by, reason, roll_back: request.roll_back },
            other => {
                let known = ["approve", "reject", "pause", "resume", "skip", "abort"];
                return Err(ApiError::not_found(
                    format!("command {other}"),
                    known.map(str::to_owned).to_vec(),
                ));
            }
        })
    }

    /// The smallest objective of these services.
    pub(crate) fn rto_of(&self, services: &[drover_model::ServiceId]) -> Span {
        let loaded = self.loaded();
        services
            .iter()
            .filter_map(|s| loaded.config.services.get(s))
            .map(|s| s.rto)
            .min()
            .unwrap_or(Span::from_mins(30))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testbed::{Bed, code_of, person, send};

    fn is_told(problem: &drover_model::api::Problem) {
        assert_eq!((problem.status, problem.code.as_str()), (422, "plan_too_large"));
        assert!(problem.detail.contains("takes 2000000 bytes, and a record may have 1048576"), "{problem:?}");
        assert!(problem.next.as_ref().unwrap().contains("drover drain us-east --service"), "{problem:?}");
    }

    #[tokio::test]
    async fn a_plan_that_does_not_fit_into_a_record_is_refused_with_what_to_do() {
        let mut bed = Bed::new().await;
        bed.refuse_as_too_large(keys::PLANS);
        bed.all_is_well();
        let intent = Bed::intent();
        let refused = bed.c.make_plan(&PlanRequest { by: person(), intent }).await.unwrap_err();
        is_told(&refused.0);
        let audit = bed.c.db.list::<crate::audit::AuditRecord>(keys::AUDIT).await.unwrap();
        let outcome = &audit.last().unwrap().1.outcome;
        assert!(outcome.starts_with("refused: the plan for 2 services takes"), "{outcome}");
    }

    #[tokio::test]
    async fn a_run_whose_first_record_does_not_fit_is_refused_alike_and_is_none() {
        let mut bed = Bed::new().await;
        bed.refuse_as_too_large(keys::RUNS);
        let plan = bed.plan().await;
        let api = bed.serve().await;
        let body = serde_json::to_vec(&serde_json::json!({"by": person(), "reason": "go"})).unwrap();
        let path = format!("/v1/plans/{}/apply", plan.id);
        let answer = send(reqwest::Method::POST, api, &path, Some(body)).await;
        assert_eq!(code_of(&answer, 422), "plan_too_large");
        is_told(&serde_json::from_str(&answer.2).unwrap());
        assert_eq!(bed.c.runs.active(), []);
    }
}
