//! What `break-glass` shows: the provider's own word, and what was done to it.

use crate::output::paint::{Tone, paint};
use crate::output::words::count;
use crate::output::{Look, table};
use drover_model::api::{RecordVersion, ValueView};
use drover_model::break_glass::{HeldBy, HeldView, How, Reconciled};
use drover_model::{Epoch, PlanId, ServiceId, Timestamp};
use serde::Serialize;
use std::path::PathBuf;

/// What the provider has.
#[derive(Debug, Serialize)]
pub struct GlassView {
    /// Version of this output's schema.
    pub schema: u16,
    /// When.
    pub at: Timestamp,
    /// The zone.
    pub zone: String,
    /// How it is told.
    pub provider: String,
    /// Do answers follow weights?
    pub has_weights: bool,
    /// The epoch that commands the zone, by its own record; none: no coordinator has written there.
    pub commanded_by: Option<Epoch>,
    /// One for each service that was asked for.
    pub records: Vec<GlassRecord>,
}

/// One service's record set.
#[derive(Debug, Serialize)]
pub struct GlassRecord {
    /// The service.
    pub service: ServiceId,
    /// Its name in DNS.
    pub name: String,
    /// `A`, `AAAA` or `CNAME`.
    pub record_type: String,
    /// Does drover own it?
    pub is_drovers: bool,
    /// Who holds it by break-glass.
    pub held_by: Option<HeldBy>,
    /// Did a hand change it since it was written?
    pub is_changed_by_hand: bool,
    /// What is live; none: no such set.
    pub live: Option<RecordVersion>,
    /// The servers that do not show it, with why.
    pub lagging: Vec<String>,
}

/// What was changed, or would be.
#[derive(Debug, Serialize)]
pub struct GlassDone {
    /// Version of this output's schema.
    pub schema: u16,
    /// The change's name: of what is live and what shall be.
    pub plan: PlanId,
    /// The service.
    pub service: ServiceId,
    /// Who holds it then.
    pub held_by: Option<HeldBy>,
    /// What is live, or was.
    pub before: RecordVersion,
    /// What shall be, or is.
    pub after: RecordVersion,
    /// The epoch under which it is written.
    pub epoch: Epoch,
    /// What to know before.
    pub warnings: Vec<String>,
    /// Where it is live; empty where nothing was done.
    pub applied: Vec<String>,
    /// The servers that could not be told.
    pub missing: Vec<String>,
    /// What the servers answer since.
    pub verified: Option<String>,
    /// The record of it.
    pub record: Option<PathBuf>,
}

/// A record that is brought to the coordinator.
#[derive(Debug, Serialize)]
pub struct GlassBack {
    /// Version of this output's schema.
    pub schema: u16,
    /// What would happen, by its name.
    pub plan: PlanId,
    /// Lines of the file.
    pub lines: usize,
    /// What becomes of what it holds; none where it holds nothing.
    pub how: Option<How>,
    /// What it holds.
    pub services: Vec<GlassHeld>,
    /// What somebody holds by another record.
    pub others: Vec<HeldView>,
    /// What came of it; none where nothing was done.
    pub reconciled: Option<Reconciled>,
}

/// A service that goes back to drover.
#[derive(Debug, Serialize)]
pub struct GlassHeld {
    /// The service.
    pub service: ServiceId,
    /// Who holds it.
    pub held_by: HeldBy,
    /// What is live.
    pub live: RecordVersion,
    /// What will be, but for its generation.
    pub then: RecordVersion,
}

/// What would happen.
pub fn back(view: &GlassBack, look: &Look) -> String {
    let lines = count(view.lines, "line");
    let held = count(view.services.len(), "service");
    let what = format!(
        "{}: {lines} for the audit, {held} held by this record",
        paint(Tone::Strong, view.plan.as_str())
    );
    let mut text = table::paragraph(look, &what);
    let rows = view.services.iter().flat_map(|held| {
        held.then.values.iter().map(move |then| {
            let was = held.live.values.iter().find(|was| was.region == then.region);
            let region = then.region.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
            let was = was.map_or_else(|| "-".to_owned(), |was| was.weight.to_string());
            let now = then.weight.to_string();
            let now = if was == now { now } else { paint(Tone::Strong, &now) };
            vec![held.service.to_string(), held.held_by.to_string(), region, was, now]
        })
    });
    let rows: Vec<_> = rows.collect();
    if !rows.is_empty() {
        text.push('\n');
        text.push_str(&table::table(
            look,
            &["service", "held by", "region", "weight now", "weight then"],
            rows,
        ));
    }
    for HeldView { service, held_by } in &view.others {
        let other = format!("{held_by} holds {service} by another record");
        text.push_str(&table::paragraph(look, &paint(Tone::Doubtful, &other)));
    }
    text
}

