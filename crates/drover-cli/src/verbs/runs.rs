//! `run …`, `approve` and `reject`.

use super::{Bench, me};
use crate::args::{AnswerArgs, ApproveArgs, RunVerb, SureArgs};
use crate::consent::{Situation, obtain};
use crate::exit::ExitCode;
use crate::failure::{Failure, Result};
use crate::output::document::{Items, Versioned};
use crate::output::{Format, table};
use crate::render;
use drover_model::PlanId;
use drover_model::api::{CommandRequest, Done, PlanView, RunSummary, RunView};
use drover_model::journal::RunState;
use std::time::{Duration, Instant};

/// Between two looks of `follow`.
const FOLLOW_EVERY: Duration = Duration::from_millis(500);
/// A coordinator that is gone for longer ends `follow`: its successor goes on with the run within seconds.
const FOLLOW_PATIENCE: Duration = Duration::from_secs(60);

/// `run …`.
///
/// # Errors
/// When the coordinator can't be asked or refuses.
pub async fn run(bench: &Bench, verb: RunVerb) -> Result<ExitCode> {
    let (verb, args) = match verb {
        RunVerb::List { limit } => return list(bench, limit).await,
        RunVerb::Show { run } => return show(bench, &run).await,
        RunVerb::Follow { run } => return follow(bench, &run).await,
        RunVerb::Pause(args) => ("pause", args),
        RunVerb::Resume(args) => ("resume", args),
        RunVerb::Skip(args) => return skip(bench, args).await,
        RunVerb::Abort { run, roll_back } => return abort(bench, run, roll_back).await,
    };
    command(bench, &args.run, verb, args.reason.reason, None, false).await
}

/// A skipped check is never made good: the run can end only with exceptions.
async fn skip(bench: &Bench, args: SureArgs) -> Result<ExitCode> {
    let view = get(bench, &args.run.run).await?;
    let standing = view.steps.iter().find(|s| !matches!(s.state.as_str(), "done" | "skipped"));
    let step = standing.map_or("the current step", |s| s.id.as_str());
    make_sure(bench, &view, &args, &format!("Skip {step} of {}", view.summary.id))?;
    command(bench, &args.run.run, "skip", args.run.reason.reason, None, false).await
}

/// An aborted run does not go on; with a rollback it moves traffic once more.
async fn abort(bench: &Bench, args: SureArgs, roll_back: bool) -> Result<ExitCode> {
    let view = get(bench, &args.run.run).await?;
    let how = if roll_back { "and undo what it did" } else { "and leave what it did" };
    make_sure(bench, &view, &args, &format!("Abort {} {how}", view.summary.id))?;
    command(bench, &args.run.run, "abort", args.run.reason.reason, None, roll_back).await
}

fn make_sure(bench: &Bench, view: &RunView, args: &SureArgs, what: &str) -> Result<()> {
    if view.summary.state.is_final() {
        return Ok(()); // Refused by the coordinator, with the reason.
    }
    let named = args.plan.as_deref().map(PlanId::from_text);
    let situation = Situation {
        what,
        plan: &view.plan.id,
        named: named.as_ref(),
        yes: args.yes,
        can_ask: bench.out.can_ask(),
        production: bench.target.production,
    };
    obtain(&bench.out, situation, view.summary.region.as_str())
}

async fn list(bench: &Bench, limit: usize) -> Result<ExitCode> {
    let runs: Vec<RunSummary> = bench.client.list(&["runs"], limit).await?;
    bench.out.show(&Items::of(&runs), |look| {
        if runs.is_empty() { "no run yet\n".to_owned() } else { render::run::list(&runs, look) }
    })?;
    Ok(ExitCode::Done)
}

async fn get(bench: &Bench, run: &str) -> Result<RunView> {
    bench.client.get(&["runs", run], &[]).await
}

/// One run in full.
///
/// # Errors
/// When there is none, or the coordinator can't be asked.
pub async fn show(bench: &Bench, run: &str) -> Result<ExitCode> {
    let view = get(bench, run).await?;
    if bench.out.format == Format::Markdown {
        bench.out.text(&render::markdown::render(&view))?;
    } else {
        bench.out.show(&view, |look| render::run::show(&view, look))?;
    }
    Ok(ExitCode::Done)
}

