//! `config …`. `validate` and `schema` need no coordinator.

use super::Bench;
use crate::exit::ExitCode;
use crate::failure::{Failure, Result};
use crate::output::document::{Document, Items, Versioned};
use crate::output::words::count;
use crate::output::{Format, Out};
use crate::render;
use drover_model::api::ConfigView;
use drover_model::config::decode::{self, FILE_BYTES_MAX, FILES_MAX, SourceFile};
use drover_model::config::diagnostic::Diagnostic;
use drover_model::config::{diff, schema};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Where a packaged installation has its configuration.
const SYSTEM_DIRECTORY: &str = "/etc/drover/regions";

/// What `validate` found.
#[derive(Debug, Serialize)]
struct Validation {
    schema: u16,
    valid: bool,
    version: Option<String>,
    errors: Vec<Diagnostic>,
    warnings: Vec<Diagnostic>,
}

impl Document for Validation {}

/// The directory that is meant when none is named.
pub fn directory(named: Option<PathBuf>) -> PathBuf {
    let from_env = || std::env::var_os("DROVER_CONFIG").filter(|v| !v.is_empty()).map(PathBuf::from);
    let here = || Path::new("regions").is_dir().then(|| PathBuf::from("regions"));
    named.or_else(from_env).or_else(here).unwrap_or_else(|| PathBuf::from(SYSTEM_DIRECTORY))
}

/// Every YAML file of a directory, by name.
///
/// # Errors
/// When the directory or a file can't be read, or there is nothing in it.
pub fn read_directory(directory: &Path) -> Result<Vec<SourceFile>> {
    let failed = |path: &Path, e: &std::io::Error| {
        Failure::because(ExitCode::Usage, format!("can't read {}", path.display()), e)
    };
    let entries = std::fs::read_dir(directory).map_err(|e| failed(directory, &e))?;
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(|e| failed(directory, &e))?.path();
        if path.extension().is_some_and(|e| e == "yaml" || e == "yml") {
            paths.push(path);
        }
    }
    if paths.is_empty() {
        return Err(Failure::usage(format!("there is no *.yaml file in {}", directory.display())));
    }
    paths.sort();
    let mut files = Vec::new();
    // One more than may be, so that the decoder says what is too much.
    for path in paths.iter().take(FILES_MAX + 1) {
        let size = std::fs::metadata(path).map_err(|e| failed(path, &e))?.len();
        let bytes = if size > FILE_BYTES_MAX as u64 {
            vec![b' '; FILE_BYTES_MAX + 1]
        } else {
            std::fs::read(path).map_err(|e| failed(path, &e))?
        };
        files.push(SourceFile::new(path.display().to_string(), String::from_utf8_lossy(&bytes)));
    }
    Ok(files)
}

/// Findings as a failure that draws each.
pub fn refused(what: &str, diagnostics: Vec<Diagnostic>) -> Failure {
    let mut failure = Failure::usage(format!("{what} has {}", count(diagnostics.len(), "error")));
    failure.diagnostics = diagnostics;
    failure
}

/// `config validate`.
///
/// # Errors
/// When anything is wrong; every finding is in the failure.
pub fn validate(out: &Out, dir: Option<PathBuf>, runbooks: Option<PathBuf>) -> Result<ExitCode> {
    let dir = directory(dir);
    let loaded = decode::load(&read_directory(&dir)?);
    let books =
        runbooks.as_deref().map(read_directory).transpose()?.map(|files| decode::load_runbooks(&files));
    let mut errors = Vec::new();
    let (mut version, mut warnings, mut sentence) = (None, Vec::new(), String::new());
    match loaded {
        Ok(loaded) => {
            let c = &loaded.config;
            version = Some(c.version());
            sentence = format!(
                "{} is valid: {}, {}, {}, version {}\n",
                dir.display(),
                count(c.regions.len(), "region"),
                count(c.services.len(), "service"),
                count(c.agents().len(), "agent"),
                c.version()
            );
            warnings = loaded.warnings;
        }
        Err(found) => errors = found,
    }
    errors.extend(books.and_then(std::result::Result::err).unwrap_or_default());
    for warning in &warnings {
        out.talk(&format!("warning: {warning}"));
    }
    if errors.is_empty() {
        out.show(&Validation { schema: 1, valid: true, version, errors, warnings }, |_| sentence)?;
        return Ok(ExitCode::Done);
    }
    if out.format != Format::Table {
        let valid = false;
        out.show(&Validation { schema: 1, valid, version: None, errors, warnings }, |_| String::new())?;
        return Ok(ExitCode::Usage);
    }
    Err(refused(&dir.display().to_string(), errors))
}

/// `config show`.
///
/// # Errors
/// When the coordinator can't be asked.
pub async fn show(bench: &Bench) -> Result<ExitCode> {
    let view: ConfigView = bench.client.get(&["config"], &[]).await?;
    for refused in &view.refused {
        bench.out.talk(&format!("refused on disk: {refused}"));
    }
    bench.out.show(&Versioned::of(&view), |_| view.yaml.clone())?;
    Ok(ExitCode::Done)
}

/// `config schema`. JSON Schema is JSON in every format but YAML.
///
/// # Errors
/// When it can't be written.
pub fn schema(out: &Out, runbook: bool) -> Result<ExitCode> {
    let schema = if runbook { schema::runbook_schema() } else { schema::config_schema() };
    out.verbatim(&schema)?;
    Ok(ExitCode::Done)
}

/// `config diff`.
///
/// # Errors
/// When the directory is wrong, or the coordinator can't be asked.
pub async fn diff(bench: &Bench, dir: Option<PathBuf>) -> Result<ExitCode> {
    let dir = directory(dir);
    let new =
        decode::load(&read_directory(&dir)?).map_err(|found| refused(&dir.display().to_string(), found))?;
    let view: ConfigView = bench.client.get(&["config"], &[]).await?;
    let old = decode::load(&[SourceFile::new("the configuration in force", view.yaml)]).map_err(|found| {
        let mut failure = refused("the configuration in force, as this version reads it,", found);
        failure.code = ExitCode::Internal;
        failure
    })?;
    let changes = diff::diff(&old.config, &new.config);
    bench.out.show(&Items::of(&changes), |_| render::config::changes(&changes))?;
    Ok(if changes.is_empty() { ExitCode::Done } else { ExitCode::Attention })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_of_a_directory_is_shown_with_its_line() {
        let region = "kind: Region\nname: eu-west\nlocation: {city: Dublin, latitude: 53, longitude: -6, jurisdiction: EU}\n\
                      agents:\n  - naem: eu-west-1\n";
        let settings = "kind: Settings\nlisten: 127.0.0.1:7400\nvantage: {report_interval: 1}\n";
        let files =
            [SourceFile::new("regions/eu.yaml", region), SourceFile::new("regions/settings.yaml", settings)];
        let failure = refused("regions", decode::load(&files).unwrap_err());
        assert_eq!(failure.code, ExitCode::Usage);
        insta::assert_snapshot!(crate::output::report::render(&failure, 80, false));
    }

    #[test]
    fn a_directory_is_read_by_name_and_must_hold_something() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read_directory(dir.path()).unwrap_err().message.contains("no *.yaml"));
        for name in ["b.yml", "a.yaml", "c.txt"] {
            std::fs::write(dir.path().join(name), name).unwrap();
        }
        let texts: Vec<String> = read_directory(dir.path()).unwrap().into_iter().map(|f| f.text).collect();
        assert_eq!(texts, ["a.yaml", "b.yml"]);
        assert_eq!(read_directory(&dir.path().join("none")).unwrap_err().code, ExitCode::Usage);
    }
}
