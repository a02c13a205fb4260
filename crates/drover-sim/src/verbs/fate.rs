//! What happens to the world: regions that die, links that break, agents that fall silent, leaders that crash.

use super::{Named, Words};
use crate::sim::Simulation;
use crate::state::{CrashPoint, CrashRecord, Shared};
use drover_core::vantage::Ingested;
use drover_model::RequestsPerSecond;
use std::str::FromStr;

/// Nothing when `verb` is none of fate's.
pub(super) fn play(
    sim: &mut Simulation,
    verb: &str,
    words: &mut Words,
) -> Result<Option<Vec<String>>, String> {
    let shared = sim.shared.clone();
    match verb {
        "config" => config(&shared, words)?,
        "break" => break_it(&shared, words)?,
        "heal" => heal(&shared, words)?,
        "ill" => set(&shared, words, |condition, _| {
            condition.ill = true;
            Ok(())
        })?,
        "slow" => set(&shared, words, |condition, words| {
            condition.latency = words.span("how slow")?;
            Ok(())
        })?,
        "errors" => set(&shared, words, |condition, words| {
            let share = words.next("a share such as 20%")?;
            condition.errors_percent =
                share.trim_end_matches('%').parse().map_err(|e| format!("{share}: {e}"))?;
            Ok(())
        })?,
        "load" => {
            let mut state = shared.lock();
            let service = state.service(&words.next("a service")?)?;
            let rate = words.next("a rate such as 500rps")?;
            let rate = RequestsPerSecond::from_str(&rate).map_err(|e| format!("{rate}: {e}"))?;
            state.truth.loads.insert(service, rate);
        }
        "silence" | "blind" | "skew" | "lie" | "by-hand" | "restart" | "stop-agent" | "wake-agent" => {
            agent(&shared, verb, words)?;
        }
        "delay" | "twice" | "swap" | "drift" => network(&shared, verb, words)?,
        "probe" => return probe(&shared, words).map(Some),
        "replay" => return replay(&shared, words).map(Some),
        "crash" => crash(sim, words)?,
        "depose" => sim.succeed(true),
        _ => return Ok(None),
    }
    words.end()?;
    Ok(Some(vec![]))
}

fn config(shared: &Shared, words: &mut Words) -> Result<(), String> {
    let setting = words.rest();
    let (path, value) = setting.split_once('=').ok_or("PATH=VALUE is needed")?;
    let mut state = shared.lock();
    state.loaded.set(path, value).map_err(|e| e.to_string())?;
    state.retarget();
    Ok(())
}

fn break_it(shared: &Shared, words: &mut Words) -> Result<(), String> {
    let mut state = shared.lock();
    let what = words.next("what to break")?;
    match what.as_str() {
        "dns" => state.truth.dns_down = true,
        "link" => {
            let (a, b) =
                (state.region(&words.next("a region")?)?, state.region(&words.next("another region")?)?);
            if words.word("one-way") {
                state.truth.cut_one_way(&a, &b);
            } else {
                state.truth.cut(&a, &b);
            }
        }
        _ => match state.named(&what)? {
            Named::Endpoint(endpoint) => state.truth.condition_mut(&endpoint).dead = true,
            Named::Region(region) => {
                state.truth.dead_regions.insert(region);
            }
        },
    }
    Ok(())
}

/// Agents of a region that was dead begin anew, those that were merely cut off go on.
fn heal(shared: &Shared, words: &mut Words) -> Result<(), String> {
    let mut guard = shared.lock();
    let state = &mut *guard;
    let what = words.optional();
    match what.as_deref() {
        None => {
            let dead = std::mem::take(&mut state.truth.dead_regions);
            state
                .agents
                .values_mut()
                .filter(|a| dead.contains(&a.region))
                .for_each(crate::agent::Agent::restart);
            state.truth.heal();
            state.agents.values_mut().for_each(|a| a.fate = crate::agent::Fate::default());
        }
        Some("dns") => state.truth.dns_down = false,
        Some("link") => {
            let (a, b) =
                (state.region(&words.next("a region")?)?, state.region(&words.next("another region")?)?);
            state.truth.mend(&a, &b);
        }
        Some(name) if state.agent(name).is_ok() => {
            let agent = state.agent(name)?;
            if let Some(agent) = state.agents.get_mut(&agent) {
                agent.fate = crate::agent::Fate::default();
            }
        }
        Some(name) => match state.named(name)? {
            Named::Endpoint(endpoint) => state.truth.heal_endpoint(&endpoint),
            Named::Region(region) => {
                let dead = state.truth.dead_regions.contains(&region);
                let back = state.agents.values_mut().filter(|a| dead && a.region == region);
                back.for_each(crate::agent::Agent::restart);
                state.truth.heal_region(&region);
            }
        },
    }
    Ok(())
}

fn set(
    shared: &Shared,
    words: &mut Words,
    change: impl Fn(&mut crate::truth::Condition, &mut Words) -> Result<(), String>,
) -> Result<(), String> {
    let mut state = shared.lock();
    let endpoints = state.endpoints_of(&words.next("a region or endpoint")?)?;
    let mut changed = crate::truth::Condition::default();
    change(&mut changed, words)?;
    for endpoint in endpoints {
        *state.truth.condition_mut(&endpoint) = changed;
    }
    Ok(())
}

