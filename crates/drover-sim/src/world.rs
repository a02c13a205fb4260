//! The configuration of a world: the text of a file, with single values set by `config`, read by the real decoder.

use drover_model::config::Config;
use drover_model::config::decode::{self, SourceFile};
use drover_model::plan::LoadedRunbook;
use drover_model::runbook::Purpose;
use drover_model::{AgentId, EndpointKey, ServiceId, Shared};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Texts that a simulation may begin from.
#[derive(Debug, Clone, Default)]
pub struct WorldFiles {
    /// Configuration by the name that `world` is given.
    pub worlds: BTreeMap<String, String>,
    /// Runbook files, by name.
    pub runbooks: BTreeMap<String, String>,
}

/// Why a world can't be made or changed.
#[derive(Debug, thiserror::Error)]
pub enum WorldError {
    /// No such file.
    #[error("no world {name}; there are: {known}")]
    Unknown {
        /// The name given.
        name: String,
        /// Those that exist.
        known: String,
    },
    /// Not YAML.
    #[error("can't read `{what}`: {why}")]
    Unreadable {
        /// Of what.
        what: String,
        /// Why.
        why: String,
    },
    /// No document of that name.
    #[error("can't set {path}: nothing in this world is called {name}")]
    NoSuchDocument {
        /// The whole path.
        path: String,
        /// Its first part.
        name: String,
    },
    /// The decoder refused it.
    #[error("{0}")]
    Refused(String),
}

/// A world's documents, and what the decoder made of them.
#[derive(Debug, Clone)]
pub(crate) struct Loaded {
    documents: Vec<Value>,
    pub(crate) config: Arc<Config>,
    /// Every configured endpoint.
    pub(crate) endpoints: Arc<[EndpointKey]>,
    /// Every configured vantage.
    pub(crate) agents: Arc<[AgentId]>,
    /// The digests of its services.
    pub(crate) service_versions: Arc<BTreeMap<ServiceId, String>>,
    pub(crate) runbooks: Shared<BTreeMap<Purpose, LoadedRunbook>>,
}

impl Loaded {
    pub(crate) fn read(files: &WorldFiles, name: &str) -> Result<Self, WorldError> {
        let known = || files.worlds.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        let text = files
            .worlds
            .get(name)
            .ok_or_else(|| WorldError::Unknown { name: name.to_owned(), known: known() })?;
        let unreadable =
            |e: serde_saphyr::Error| WorldError::Unreadable { what: name.to_owned(), why: e.to_string() };
        let documents: Vec<Value> = serde_saphyr::from_multiple(text).map_err(unreadable)?;
        let books: Vec<SourceFile> = files.runbooks.iter().map(|(n, t)| SourceFile::new(n, t)).collect();
        let books = decode::load_runbooks(&books).map_err(|all| refused(&all))?;
        let config = decoded(&documents)?;
        Ok(Self {
            documents,
            endpoints: endpoints_of(&config),
            agents: config.agents().into_keys().collect(),
            service_versions: Arc::new(config.service_versions()),
            config,
            runbooks: books.into_iter().map(|book| (book.runbook.purpose, book)).collect(),
        })
    }

    /// Sets one value: `NAME.path.to.key=value` for one region or service, `settings.path=value`, or
    /// `path.to.key=value` for every service. An empty value takes the key away.
    pub(crate) fn set(&mut self, path: &str, value: &str) -> Result<(), WorldError> {
        let unreadable =
            |e: serde_saphyr::Error| WorldError::Unreadable { what: value.to_owned(), why: e.to_string() };
        let parsed = if value.is_empty() {
            None
        } else {
            Some(serde_saphyr::from_str::<Value>(value).map_err(unreadable)?)
        };
        let mut documents = self.documents.clone();
        let (first, rest) = path.split_once('.').unwrap_or((path, ""));
        let named = |d: &Value| d["name"] == first || (first == "settings" && d["kind"] == "Settings");
        if documents.iter().any(&named) {
            documents.iter_mut().filter(|d| named(d)).for_each(|d| put(d, rest, parsed.as_ref()));
        } else if KEYS_OF_SERVICES.contains(&first) {
            let services = documents.iter_mut().filter(|d| d["kind"] == "Service");
            services.for_each(|d| put(d, path, parsed.as_ref()));
        } else {
            return Err(WorldError::NoSuchDocument { path: path.to_owned(), name: first.to_owned() });
        }
        self.config = decoded(&documents)?;
        self.endpoints = endpoints_of(&self.config);
        self.agents = self.config.agents().into_keys().collect();
        self.service_versions = Arc::new(self.config.service_versions());
        self.documents = documents;
        Ok(())
    }
}

fn endpoints_of(config: &Config) -> Arc<[EndpointKey]> {
    let services = config.services.values();
    services.flat_map(|s| s.endpoints.keys().map(|r| EndpointKey::new(&s.name, r))).collect()
}

/// What a path that names no document may begin with; it then means every service.
const KEYS_OF_SERVICES: [&str; 6] =
    ["failover", "health_check", "validation", "metrics", "peak_load", "objectives"];

fn put(document: &mut Value, path: &str, value: Option<&Value>) {
    let (parents, last) = path.rsplit_once('.').unwrap_or(("", path));
    let mut at = document;
    for key in parents.split('.').filter(|k| !k.is_empty()) {
        at = match key.parse::<usize>() {
            Ok(index) if at.is_array() => &mut at[index],
            _ => &mut at[key],
        };
    }
    match (value, last.parse::<usize>()) {
        (Some(value), Ok(index)) if at.is_array() => at[index] = value.clone(),
        (Some(value), _) => at[last] = value.clone(),
        (None, Ok(index)) => {
            at.as_array_mut().map(|list| list.remove(index));
        }
        (None, Err(_)) => {
            at.as_object_mut().map(|map| map.remove(last));
        }
    }
}

/// JSON is YAML, so that the decoder under test reads it.
fn decoded(documents: &[Value]) -> Result<Arc<Config>, WorldError> {
    let texts: Vec<String> = documents.iter().map(ToString::to_string).collect();
    let file = SourceFile::new("world", texts.join("\n---\n"));
    decode::load(&[file]).map(|loaded| Arc::new(loaded.config)).map_err(|all| refused(&all))
}

fn refused(all: &[drover_model::config::diagnostic::Diagnostic]) -> WorldError {
    WorldError::Refused(all.iter().map(|d| d.message.clone()).collect::<Vec<_>>().join("; "))
}
