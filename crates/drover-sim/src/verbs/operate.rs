//! What people do: the verbs of the command line, as `ann`.

use super::Words;
use crate::leader::NewRun;
use crate::render;
use crate::runs;
use crate::sim::Simulation;
use crate::state::{Shared, State};
use drover_core::{check, failback, plan};
use drover_exec::{Approved, Command, Consent};
use drover_model::approvals::Voice;
use drover_model::journal::Trigger;
use drover_model::plan::{Intent, Plan, Planned};
use drover_model::reason::Reason;
use drover_model::runbook::Purpose;
use drover_model::traffic::{Actor, Freeze};
use drover_model::{RunId, ServiceId};

fn ann() -> Actor {
    Actor::Person { name: "ann".into(), host: "desk".into() }
}

const REASON: &str = "as the script says";

/// Nothing when `verb` is none of the command line's.
pub(super) fn play(
    sim: &mut Simulation,
    verb: &str,
    words: &mut Words,
) -> Result<Option<Vec<String>>, String> {
    let shared = sim.shared.clone();
    let printed = match verb {
        "plan" => {
            let purpose = purpose(&words.next("a purpose")?)?;
            make_plan(&shared, purpose, words)?.1
        }
        "apply" => apply(sim)?,
        "failover" | "failback" | "drain" | "undrain" => {
            let (plan, printed) = make_plan(&shared, purpose(verb)?, words)?;
            // The whole plan is `plan`'s to show; here it is what was refused, when it was.
            if plan.is_some() { apply(sim)? } else { printed }
        }
        "approve" | "reject" | "pause" | "resume" | "skip" | "abort" => command(sim, verb, words)?,
        "freeze" => freeze(&shared, words)?,
        "unfreeze" => {
            shared.lock().store.freeze = None;
            vec![]
        }
        "rearm" => rearm(&shared, words)?,
        _ => return Ok(None),
    };
    words.end()?;
    Ok(Some(printed))
}

fn purpose(word: &str) -> Result<Purpose, String> {
    Ok(match word {
        "failover" => Purpose::Failover,
        "failback" => Purpose::Failback,
        "drain" => Purpose::Drain,
        "undrain" => Purpose::Undrain,
        other => return Err(format!("`{other}` is no purpose of a plan")),
    })
}

/// `[SERVICE...|--all] --from REGION [--to REGION] [--for SPAN] [--accept WHAT]`.
fn intent(state: &State, purpose: Purpose, words: &mut Words) -> Result<Intent, String> {
    let region = words.option("--from")?.ok_or("--from REGION is needed")?;
    let region = state.region(&region)?;
    let to = words.option("--to")?.map(|name| state.region(&name)).transpose()?;
    let hold_for = match words.option("--for")? {
        None => None,
        Some(text) => Some(text.parse().map_err(|e| format!("{text}: {e}"))?),
    };
    let accept = words.option("--accept")?.map(|word| word.parse()).transpose()?;
    let all = words.word("--all");
    let mut services: Vec<ServiceId> = vec![];
    while let Some(name) = words.optional() {
        services.push(state.service(&name)?);
    }
    if all != services.is_empty() {
        return Err("name services, or say --all".into());
    }
    let reason = REASON.to_owned();
    let accept = accept.into_iter().collect();
    Ok(Intent { purpose, services, region, to, automatic: false, hold_for, reason, accept })
}

/// Makes a plan as a person asks for it, and keeps it for `apply`.
fn make_plan(
    shared: &Shared,
    purpose: Purpose,
    words: &mut Words,
) -> Result<(Option<Plan>, Vec<String>), String> {
    let mut state = shared.lock();
    let intent = intent(&state, purpose, words)?;
    let world = state.world();
    let mut planned: Planned = plan::plan(&world, &intent, state.now());
    let found = planned.plan.as_ref().and_then(|p| check::check(p, &world).into_iter().next());
    if let Some(found) = found {
        let finding = format!("{}: {}", found.invariant, found.message);
        planned.refusals.push(Reason::CheckFailed { finding });
        planned.plan = None;
    }
    state.shown = planned.plan.clone();
    Ok((planned.plan.clone(), render::planned(&planned)))
}