fn agent(shared: &Shared, verb: &str, words: &mut Words) -> Result<(), String> {
    let mut guard = shared.lock();
    let state = &mut *guard;
    let name = words.next("an agent")?;
    if verb == "by-hand" && name == "all" {
        state.agents.values_mut().for_each(|a| a.fate.by_hand = true);
        return Ok(());
    }
    let key = state.agent(&name)?;
    let lied_about = if verb == "lie" {
        let endpoint = state.endpoint(&words.next("an endpoint")?)?;
        Some((endpoint, good_or_bad(words)?))
    } else {
        None
    };
    let Some(agent) = state.agents.get_mut(&key) else { return Err(format!("no agent {name}")) };
    match verb {
        "silence" => agent.fate.silent = true,
        "blind" => agent.fate.blind = true,
        "by-hand" => agent.fate.by_hand = true,
        "restart" => agent.restart(),
        "stop-agent" => agent.fate.stopped = true,
        "wake-agent" => agent.fate.stopped = false,
        "skew" => {
            let by = words.next("by how much, such as +20s")?;
            let (ahead, span) = match by.strip_prefix('-') {
                Some(span) => (-1, span),
                None => (1, by.trim_start_matches('+')),
            };
            let span = drover_model::Span::from_str(span).map_err(|e| format!("{by}: {e}"))?;
            agent.fate.skew_millis = ahead * i64::try_from(span.as_millis()).map_err(|e| e.to_string())?;
        }
        _ => agent.fate.lies.extend(lied_about),
    }
    Ok(())
}

/// What the network, or an agent's clock, does with what it reports.
fn network(shared: &Shared, verb: &str, words: &mut Words) -> Result<(), String> {
    let mut state = shared.lock();
    let name = words.next("an agent")?;
    if (verb, name.as_str()) == ("delay", "store") {
        state.rights.delay(words.span("for how long")?);
        return Ok(());
    }
    let key = state.agent(&name)?;
    let Some(agent) = state.agents.get_mut(&key) else { return Err(format!("no agent {name}")) };
    match verb {
        "delay" => agent.fate.way.delay = words.span("for how long")?,
        "twice" => agent.fate.way.twice = true,
        "swap" => agent.fate.way.swapped = true,
        _ => {
            let by = words.next("by how much, such as +500ppm")?;
            agent.fate.drift_millionths =
                by.trim_end_matches("ppm").parse().map_err(|e| format!("{by}: {e}"))?;
        }
    }
    Ok(())
}

fn good_or_bad(words: &mut Words) -> Result<bool, String> {
    match words.next("`good` or `bad`")?.as_str() {
        "good" => Ok(true),
        "bad" => Ok(false),
        other => Err(format!("`good` or `bad`, not `{other}`")),
    }
}

/// A probe at this very moment by an agent (or `all` outside of the endpoint's region), as a script dictates it.
fn probe(shared: &Shared, words: &mut Words) -> Result<Vec<String>, String> {
    let mut guard = shared.lock();
    let state = &mut *guard;
    let who = words.next("an agent")?;
    let endpoint = state.endpoint(&words.next("an endpoint")?)?;
    let good = good_or_bad(words)?;
    words.end()?;
    let named = if who == "all" { None } else { Some(state.agent(&who)?) };
    let (now, config) = (state.now(), state.loaded.config.clone());
    let mut reports = vec![];
    for agent in state.agents.values_mut() {
        let outside = named.is_none() && agent.region != endpoint.region;
        if outside || named.as_ref() == Some(&agent.name) {
            agent.probed(endpoint.clone(), good, now);
            reports.extend(agent.report(&config, &state.truth, now));
        }
    }
    for report in reports {
        state.take_in(&report);
    }
    state.judge();
    Ok(vec![])
}

/// The agent's last report arrives once more.
fn replay(shared: &Shared, words: &mut Words) -> Result<Vec<String>, String> {
    let mut state = shared.lock();
    let agent = state.agent(&words.next("an agent")?)?;
    words.end()?;
    let report = state.agents.get(&agent).and_then(|a| a.last_report.clone());
    let report = report.ok_or_else(|| format!("{agent} has sent no report yet"))?;
    Ok(vec![match state.ingest(&report) {
        Ok(Ingested { accepted, history_only, replayed, .. }) => {
            format!("{accepted} accepted, {history_only} to history only, {replayed} replayed")
        }
        Err(refused) => refused.to_string(),
    }])
}

/// `crash` at once, or `crash before|after started|done|failed STEP`, or `crash before|after record N`.
fn crash(sim: &mut Simulation, words: &mut Words) -> Result<(), String> {
    let Some(when) = words.optional() else {
        sim.succeed(false);
        return Ok(());
    };
    let durable = match when.as_str() {
        "before" => false,
        "after" => true,
        other => return Err(format!("crash `before` or `after` a record, not `{other}`")),
    };
    let entry = words.next("`started`, `done`, `failed` or `record`")?;
    let record = match entry.as_str() {
        "started" | "done" | "failed" => CrashRecord::OfStep { entry, step: words.next("a step's kind")? },
        "record" => {
            let others = words.next("how many records come first")?;
            CrashRecord::After(others.parse().map_err(|e| format!("{others}: {e}"))?)
        }
        _ => return Err(format!("`started`, `done`, `failed` or `record`, not `{entry}`")),
    };
    sim.shared.lock().crash_at = Some(CrashPoint { durable, record });
    Ok(())
}
