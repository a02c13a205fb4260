//! Datasets: what people command, what is asked of their rights, and the clocks that those are kept by.

use super::Words;
use crate::sim::Simulation;
use crate::state::Shared;
use drover_model::DatasetId;

/// Nothing when `verb` is none of datasets.
pub(super) fn play(
    sim: &mut Simulation,
    verb: &str,
    words: &mut Words,
) -> Result<Option<Vec<String>>, String> {
    let shared = sim.shared.clone();
    let printed = match verb {
        "dataset" => dataset(&shared, words)?,
        "rate" => {
            rate(&shared, words)?;
            vec![]
        }
        "dice" => {
            let number = words.next("a number")?;
            let chance = number.parse().map_err(|e| format!("{number}: {e}"))?;
            shared.lock().rights.draw_from(chance);
            vec![]
        }
        _ => return Ok(None),
    };
    words.end()?;
    Ok(Some(printed))
}

/// `dataset status`, `dataset move NAME --to REGION|AGENT`, `dataset abort NAME`.
fn dataset(shared: &Shared, words: &mut Words) -> Result<Vec<String>, String> {
    let what = words.next("`status`, `move` or `abort`")?;
    let mut state = shared.lock();
    if what == "status" {
        return Ok(state.rights.status());
    }
    let to = words.option("--to")?;
    let name = words.next("a dataset")?;
    let name = DatasetId::new(name).map_err(|e| e.to_string())?;
    match (what.as_str(), to) {
        ("move", Some(place)) => state.move_right(&name, &place).map(|line| vec![line]),
        ("abort", None) => state.rights.abort(&name).map(|line| vec![line]),
        _ => Err("dataset status, dataset move NAME --to PLACE, or dataset abort NAME".into()),
    }
}

/// The clock of an agent's machine, or of those that lead: `rate us-east-1 +80000ppm`.
fn rate(shared: &Shared, words: &mut Words) -> Result<(), String> {
    let name = words.next("an agent, or `leader`")?;
    let by = words.next("by how much, such as +500ppm")?;
    let millionths = by.trim_end_matches("ppm").parse().map_err(|e| format!("{by}: {e}"))?;
    let mut state = shared.lock();
    if name != "leader" {
        state.agent(&name)?;
    }
    state.rights.runs_at(&name, millionths);
    Ok(())
}
