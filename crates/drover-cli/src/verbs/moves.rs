//! The verbs that move traffic: each makes a plan, shows it, asks, applies it and follows the run.

use super::{Bench, me, runs};
use crate::args::{ApplyArgs, ConsentArgs, DrainArgs, FailbackArgs, FailoverArgs, PlanFlag, UndrainArgs};
use crate::consent::{Situation, obtain};
use crate::exit::ExitCode;
use crate::failure::{Failure, Result};
use crate::output::Format;
use crate::output::document::Versioned;
use crate::render;
use drover_model::PlanId;
use drover_model::api::{CommandRequest, PlanRequest, PlanView, RunSummary};
use drover_model::plan::Intent;
use drover_model::runbook::Purpose;

/// `failover`.
///
/// # Errors
/// When it is refused, declined, or can't be sent.
pub async fn failover(bench: &Bench, args: FailoverArgs) -> Result<ExitCode> {
    let mut wanted =
        intent(Purpose::Failover, args.which.services, args.from, args.reason.unwrap_or_default());
    wanted.to = args.to;
    go(bench, wanted, &args.consent).await
}

/// `failback`.
///
/// # Errors
/// As [`failover`].
pub async fn failback(bench: &Bench, args: FailbackArgs) -> Result<ExitCode> {
    let wanted = intent(Purpose::Failback, args.which.services, args.from, args.reason.unwrap_or_default());
    go(bench, wanted, &args.consent).await
}

/// `drain`.
///
/// # Errors
/// As [`failover`].
pub async fn drain(bench: &Bench, args: DrainArgs) -> Result<ExitCode> {
    let mut wanted = intent(Purpose::Drain, args.services, args.region, args.reason.unwrap_or_default());
    wanted.hold_for = args.how_long.span;
    go(bench, wanted, &args.consent).await
}

/// `undrain`.
///
/// # Errors
/// As [`failover`].
pub async fn undrain(bench: &Bench, args: UndrainArgs) -> Result<ExitCode> {
    let wanted = intent(Purpose::Undrain, args.services, args.region, args.reason);
    go(bench, wanted, &args.consent).await
}

fn intent(
    purpose: Purpose,
    services: Vec<drover_model::ServiceId>,
    region: drover_model::RegionId,
    reason: String,
) -> Intent {
    Intent { purpose, services, region, to: None, automatic: false, hold_for: None, reason, accept: vec![] }
}

async fn go(bench: &Bench, mut intent: Intent, consent: &ConsentArgs) -> Result<ExitCode> {
    intent.accept = consent.accept.clone();
    intent.accept.sort();
    intent.accept.dedup();
    let request = PlanRequest { by: me(), intent };
    let view: PlanView = bench.client.post(&["plans"], &request).await?;
    let only_plan = consent.plan == Some(PlanFlag::Show);
    let Some(id) = view.planned.plan.as_ref().map(|p| p.id.clone()) else {
        bench.out.show(&view, |look| render::plan::render(&view, look))?;
        return Err(refused(&view));
    };
    if only_plan {
        bench.out.show(&view, |look| render::plan::render(&view, look))?;
        bench.out.talk(&format!("nothing was done; to run this plan: drover apply {id}"));
        return Ok(ExitCode::Attention);
    }
    shown(bench, &view)?;
    let named = match &consent.plan {
        Some(PlanFlag::Exactly(id)) => Some(id),
        _ => None,
    };
    let production = bench.target.production;
    let what = format!("Run {id}");
    let (yes, can_ask) = (consent.yes, bench.out.can_ask());
    let situation = Situation { what: &what, plan: &id, named, yes, can_ask, production };
    obtain(&bench.out, situation, view.intent.region.as_str())?;
    start(bench, &id, &view.intent.reason, consent.no_wait).await
}

/// Shows the plan that is about to run: beside the data, which will be the run.
fn shown(bench: &Bench, view: &PlanView) -> Result<()> {
    let text = render::plan::render(view, &bench.out.look());
    if bench.out.format == Format::Table {
        bench.out.text(&text)?
    } else {
        bench.out.talk(&text)
    }
    Ok(())
}

fn refused(view: &PlanView) -> Failure {
    let reasons = &view.planned.refusals;
    let what = format!("{} of {} was refused", view.intent.purpose, view.intent.region);
    let mut failure = Failure::new(ExitCode::Refused, what);
    failure.causes = reasons.first().map(ToString::to_string).into_iter().collect();
    failure.hint = reasons.iter().find_map(|r| r.next_command());
    failure
}

/// `apply`.
///
/// # Errors
/// As [`failover`].
pub async fn apply(bench: &Bench, args: &ApplyArgs) -> Result<ExitCode> {
    let view: PlanView = bench.client.get(&["plans", &args.plan], &[]).await?;
    let Some(id) = view.planned.plan.as_ref().map(|p| p.id.clone()) else {
        return Err(refused(&view));
    };
    shown(bench, &view)?;
    // The id was typed: that is the plan that was named.
    let (can_ask, production) = (bench.out.can_ask(), bench.target.production);
    let what = format!("Run {id}");
    let situation =
        Situation { what: &what, plan: &id, named: Some(&id), yes: args.yes, can_ask, production };
    obtain(&bench.out, situation, view.intent.region.as_str()).map_err(|f| f.for_apply(&id))?;
    start(bench, &id, &args.reason, args.no_wait).await
}

impl Failure {
    /// `apply` names its plan without an option.
    fn for_apply(mut self, id: &PlanId) -> Self {
        if self.code == ExitCode::Usage {
            self.hint = Some(format!("drover apply {id} --yes"));
        }
        self
    }
}

async fn start(bench: &Bench, id: &PlanId, reason: &str, no_wait: bool) -> Result<ExitCode> {
    let request = CommandRequest {
        by: me(),
        reason: reason.to_owned(),
        plan: Some(id.clone()),
        roll_back: false,
        alone: false,
    };
    let run: RunSummary = bench.client.post(&["plans", id.as_str(), "apply"], &request).await?;
    if no_wait {
        bench.out.show(&Versioned::of(&run), |look| render::run::list(std::slice::from_ref(&run), look))?;
        bench.out.talk(&format!("drover run follow {}", run.id));
        return Ok(ExitCode::Done);
    }
    runs::follow(bench, run.id.as_str()).await
}
