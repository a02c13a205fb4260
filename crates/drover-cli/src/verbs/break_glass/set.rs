//! `break-glass dns set`: shows the change, asks, writes down what it intends, swaps, and writes down what came of it.
//!
//! The hard case is an answer that is lost, or a power failure between swap and record: the record then has the intent alone, and what is
//! live says by its owner whether it happened.

use super::{Glass, lag, not_asked};
use crate::args::{GlassSetArgs, PlanFlag};
use crate::consent::{Situation, obtain};
use crate::exit::ExitCode;
use crate::failure::{Failure, Result};
use crate::output::document::OUTPUT_SCHEMA;
use crate::output::{Format, Out, now};
use crate::render::break_glass::{GlassDone, change as shown, outcome};
use crate::verbs::me;
use drover_coordinator::break_glass::{OWNER, value, version};
use drover_dns::break_glass::{
    Began, Ended, Entry, Intends, NotRecorded, Outcome, Recorder, Shift, Verified, shift,
};
use drover_dns::provider::{Applied, Observed, ProviderError, Right, Verification};
use drover_dns::publish::{Batch, Change, SigningKey};
use drover_dns::zone::{RecordKey, RecordSet};
use drover_model::break_glass::HeldBy;
use drover_model::config::{DnsServers, Service};
use drover_model::traffic::Actor;
use drover_model::{Epoch, PlanId, RegionId, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long servers may take to answer as was written: Route 53 has a minute, and some.
const VERIFY_WITHIN: Duration = Duration::from_secs(90);
/// Between two looks at them.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What is about to be done.
struct Planned {
    key: RecordKey,
    observed: Vec<Observed>,
    before: RecordSet,
    after: RecordSet,
    change: Change,
    epoch: Epoch,
    held_by: HeldBy,
}

pub(super) async fn run(out: &Out, args: GlassSetArgs) -> Result<ExitCode> {
    if args.reason.trim().is_empty() {
        return Err(Failure::usage("a reason is needed: it is all that the record will tell of why"));
    }
    let glass = Glass::of(args.place.clone())?;
    let service = glass.service(&args.service)?.clone();
    let planned = plan(&glass, &service, &args).await?;
    let mut done = done(&glass, &service, &planned);
    if args.plan == Some(PlanFlag::Show) {
        out.show(&done, |look| shown(&done, look))?;
        out.talk(&format!(
            "nothing was done; to make this change: the same command with --plan {} at its end (and --yes without a terminal)",
            done.plan
        ));
        return Ok(ExitCode::Attention);
    }
    let text = shown(&done, &out.look());
    if out.format == Format::Table {
        out.text(&text)?
    } else {
        out.talk(&text)
    }
    let named = match &args.plan {
        Some(PlanFlag::Exactly(id)) => Some(id),
        _ => None,
    };
    let what = format!("Make {} so, and hold it until it is reconciled", service.dns_name);
    let (yes, can_ask) = (args.yes, out.can_ask());
    let situation = Situation { what: &what, plan: &done.plan, named, yes, can_ask, production: false };
    obtain(out, situation, "")?;
    let file = args.record.clone().unwrap_or_else(|| default_record(now()));
    let code = make(out, &glass, &service, &planned, (&args.reason, file), &mut done).await?;
    if out.format == Format::Table {
        out.text(&outcome(&done, &out.look()))?;
    } else {
        out.show(&done, |_| String::new())?;
    }
    let record = done.record.as_ref().map(|file| file.display().to_string()).unwrap_or_default();
    out.talk(&format!(
        "keep {record}; when a coordinator is back: drover break-glass reconcile {record} --release --reason TEXT (or --keep)"
    ));
    Ok(code)
}

fn default_record(at: Timestamp) -> PathBuf {
    // Digits and letters of an RFC 3339 time, so that names sort by it.
    let time: String = at.to_string().chars().filter(|c| c.is_ascii_alphanumeric()).collect();
    PathBuf::from(format!("break-glass-{time}.jsonl"))
}

async fn plan(glass: &Glass, service: &Service, args: &GlassSetArgs) -> Result<Planned> {
    let key = Glass::key(service)?;
    let observed = glass.observe(std::slice::from_ref(&key)).await?;
    let found = observed.iter().find(|one| one.key == key);
    let Some(before) = found.and_then(|one| one.current.clone()) else {
        let failure = Failure::new(
            ExitCode::Refused,
            format!("nothing is live for {key}, so there is nothing to move"),
        );
        return Err(failure.hint(format!("drover break-glass dns show {}", service.name)));
    };
    let epoch = glass.gate.commanded_by().await.map_err(|e| not_asked(&glass.dns.zone, &e))?;
    let nobody = || {
        Failure::new(ExitCode::Refused, "no coordinator has ever written there: what is live is not drover's")
    };
    let epoch = epoch.ok_or_else(nobody)?;
    let weights: BTreeMap<RegionId, u16> =
        args.weights.iter().map(|w| (w.region.clone(), w.weight)).collect();
    if weights.len() < args.weights.len() {
        return Err(Failure::usage("a region is named twice"));
    }
    let configured = service.endpoints.iter().map(|(region, endpoint)| (region.clone(), value(endpoint)));
    let session = getrandom::u32().map_err(|e| Failure::new(ExitCode::Internal, e.to_string()))?;
    let name = match me() {
        Actor::Person { name, .. } => name,
        Actor::Automatic => String::new(),
    };
    let held_by = HeldBy::new(&name, session);
    let configured: BTreeMap<RegionId, String> = configured.collect();
    let wanted = Shift {
        owner: OWNER,
        weights: &weights,
        configured: &configured,
        held_by: &held_by,
        reason: &args.reason,
    };
    let (after, change) = shift(&before, wanted).map_err(|error| {
        let failure = Failure::because(ExitCode::Refused, format!("{key} stays as it is"), &error);
        failure.hint(format!("drover break-glass dns show {}", service.name))
    })?;
    let after = after.document().clone();
    Ok(Planned { key, observed, before, after, change, epoch, held_by })
}

fn done(glass: &Glass, service: &Service, planned: &Planned) -> GlassDone {
    let (before, after) = (version(&planned.before), version(&planned.after));
    // Who will hold it is made anew by every command, and is no part of what was agreed to.
    let named = PlanId::of_json(&(&glass.dns.zone, &service.name, &before, &after.values));
    GlassDone {
        schema: OUTPUT_SCHEMA,
        // These types always serialise: no map is among them.
        plan: named.unwrap_or_else(|_| PlanId::from_text("plan-none")),
        service: service.name.clone(),
        held_by: Some(planned.held_by.clone()),
        before,
        after,
        epoch: planned.epoch,
        warnings: warnings(glass, service, planned),
        applied: vec![],
        missing: vec![],
        verified: None,
        record: None,
    }
}

fn warnings(glass: &Glass, service: &Service, planned: &Planned) -> Vec<String> {
    let mut all = vec![];
    let configured: BTreeSet<&str> = service.endpoints.keys().map(RegionId::as_str).collect();
    for member in
        planned.after.members.iter().filter(|m| m.weight > 0 && !configured.contains(m.set_id.as_str()))
    {
        all.push(format!("{} is not in the configuration, and would be answered", member.set_id));
    }
    if let Some(other) = HeldBy::of_owner(&planned.before.owner) {
        all.push(format!("{other} holds it already, and would not any more"));
    }
    let found = planned.observed.iter().find(|one| one.key == planned.key);
    if found.is_some_and(|one| one.is_changed_by_hand) {
        all.push("it was changed by hand since drover wrote it".to_owned());
    }
    all.extend(found.into_iter().flat_map(|one| one.lagging.iter().map(lag)));
    if !glass.gate.capabilities().has_weights {
        all.push(
            "the zone's servers know no weights: whoever has any is answered in equal shares".to_owned(),
        );
    }
    all
}

/// The zone's own key where there is one, since its servers ask for that too; else one of which this command's lines are all.
fn signing_key(glass: &Glass) -> Result<SigningKey> {
    let of_zone = match &glass.dns.servers {
        DnsServers::Embedded(own) => own.signing_key_file.as_ref(),
        DnsServers::Rfc2136(_) | DnsServers::Route53(_) => None,
    };
    let key = of_zone.map_or_else(SigningKey::for_once, |file| SigningKey::read(file));
    key.map_err(|e| {
        Failure::of(ExitCode::Usage, &e).hint("it is `dns.signing_key_file` of the configuration")
    })
}

fn not_recorded(error: &NotRecorded) -> Failure {
    Failure::of(ExitCode::Failed, error).hint("nothing was done; name another file: --record FILE")
}

/// Writes it down, does it, and writes down what came of it.
async fn make(
    out: &Out,
    glass: &Glass,
    service: &Service,
    planned: &Planned,
    (reason, file): (&str, PathBuf),
    done: &mut GlassDone,
) -> Result<ExitCode> {
    let Planned { key, observed, before, after, change, epoch, held_by } = planned;
    let admitted = glass.gate.admit(std::slice::from_ref(change), observed, Right::Shown);
    let admitted = admitted.map_err(|e| Failure::of(ExitCode::Refused, &e))?;
    let signing = signing_key(glass)?;
    let began = Began {
        session: held_by.session.clone(),
        key: signing.public(),
        by: me(),
        reason: reason.to_owned(),
        zone: glass.dns.zone.clone(),
        provider: glass.gate.name().to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let mut recorder = Recorder::open(&file, signing).map_err(|e| not_recorded(&e))?;
    done.record = Some(file);
    let (of, before, after_set) = (service.name.clone(), before.clone(), after.clone());
    let intends = Intends { service: of, epoch: *epoch, before, after: after_set };
    for entry in [Entry::Began(began), Entry::Intends(intends)] {
        recorder.write(now(), entry).map_err(|e| not_recorded(&e))?;
    }
    let idempotency_key = format!("break-glass-{}", held_by.session);
    let batch = Batch { epoch: *epoch, idempotency_key, changes: vec![change.clone()] };
    let applied = glass.gate.apply(&batch, &admitted).await;
    let (ended, failure) = match &applied {
        Ok(applied) => (live_at(applied, done), None),
        Err(error) => {
            let became = became(glass, key, held_by, error).await;
            (
                Ended {
                    service: service.name.clone(),
                    outcome: became,
                    sentence: drover_model::chain(error),
                },
                Some(became),
            )
        }
    };
    let ended = recorder.write(now(), Entry::Ended(Ended { service: service.name.clone(), ..ended }));
    if let (Some(became), Err(error)) = (failure, &applied) {
        return Err(not_made(service, became, error));
    }
    ended.map_err(|e| {
        Failure::of(ExitCode::DoneWithExceptions, &e).hint("it is live all the same; keep this output")
    })?;
    let (is_answered, sentence) = verified(out, glass, key, after).await;
    done.verified = Some(sentence.clone());
    let verified = Verified { service: service.name.clone(), is_answered, sentence };
    let written = recorder.write(now(), Entry::Verified(verified));
    written.map_err(|e| {
        Failure::of(ExitCode::DoneWithExceptions, &e).hint("it is live all the same; keep this output")
    })?;
    let is_whole = is_answered && done.missing.is_empty();
    Ok(if is_whole { ExitCode::Done } else { ExitCode::DoneWithExceptions })
}

fn live_at(applied: &Applied, done: &mut GlassDone) -> Ended {
    let coverage = applied.coverage();
    done.applied.clone_from(&coverage.instances);
    done.missing = coverage.missing.iter().map(|one| format!("{}: {}", one.instance, one.reason)).collect();
    let mut sentence = format!("live at {}", done.applied.join(", "));
    if !done.missing.is_empty() {
        sentence.push_str(&format!(", not told: {}", done.missing.join(", ")));
    }
    Ended { service: done.service.clone(), outcome: Outcome::Done, sentence }
}

/// Of several servers some may have taken what another refused.
async fn became(glass: &Glass, key: &RecordKey, held_by: &HeldBy, error: &ProviderError) -> Outcome {
    match error {
        ProviderError::Unreachable { .. } | ProviderError::NotNow { .. } | ProviderError::Withheld(_) => {
            return Outcome::Refused;
        }
        ProviderError::TimedOut { .. } | ProviderError::Unclear { .. } => return Outcome::Unclear,
        ProviderError::Conflict { .. } | ProviderError::Fenced { .. } | ProviderError::Refused { .. } => {}
    }
    glass.gate.forget(std::slice::from_ref(key));
    let Ok(observed) = glass.gate.observe(std::slice::from_ref(key)).await else { return Outcome::Unclear };
    let is_whole = observed.iter().all(|one| one.lagging.is_empty());
    let is_ours =
        observed.iter().filter_map(|one| one.current.as_ref()).any(|set| set.owner == held_by.owner());
    if is_whole && !is_ours { Outcome::Refused } else { Outcome::Unclear }
}

fn not_made(service: &Service, became: Outcome, error: &ProviderError) -> Failure {
    let name = &service.name;
    let (code, message) = match (became, error) {
        (Outcome::Unclear, _) => (ExitCode::NeedsOperator, format!("whether {name} was moved is not known")),
        (
            _,
            ProviderError::Conflict { .. } | ProviderError::Fenced { .. } | ProviderError::Refused { .. },
        ) => (
            ExitCode::Refused,
            format!("{name} was not moved: it is not any more what was shown, or it is refused"),
        ),
        _ => (ExitCode::Failed, format!("{name} was not moved")),
    };
    let failure = Failure::because(code, message, error);
    failure.hint(format!("drover break-glass dns show {name}, and then the same command again"))
}

/// Asks the servers until they answer as they should, or for as long as that may take.
async fn verified(out: &Out, glass: &Glass, key: &RecordKey, after: &RecordSet) -> (bool, String) {
    let began = Instant::now();
    loop {
        let found = glass.gate.verify(key, Some(after)).await;
        let told = match &found {
            Ok(Verification::Verified { instances }) => {
                out.progress("");
                return (true, format!("{} answer as it should be", instances.join(", ")));
            }
            Ok(Verification::Partial { verified, missing }) => {
                out.progress("");
                let missing: Vec<&str> = missing.iter().map(|one| one.instance.as_str()).collect();
                let (verified, missing) = (verified.join(", "), missing.join(", "));
                return (true, format!("{verified} answer as it should be; could not be asked: {missing}"));
            }
            Ok(Verification::Mismatch { mismatches, .. }) => {
                let each = mismatches.iter().map(|one| format!("{}: {}", one.instance, one.found));
                each.collect::<Vec<_>>().join("; ")
            }
            Err(e) => drover_model::chain(e),
        };
        if began.elapsed() >= VERIFY_WITHIN {
            out.progress("");
            return (false, format!("not proven within {} s: {told}", VERIFY_WITHIN.as_secs()));
        }
        out.progress(&format!("waiting for the servers: {told}"));
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
