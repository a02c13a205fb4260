//! From YAML texts to a [`Config`], or to every finding of the directory at once.
//!
//! Three passes: texts to trees that know their places, trees to values by the tables in `shapes`, and then the checks
//! that need several documents. Each pass reports and goes on, so that nobody mends a directory one error at a time.
//! Nothing is read from disk here: the caller hands in names and texts.

mod check;
mod checks;
mod cursor;
mod dataset;
mod dns;
mod health_checks;
mod policy;
mod published;
mod region;
pub(crate) mod rules;
mod runbook;
mod service;
mod settings;
mod sink;
#[cfg(test)]
pub(crate) mod tests;
mod tree;
mod values;

use super::diagnostic::{Diagnostic, suggest};
use super::{Config, Service, Split};
use crate::plan::LoadedRunbook;
use cursor::Fields;
use sink::{Place, Sink};
use std::collections::BTreeMap;
use tree::Node;

pub use sink::{FINDINGS_MAX, SOURCE_LINE_BYTES_MAX};
pub use tree::{ALIAS_NODES_MAX, DEPTH_MAX};

/// Files that one directory may have.
pub const FILES_MAX: usize = 1_000;

/// Bytes that one file may have: hundreds of services.
pub const FILE_BYTES_MAX: usize = 1 << 20;

/// Bytes that all files together may have: twice what 100,000 endpoints take with every setting written out.
pub const TOTAL_BYTES_MAX: usize = 64 << 20;

/// Documents that one directory may have: 10,000 services with their regions, and room.
pub const DOCUMENTS_MAX: usize = 12_000;

/// A file, as the caller read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// How to call it in findings.
    pub name: String,
    /// Its text.
    pub text: String,
}

impl SourceFile {
    /// A file of this name with this text.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self { name: name.into(), text: text.into() }
    }
}

/// A directory that is valid.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// What it says, with every default filled in.
    pub config: Config,
    /// What a person should know, though it stops nothing.
    pub warnings: Vec<Diagnostic>,
}

/// The kinds of documents in a configuration directory.
const KINDS: [&str; 4] = ["Region", "Service", "Dataset", "Settings"];

/// Reads the files of a configuration directory.
///
/// # Errors
/// Every error of all files, in their order, with place and suggestion; at most [`FINDINGS_MAX`].
pub fn load(files: &[SourceFile]) -> Result<Loaded, Vec<Diagnostic>> {
    let sink = Sink::new(files);
    let config = read_directory(&sink);
    let failed = sink.has_errors();
    let (mut errors, warnings) = sink.finish();
    match config {
        Some(config) if !failed => Ok(Loaded { config, warnings }),
        _ => {
            errors.truncate(FINDINGS_MAX + 1);
            Err(errors)
        }
    }
}

/// Reads runbook files. Their lint findings are errors: a runbook that can't prove recovery must not be loaded (I10).
///
/// # Errors
/// As [`load`].
pub fn load_runbooks(files: &[SourceFile]) -> Result<Vec<LoadedRunbook>, Vec<Diagnostic>> {
    let sink = Sink::new(files);
    let runbooks = runbook::read_all(&sink);
    if sink.has_errors() { Err(sink.finish().0) } else { Ok(runbooks) }
}

/// What the documents said, before the checks that need several of them.
struct Directory {
    regions: Vec<region::Draft>,
    services: Vec<service::Draft>,
    datasets: Vec<dataset::Draft>,
    settings: Vec<settings::Draft>,
    /// Every file was read to its end and every document had a known kind; otherwise nothing can be called dangling.
    complete: bool,
}

fn read_directory(sink: &Sink<'_>) -> Option<Config> {
    let (documents, complete) = documents(sink);
    let mut directory = Directory {
        regions: Vec::new(),
        services: Vec::new(),
        datasets: Vec::new(),
        settings: Vec::new(),
        complete,
    };
    for (path, node) in &documents {
        match kind_of(sink, node, &KINDS).as_deref() {
            Some("Region") => directory.regions.push(region::read(sink, node, path)),
            Some("Service") => directory.services.push(service::read(sink, node, path)),
            Some("Dataset") => directory.datasets.push(dataset::read(sink, node, path)),
            Some("Settings") => directory.settings.push(settings::read(sink, node, path)),
            _ => directory.complete = false,
        }
    }
    checks::run(sink, &directory);
    assemble(sink, directory)
}

