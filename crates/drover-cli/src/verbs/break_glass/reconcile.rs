//! `break-glass reconcile`: the record is read here, so that a broken one is named before anybody is asked; what it holds is shown beside
//! what would be; and then the coordinator takes both.

use crate::args::{PlanFlag, ReconcileArgs};
use crate::consent::{Situation, obtain};
use crate::exit::ExitCode;
use crate::failure::{Failure, Result};
use crate::output::Format;
use crate::output::document::OUTPUT_SCHEMA;
use crate::render::break_glass::{GlassBack, GlassHeld, back, reconciled};
use crate::verbs::dns::zone;
use crate::verbs::{Bench, me};
use drover_dns::break_glass::{RECORD_BYTES_MAX, Record};
use drover_model::PlanId;
use drover_model::api::{RecordVersion, RecordView};
use drover_model::break_glass::{HeldBy, HeldView, How, ReconcileRequest, Reconciled};
use std::io::Read;
use std::path::Path;

/// Brings a record to the coordinator.
///
/// # Errors
/// When the record can't be read or is unsound, or the coordinator can't be asked or refuses.
pub async fn run(bench: &Bench, args: ReconcileArgs) -> Result<ExitCode> {
    let text = read(&args.file)?;
    let record = Record::read(&text).map_err(|e| {
        let failure = Failure::of(ExitCode::EvidenceBroken, &e);
        failure.hint("nothing was done; bring the file as the command wrote it")
    })?;
    let zone = zone(bench).await?;
    let held = |r: &RecordView| Some((r.clone(), r.held_by()?));
    let held: Vec<(RecordView, HeldBy)> = zone.records.iter().filter_map(held).collect();
    let mut view = view(&record, &held, args.how.how());
    let how = match (args.how.how(), view.services.is_empty()) {
        (Some(how), _) => how,
        // Nothing is held by it: there is nothing to choose.
        (None, true) => How::Release,
        (None, false) => {
            bench.out.talk(&back(&view, &bench.out.look()));
            let failure = Failure::usage("what shall become of what it holds?");
            return Err(failure
                .hint("--release publishes drover's own targets, --keep makes what was set the target"));
        }
    };
    if args.plan == Some(PlanFlag::Show) {
        bench.out.show(&view, |look| back(&view, look))?;
        bench.out.talk(&format!(
            "nothing was done; to do it: the same command with --plan {} at its end",
            view.plan
        ));
        return Ok(ExitCode::Attention);
    }
    let shown = back(&view, &bench.out.look());
    if bench.out.format == Format::Table {
        bench.out.text(&shown)?
    } else {
        bench.out.talk(&shown)
    }
    let named = match &args.plan {
        Some(PlanFlag::Exactly(id)) => Some(id),
        _ => None,
    };
    let what = match view.services.is_empty() {
        true => "Take the record into the audit".to_owned(),
        false => format!("Take the record into the audit, and {how} what it holds"),
    };
    let (yes, can_ask) = (args.yes, bench.out.can_ask());
    // A region's name would say nothing here: what is done is shown, service by service.
    let situation = Situation { what: &what, plan: &view.plan, named, yes, can_ask, production: false };
    obtain(&bench.out, situation, "")?;
    let services = view.services.iter().map(|held| (held.service.clone(), held.live.clone()));
    let request = ReconcileRequest {
        by: me(),
        reason: args.reason.clone(),
        record: text,
        how,
        services: services.collect(),
    };
    let done: Reconciled = bench.client.post(&["break-glass", "reconcile"], &request).await?;
    view.reconciled = Some(done.clone());
    if bench.out.format == Format::Table {
        bench.out.text(&reconciled(&done, &bench.out.look()))?;
    } else {
        bench.out.show(&view, |_| String::new())?;
    }
    Ok(ExitCode::Done)
}

fn read(file: &Path) -> Result<String> {
    let failed =
        |e: &std::io::Error| Failure::because(ExitCode::Usage, format!("can't read {}", file.display()), e);
    let opened = std::fs::File::open(file).map_err(|e| failed(&e))?;
    let mut text = String::new();
    // One more than may be, so that the record says what is too much.
    opened.take(RECORD_BYTES_MAX as u64 + 1).read_to_string(&mut text).map_err(|e| failed(&e))?;
    Ok(text)
}

fn view(record: &Record, held: &[(RecordView, HeldBy)], how: Option<How>) -> GlassBack {
    let (mut services, mut others) = (vec![], vec![]);
    for (shown, held_by) in held {
        let (service, held_by) = (shown.service.clone(), held_by.clone());
        match shown.live.clone().filter(|_| !record.put_by(&service, &held_by).is_empty()) {
            Some(live) => {
                let then = if how == Some(How::Keep) { live.clone() } else { shown.wanted.clone() };
                services.push(GlassHeld { service, held_by, live, then });
            }
            None => others.push(HeldView { service, held_by }),
        }
    }
    let last = record.lines().last().map(|line| line.hash);
    let versions: Vec<(&RecordVersion, &RecordVersion)> =
        services.iter().map(|held| (&held.live, &held.then)).collect();
    let named = PlanId::of_json(&(last, how, versions));
    GlassBack {
        schema: OUTPUT_SCHEMA,
        // These types always serialise: no map is among them.
        plan: named.unwrap_or_else(|_| PlanId::from_text("plan-none")),
        lines: record.lines().len(),
        how: how.filter(|_| !services.is_empty()),
        services,
        others,
        reconciled: None,
    }
}