/// Prints what happens in a run until it rests; what it rests in is the exit code.
///
/// # Errors
/// When the coordinator can't be asked for longer than its successor needs.
pub async fn follow(bench: &Bench, run: &str) -> Result<ExitCode> {
    let out = &bench.out;
    let (mut told, mut lost): (usize, Option<Instant>) = (0, None);
    let mut next = String::new();
    loop {
        let view = match get(bench, run).await {
            Ok(view) => view,
            Err(failure) if failure.code == ExitCode::Unreachable => {
                let since = *lost.get_or_insert_with(Instant::now);
                if since.elapsed() > FOLLOW_PATIENCE {
                    return Err(failure.hint(format!(
                        "the run goes on under the next coordinator: drover run follow {run}"
                    )));
                }
                out.progress(&format!(
                    "the coordinator is gone for {} s; its successor goes on",
                    since.elapsed().as_secs()
                ));
                tokio::time::sleep(FOLLOW_EVERY).await;
                continue;
            }
            Err(failure) => return Err(failure),
        };
        lost = None;
        if out.format == Format::Table && view.timeline.len() > told {
            out.progress("");
            let look = out.look();
            let news: String =
                view.timeline[told..].iter().map(|e| render::run::happened(e, &look)).collect();
            out.text(&news)?;
            told = view.timeline.len();
        }
        if rests(view.summary.state) {
            out.progress("");
            out.show(&view, |look| render::run::ended(&view, look))?;
            return Ok(ExitCode::of_run(view.summary.state));
        }
        // One column less: a terminal that is full to the edge wraps by itself.
        out.progress(&render::run::progress(&view, &table::narrowed(&out.look(), 1)));
        if !out.shows_progress() && next != view.next_decision {
            next.clone_from(&view.next_decision);
            out.talk(&render::run::next(&view, &out.look()));
            // Said once more with each new step: whoever pipes this reads it whenever he joins.
            if let Some(late) = render::run::late(&view) {
                out.talk(&late);
            }
        }
        tokio::time::sleep(FOLLOW_EVERY).await;
    }
}

/// Nothing moves until a person does something, or ever.
fn rests(state: RunState) -> bool {
    state.is_final()
        || matches!(state, RunState::AwaitingApproval | RunState::Paused | RunState::NeedsOperator)
}

async fn command(
    bench: &Bench,
    run: &str,
    verb: &str,
    reason: String,
    plan: Option<PlanId>,
    roll_back: bool,
) -> Result<ExitCode> {
    let request = CommandRequest { by: me(), reason, plan, roll_back, alone: false };
    order(bench, run, verb, &request).await
}

async fn order(bench: &Bench, run: &str, verb: &str, request: &CommandRequest) -> Result<ExitCode> {
    let done: Done = bench.client.post(&["runs", run, verb], request).await?;
    bench.out.show(&Versioned::of(&done), |look| table::paragraph(look, &done.sentence))?;
    if !matches!(verb, "reject" | "abort" | "pause") {
        bench.out.talk(&format!("drover run follow {run}"));
    }
    Ok(ExitCode::Done)
}

/// `approve`: shows what is asked, and agrees to exactly that plan.
///
/// # Errors
/// When the run asks for another plan, the person declines, or the coordinator refuses.
pub async fn approve(bench: &Bench, args: ApproveArgs) -> Result<ExitCode> {
    let ApproveArgs { answer: args, alone } = args;
    let view = get(bench, &args.run).await?;
    if view.summary.state != RunState::AwaitingApproval {
        let message = format!("{} is {}: it asks nothing", view.summary.id, view.summary.state);
        return Err(
            Failure::new(ExitCode::Refused, message).hint(format!("drover run show {}", view.summary.id))
        );
    }
    let plan = view.plan.id.clone();
    let text = match bench.client.get::<PlanView>(&["plans", plan.as_str()], &[]).await {
        Ok(kept) => render::plan::render(&kept, &bench.out.look()),
        // A plan that drover made for itself may be kept with the run alone.
        Err(_) => render::run::show(&view, &bench.out.look()),
    };
    if bench.out.format == Format::Table {
        bench.out.text(&text)?
    } else {
        bench.out.talk(&text)
    }
    let named = args.plan_id();
    let (can_ask, production) = (bench.out.can_ask(), bench.target.production);
    let what = match (view.approvals.asks_several(), alone) {
        (true, true) => format!("Agree to {plan} for all who were asked ({})", view.approvals),
        (true, false) => format!("Agree to {plan} ({})", view.approvals),
        (false, _) => format!("Agree to {plan}"),
    };
    let situation =
        Situation { what: &what, plan: &plan, named: named.as_ref(), yes: args.yes, can_ask, production };
    obtain(&bench.out, situation, view.summary.region.as_str())?;
    let request = CommandRequest { by: me(), reason: args.reason, plan: Some(plan), roll_back: false, alone };
    order(bench, &args.run, "approve", &request).await
}

/// `reject`: changes nothing, so nothing is asked.
///
/// # Errors
/// When the coordinator refuses.
pub async fn reject(bench: &Bench, args: AnswerArgs) -> Result<ExitCode> {
    let plan = args.plan_id();
    command(bench, &args.run, "reject", args.reason, plan, false).await
}
