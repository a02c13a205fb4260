//! `runbook …`.

use super::Bench;
use super::config::{read_directory, refused};
use crate::exit::ExitCode;
use crate::failure::{Failure, Result};
use crate::output::Out;
use crate::output::document::{Items, Versioned};
use crate::output::words::count;
use crate::render;
use drover_coordinator::config_dir::SHIPPED_RUNBOOKS;
use drover_model::config::decode::{self, SourceFile};
use drover_model::config::diagnostic::suggest;
use drover_model::runbook::Runbook;
use std::path::{Path, PathBuf};

/// The runbooks that ship with drover, as files.
pub fn shipped() -> Vec<SourceFile> {
    SHIPPED_RUNBOOKS.iter().map(|(name, text)| SourceFile::new(*name, *text)).collect()
}

fn load(name: &str, files: &[SourceFile]) -> Result<Vec<Runbook>> {
    let loaded = decode::load_runbooks(files).map_err(|found| refused(name, found))?;
    Ok(loaded.into_iter().map(|l| l.runbook).collect())
}

/// `runbook lint`: a runbook that can't prove recovery is an error.
///
/// # Errors
/// Every finding.
pub fn lint(out: &Out, dir: Option<PathBuf>) -> Result<ExitCode> {
    let here = || Path::new("runbooks").is_dir().then(|| PathBuf::from("runbooks"));
    let (name, files) = match dir.or_else(here) {
        Some(dir) => (dir.display().to_string(), read_directory(&dir)?),
        None => ("the shipped set".to_owned(), shipped()),
    };
    let books = load(&name, &files)?;
    out.show(&Items::of(&books), |_| format!("{name} is valid: {}\n", count(books.len(), "runbook")))?;
    Ok(ExitCode::Done)
}

/// The runbooks of a directory, or those in force.
async fn all(bench: &Bench, dir: Option<PathBuf>) -> Result<Vec<Runbook>> {
    match dir {
        Some(dir) => load(&dir.display().to_string(), &read_directory(&dir)?),
        None => bench.client.get(&["runbooks"], &[]).await,
    }
}

/// `runbook list`.
///
/// # Errors
/// When they can't be read.
pub async fn list(bench: &Bench, dir: Option<PathBuf>) -> Result<ExitCode> {
    let books = all(bench, dir).await?;
    bench.out.show(&Items::of(&books), |look| render::config::runbooks(&books, look))?;
    Ok(ExitCode::Done)
}

/// `runbook show`.
///
/// # Errors
/// When there is none of that name.
pub async fn show(bench: &Bench, name: &str, dir: Option<PathBuf>) -> Result<ExitCode> {
    let books = all(bench, dir).await?;
    let Some(book) = books.iter().find(|b| b.name == name) else {
        let mut failure = Failure::usage(format!("there is no runbook `{name}`"));
        failure.hint = suggest(name, books.iter().map(|b| b.name.as_str()));
        return Err(failure);
    };
    bench.out.show(&Versioned::of(book), |look| render::config::runbook(book, look))?;
    Ok(ExitCode::Done)
}
