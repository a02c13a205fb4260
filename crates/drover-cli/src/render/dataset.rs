//! `dataset status`.

use crate::output::paint::{Tone, paint};
use crate::output::words::{ago, list};
use crate::output::{Look, table};
use drover_model::AgentId;
use drover_model::api::{DatasetView, RightStanding};

/// One line a dataset, and below the table what a person should know.
pub fn render(views: &[DatasetView], look: &Look) -> String {
    if views.is_empty() {
        return "no dataset is configured\n".to_owned();
    }
    let mut text = lines(views, look);
    for sentence in views.iter().flat_map(notes) {
        text.push_str(&table::paragraph(look, &sentence));
    }
    text
}

/// The table alone, as in `status`.
pub fn lines(views: &[DatasetView], look: &Look) -> String {
    let header = ["dataset", "holder", "region", "generation", "right", "renewed", "could take over"];
    table::table(look, &header, views.iter().map(|view| row(view, look)).collect())
}

fn row(view: &DatasetView, look: &Look) -> Vec<String> {
    let (tone, standing) = match view.standing {
        RightStanding::Held => (Tone::Good, "held"),
        RightStanding::Lapsed => (Tone::Bad, "lapsed"),
        RightStanding::Closing => (Tone::Doubtful, "closing"),
        RightStanding::Ungranted => (Tone::Doubtful, "not granted yet"),
        RightStanding::NotWriting => (Tone::Bad, "held, not writing"),
        RightStanding::Unread => (Tone::Doubtful, "not known"),
        RightStanding::Unreadable => (Tone::Bad, "unreadable"),
    };
    let nothing = || "-".to_owned();
    let ready: Vec<&AgentId> = view.ready.iter().collect();
    vec![
        view.dataset.to_string(),
        view.holder.to_string(),
        view.region.as_ref().map_or_else(nothing, ToString::to_string),
        view.generation.map_or_else(nothing, |generation| generation.to_string()),
        paint(tone, standing),
        view.renewed_at.map_or_else(nothing, |at| ago(look, at)),
        if ready.is_empty() { paint(Tone::Bad, "nobody") } else { list(&ready) },
    ]
}

fn notes(view: &DatasetView) -> Vec<String> {
    let id = &view.dataset;
    let mut notes = Vec::new();
    match (view.standing, &view.target) {
        (RightStanding::Lapsed, _) => notes.push(format!(
            "{id}: {} does not renew its right. It may write on for as long as every other member vouches for it; else nobody \
             writes. To let another one write: drover dataset move {id} --to REGION --reason WHY",
            view.holder
        )),
        (RightStanding::NotWriting, _) => notes.push(format!(
            "{id}: {} renews its right, and nothing runs behind its gate: its log and the gate's say why. To let another one \
             write: drover dataset move {id} --to REGION --reason WHY",
            view.holder
        )),
        (RightStanding::Unread, _) => notes.push(format!(
            "{id}: the store was not read for a while, so that nobody knows whether the right is renewed. {} may write on for as \
             long as every other member vouches for it",
            view.holder
        )),
        (RightStanding::Unreadable, _) => notes.push(format!(
            "{id}: {}. To read every record: drover store check",
            view.unreadable.as_deref().unwrap_or("its record makes no sense")
        )),
        (RightStanding::Closing, Some(target)) if view.unconfigured => notes.push(format!(
            "{id}: was taken out of the configuration while its right goes from {} to {target}, so that no agent hears of it. Put the \
             document back, or give the right back: drover dataset abort {id} --reason WHY",
            view.holder
        )),
        (RightStanding::Closing, Some(target)) => notes.push(format!(
            "{id}: goes from {} to {target}. To give it back: drover dataset abort {id} --reason WHY",
            view.holder
        )),
        _ => {}
    }
    if !view.waiting.is_empty() && view.generation.is_some() {
        let waiting: Vec<&AgentId> = view.waiting.iter().collect();
        notes.push(format!("{id}: {} can take over once the holder has heard of it", list(&waiting)));
    }
    if view.intervals_differ {
        notes.push(format!(
            "{id}: the configuration has other intervals than the right was granted with, and those stay: see docs/write-rights.md"
        ));
    }
    if let Some(end) = view.last_move.as_ref().and_then(|last| Some((last, last.ended.as_ref()?)))
        && !end.1.granted
    {
        notes.push(format!("{id}: the last move, to {}, did not happen: {}", end.0.to, end.1.sentence));
    }
    notes
}
