//! For administrators and packagers: `store check`, `completions`, `man`.

use crate::args::Args;
use crate::exit::ExitCode;
use crate::failure::{Failure, Result};
use crate::output::Out;
use crate::output::document::Versioned;
use crate::output::words::span;
use clap::CommandFactory;
use drover_model::Span;
use drover_store::{EmbeddedStore, Options};
use std::path::Path;

/// The store's file in a state directory.
const STORE_FILE: &str = "drover.redb";

/// Opens a store, which verifies every record of it, and says what was found.
///
/// # Errors
/// When there is none, another process has it open, or it is damaged.
pub fn check_store(out: &Out, state: &Path) -> Result<ExitCode> {
    let path = state.join(STORE_FILE);
    if !path.is_file() {
        return Err(Failure::usage(format!("there is no store at {}", path.display())));
    }
    // Checking must not be what fills the disk.
    let options = Options { reserve_bytes: 0, ..Options::default() };
    let (store, report) =
        EmbeddedStore::open(&path, options).map_err(|e| Failure::of(ExitCode::Failed, &e))?;
    store.close();
    let closed =
        if report.was_closed_cleanly { "closed in good order" } else { "repaired after an abrupt end" };
    let took = span(Span::from_duration(report.took));
    let sentence = format!(
        "{} is sound: {} records verified, revision {}, {closed}, anchor {:?}, took {took}\n",
        path.display(),
        report.records,
        report.revision,
        report.anchor
    );
    let value = serde_json::json!({
        "store": path,
        "sound": true,
        "records": report.records,
        "was_closed_cleanly": report.was_closed_cleanly,
    });
    out.show(&Versioned::of(&value), |_| sentence)?;
    Ok(ExitCode::Done)
}

/// Completions for a shell.
///
/// # Errors
/// When they can't be written.
pub fn completions(out: &Out, shell: clap_complete::Shell) -> Result<ExitCode> {
    let mut bytes = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "drover", &mut bytes);
    out.raw(&bytes)?;
    Ok(ExitCode::Done)
}

/// The manual page of `drover`, or one page a verb into a directory.
///
/// # Errors
/// When it can't be written.
pub fn man(out: &Out, dir: Option<&Path>) -> Result<ExitCode> {
    let failed = |e| Failure::because(ExitCode::Internal, "can't write the manual", &e);
    if let Some(dir) = dir {
        std::fs::create_dir_all(dir).map_err(failed)?;
        clap_mangen::generate_to(Args::command(), dir).map_err(failed)?;
        return Ok(ExitCode::Done);
    }
    let mut bytes = Vec::new();
    clap_mangen::Man::new(Args::command()).render(&mut bytes).map_err(failed)?;
    out.raw(&bytes)?;
    Ok(ExitCode::Done)
}