/// Runs the plan that was shown last, if the world that it was made from still stands (I9).
fn apply(sim: &Simulation) -> Result<Vec<String>, String> {
    let made = {
        let mut state = sim.shared.lock();
        let plan = state.shown.clone().ok_or("no plan was shown")?;
        let world = state.world();
        let mut reasons: Vec<String> = plan::stale(&plan, &world).iter().map(ToString::to_string).collect();
        for other in world.runs.iter().filter(|r| !r.awaiting_approval) {
            let busy = other.services.iter().find(|s| plan.services.contains(s)).cloned();
            reasons.extend(busy.map(|service| {
                let (run, by) = (other.run.clone(), other.by.clone());
                Reason::RunInProgress { service, run, by }.to_string()
            }));
        }
        reasons.extend(failback::too_early_for(&plan, &world, state.now()).iter().map(ToString::to_string));
        reasons.extend(check::check(&plan, &world).into_iter().map(|f| f.message));
        if !reasons.is_empty() {
            return Ok(reasons.into_iter().map(|r| format!("refused: {r}")).collect());
        }
        let (id, rto, run) = (plan.id.clone(), state.rto_of(&plan), state.next_run());
        let approved = Approved::by_command(plan, &id).map_err(|e| e.to_string())?;
        NewRun { run, consent: Consent::Given(approved), by: ann(), trigger: Trigger::Command, rto }
    };
    sim.within(async { runs::create(&sim.shared, made) })?;
    Ok(vec![])
}

fn command(sim: &Simulation, verb: &str, words: &mut Words) -> Result<Vec<String>, String> {
    let roll_back = words.word("--roll-back");
    let run = RunId::new(words.next("a run")?).map_err(|e| e.to_string())?;
    let (by, reason) = (ann(), REASON.to_owned());
    let command = match verb {
        "approve" => {
            let state = sim.shared.lock();
            let asked = state.executions().find(|e| *e.run() == run);
            let plan = asked.ok_or_else(|| format!("no run {run}"))?.plan().id.clone();
            Command::Approve { by, plan, reason, voice: Voice::Claimed }
        }
        "reject" => Command::Reject { by, reason },
        "pause" => Command::Pause { by, reason },
        "resume" => Command::Resume { by, reason },
        "skip" => Command::Skip { by, reason, step: None },
        _ => Command::Abort { by, reason, roll_back },
    };
    let answer = sim.within(async { runs::command(&sim.shared, &run, command).await });
    Ok(vec![match answer {
        Ok(state) => state,
        Err(refused) => format!("refused: {refused}"),
    }])
}

fn freeze(shared: &Shared, words: &mut Words) -> Result<Vec<String>, String> {
    let mut state = shared.lock();
    let now = state.now();
    let expires_at = match words.optional() {
        None => None,
        Some(text) => Some(now + text.parse().map_err(|e| format!("{text}: {e}"))?),
    };
    state.store.freeze = Some(Freeze { by: ann(), reason: REASON.into(), since: now, expires_at });
    Ok(vec![])
}

fn rearm(shared: &Shared, words: &mut Words) -> Result<Vec<String>, String> {
    let mut state = shared.lock();
    let services: Vec<ServiceId> = match words.optional() {
        Some(name) => vec![state.service(&name)?],
        None => state.loaded.config.services.keys().cloned().collect(),
    };
    let before = state.store.blocks.len();
    state.store.blocks.retain(|(service, _), _| !services.contains(service));
    let (ended, now) = (before - state.store.blocks.len(), state.now());
    state.store.rearmed.extend(services.into_iter().map(|s| (s, now)));
    Ok(vec![format!("{ended} block period(s) ended")])
}