/// All documents of all files with the paths that name them, and whether every file was read to its end.
fn documents(sink: &Sink<'_>) -> (Vec<(String, Node)>, bool) {
    let files = sink.files();
    let mut complete = true;
    let mut found = Vec::new();
    if files.len() > FILES_MAX {
        sink.error(
            Place::top(FILES_MAX),
            format!("there are {} files; at most {FILES_MAX} are read", files.len()),
            None,
        );
        complete = false;
    }
    let mut total = 0usize;
    for (i, file) in files.iter().enumerate().take(FILES_MAX) {
        total = total.saturating_add(file.text.len());
        let limit = if file.text.len() > FILE_BYTES_MAX {
            Some(format!("the file has {} bytes; at most {FILE_BYTES_MAX} are read", file.text.len()))
        } else if total > TOTAL_BYTES_MAX {
            Some(format!("the files up to this one have {total} bytes; at most {TOTAL_BYTES_MAX} are read"))
        } else {
            None
        };
        if let Some(message) = limit {
            sink.error(
                Place::top(i),
                message,
                Some("split it, or check that it is the right file".to_owned()),
            );
            complete = false;
            continue;
        }
        let (nodes, whole) = tree::parse(sink, i);
        complete &= whole;
        for node in nodes {
            if found.len() == DOCUMENTS_MAX {
                sink.error(
                    node.place,
                    format!("this is one document more than the {DOCUMENTS_MAX} that are read"),
                    None,
                );
                return (found, false);
            }
            found.push((format!("{}", found.len()), node));
        }
    }
    (found, complete)
}

/// The `kind` of a document, when it is one of `known`; otherwise that is reported.
fn kind_of(sink: &Sink<'_>, node: &Node, known: &[&str]) -> Option<String> {
    let all = || format!("`kind` is one of {}", known.join(", "));
    let tree::Value::Map(entries) = &node.value else {
        sink.error(
            node.place,
            format!("expected a document with a `kind`, not {}", node.describe()),
            Some(all()),
        );
        return None;
    };
    let Some((_, value)) = entries.iter().find(|(k, _)| k.text == "kind") else {
        sink.error(node.place, "the document does not say its `kind`", Some(all()));
        return None;
    };
    let Some(kind) = Fields::peek(node, "kind") else {
        sink.error(value.place, format!("`kind` must be a word, not {}", value.describe()), Some(all()));
        return None;
    };
    if known.contains(&kind.as_str()) {
        return Some(kind);
    }
    let shown: String = kind.chars().take(40).collect();
    let suggestion = match kind.as_str() {
        "Runbook" => Some("runbooks have a directory of their own".to_owned()),
        "Region" | "Service" | "Dataset" | "Settings" => {
            Some("it belongs into the configuration directory".to_owned())
        }
        other => suggest(other, known.iter().copied()),
    };
    sink.error(value.place, format!("unknown kind `{shown}`"), suggestion);
    None
}

fn assemble(sink: &Sink<'_>, directory: Directory) -> Option<Config> {
    let settings = match directory.settings.into_iter().next() {
        Some(draft) => draft.settings,
        None => settings::left_out(sink),
    };
    let mut regions = BTreeMap::new();
    for region in directory.regions {
        let region = region.region?;
        regions.insert(region.name.clone(), region);
    }
    let settings = settings?;
    let split_of =
        |s: &Service| settings.dns.as_ref().map_or(Split::default(), |dns| dns.split_of(s.answering));
    let mut services = BTreeMap::new();
    for service in directory.services {
        let service = service.service?;
        let service = Service { split: split_of(&service), ..service };
        services.insert(service.name.clone(), service);
    }
    let mut datasets = BTreeMap::new();
    for dataset in directory.datasets {
        let dataset = dataset.dataset?;
        datasets.insert(dataset.name.clone(), dataset);
    }
    Some(Config { regions, services, datasets, settings })
}

/// The fields that the decoder looks for in these files, by object: the half of the contract that the schema must meet.
#[cfg(test)]
pub(crate) fn asked_of(
    config: &[SourceFile],
    runbooks: &[SourceFile],
) -> BTreeMap<String, std::collections::BTreeSet<String>> {
    let (directory, books) = (Sink::new(config), Sink::new(runbooks));
    read_directory(&directory);
    runbook::read_all(&books);
    let mut asked: BTreeMap<String, std::collections::BTreeSet<String>> = BTreeMap::new();
    for (object, field) in directory.all_asked().into_iter().chain(books.all_asked()) {
        asked.entry(object.to_owned()).or_default().insert(field.to_owned());
    }
    asked
}