/// What happened.
pub fn reconciled(done: &Reconciled, look: &Look) -> String {
    let mut rows = vec![vec![
        "audit".to_owned(),
        format!(
            "{} added, {} known",
            count(usize::try_from(done.added).unwrap_or(usize::MAX), "line"),
            done.known
        ),
    ]];
    rows.extend(done.services.iter().map(|one| vec![one.service.to_string(), one.sentence.clone()]));
    table::hanging(look, rows)
}

/// The whole zone, or what was asked for of it.
pub fn render(view: &GlassView, look: &Look) -> String {
    let commanded = view.commanded_by.map_or_else(
        || "no coordinator has written there".to_owned(),
        |epoch| format!("the last coordinator wrote under epoch {epoch}"),
    );
    let weights =
        if view.has_weights { "" } else { "; it knows no weights: whoever answers gets the same share" };
    let (zone, provider) = (paint(Tone::Strong, &view.zone), &view.provider);
    let mut text = table::paragraph(look, &format!("{zone} ({provider}), {commanded}{weights}"));
    text.push('\n');
    let row = |r: &GlassRecord| {
        let live = r.live.as_ref();
        vec![
            r.service.to_string(),
            format!("{} {}", r.name, r.record_type),
            live.map_or_else(|| "-".to_owned(), |live| live.generation.to_string()),
            owner(r),
            live.map_or_else(|| "nothing".to_owned(), values),
        ]
    };
    let header = ["service", "name", "generation", "held by", "weights"];
    text.push_str(&table::table(look, &header, view.records.iter().map(row).collect()));
    let lagging = view.records.iter().flat_map(|r| r.lagging.iter().map(move |why| (r, why)));
    let rows: Vec<_> =
        lagging.map(|(r, why)| vec![r.service.to_string(), paint(Tone::Doubtful, why)]).collect();
    if !rows.is_empty() {
        text.push('\n');
        text.push_str(&table::table(look, &["service", "server that shows something else"], rows));
    }
    text
}

fn owner(record: &GlassRecord) -> String {
    let held =
        record.held_by.as_ref().map(|held_by| paint(Tone::Doubtful, format!("{held_by}, break-glass")));
    let live = || record.live.as_ref().map_or_else(|| "-".to_owned(), |live| live.owner.clone());
    let owner = held.unwrap_or_else(live);
    if record.is_changed_by_hand { format!("{owner}, changed by hand") } else { owner }
}

/// By region; the values are in `-o json`, as everything.
fn values(version: &RecordVersion) -> String {
    let one = |v: &ValueView| {
        let name = v.region.as_ref().map_or_else(|| v.value.clone(), ToString::to_string);
        format!("{name} {}", v.weight)
    };
    version.values.iter().map(one).collect::<Vec<_>>().join("  ")
}

/// What changes, before it does and after.
pub fn change(done: &GlassDone, look: &Look) -> String {
    let GlassDone { before, after, .. } = done;
    let rows = after.values.iter().map(|then| {
        let was = before.values.iter().find(|was| was.region == then.region);
        let region = then.region.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
        let was = was.map_or_else(|| "-".to_owned(), |was| was.weight.to_string());
        let now = then.weight.to_string();
        let now = if was == now { now } else { paint(Tone::Strong, &now) };
        vec![region, then.value.clone(), was, now]
    });
    let what = format!(
        "{} of {}: generation {} -> {}, TTL {} s",
        paint(Tone::Strong, done.plan.as_str()),
        done.service,
        before.generation,
        after.generation,
        after.ttl_seconds
    );
    let mut text = table::paragraph(look, &what);
    text.push('\n');
    text.push_str(&table::table(look, &["region", "value", "weight now", "weight then"], rows.collect()));
    for warning in &done.warnings {
        text.push_str(&table::paragraph(look, &paint(Tone::Doubtful, format!("warning: {warning}"))));
    }
    text
}

/// What came of it.
pub fn outcome(done: &GlassDone, look: &Look) -> String {
    let mut rows = vec![vec!["live at".to_owned(), done.applied.join(", ")]];
    if !done.missing.is_empty() {
        rows.push(vec!["not told".into(), paint(Tone::Bad, done.missing.join(", "))]);
    }
    rows.extend(done.verified.iter().map(|verified| vec!["answers".into(), verified.clone()]));
    rows.extend(done.record.iter().map(|file| vec!["record".into(), file.display().to_string()]));
    table::hanging(look, rows)
}
