//! Places where tests kill this process: between every effect and the record of it.
//!
//! They are there only in a build with the feature `fault-points`, and do something only when `DROVER_FAULT_FILE` names a
//! file too. It lists the points at which to die, one a line; a process that reaches one takes it off the list, so that
//! its successor gets past it, and gets a SIGKILL. What is shipped has no such build: the feature is off unless a build
//! asks for it, a test refuses any manifest that asks, and `tests/run kills` looks for the variable's name in the release.

use drover_exec::Order;
use drover_model::journal::Record;

/// Dies here if a test wants that.
#[cfg(not(feature = "fault-points"))]
pub(crate) fn point(_: impl FnOnce() -> String) {}

/// Dies here if a test wants that.
#[cfg(feature = "fault-points")]
pub(crate) fn point(name: impl FnOnce() -> String) {
    use nix::{sys::signal, unistd};
    let Some(path) = std::env::var_os("DROVER_FAULT_FILE") else { return };
    if take(std::path::Path::new(&path), &name()) {
        // Nothing that can be caught: no destructor runs, no buffer is written.
        let _ = signal::kill(unistd::getpid(), signal::Signal::SIGKILL);
        loop {
            std::thread::park();
        }
    }
}

/// Takes a point off the list. A list that is not there, or can't be kept, kills nobody.
#[cfg(feature = "fault-points")]
fn take(path: &std::path::Path, name: &str) -> bool {
    let Ok(list) = std::fs::read_to_string(path) else { return false };
    if !list.lines().any(|line| line == name) {
        return false;
    }
    let rest: String = list.lines().filter(|line| *line != name).map(|line| format!("{line}\n")).collect();
    let new = path.with_extension("new");
    std::fs::write(&new, rest).and_then(|()| std::fs::rename(&new, path)).is_ok()
}

/// The name of a place beside the append of `record`: `before-append step_done 3`.
pub(crate) fn beside(place: &str, record: &Record) -> String {
    let entry = serde_json::to_value(&record.entry).unwrap_or_default();
    let word = entry["entry"].as_str().unwrap_or_default();
    match entry["step"].as_u64() {
        Some(step) => format!("{place} {word} {step}"),
        None => format!("{place} {word}"),
    }
}

/// The name of a place inside of a step: `after-move 3-shift_traffic`, and with `/undo` at its end where it is undone.
pub(crate) fn within(place: &str, order: &Order) -> String {
    let key = order.key.split_once('/').map_or(order.key.as_str(), |(_, of_the_run)| of_the_run);
    format!("{place} {key}")
}

#[cfg(all(test, feature = "fault-points"))]
mod tests {
    use super::take;

    #[test]
    fn a_point_is_taken_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("points");
        assert!(!take(&path, "a"), "no list");
        std::fs::write(&path, "a\nb 1\n").unwrap();
        assert!(!take(&path, "b") && take(&path, "b 1") && !take(&path, "b 1"));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "a\n");
    }
}
