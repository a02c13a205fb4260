//! The configuration of a world: the text of a file, with single values set by `config`, read by the real decoder.

use drover_model::config::Config;
use drover_model::config::decode::{self, SourceFile};
use drover_model::config::diagnostic::Diagnostic;
use drover_model::plan::LoadedRunbook;
use drover_model::runbook::Purpose;
use drover_model::{AgentId, EndpointKey, ServiceId, Shared};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

/// Texts that a simulation may begin from.
#[derive(Debug, Clone, Default)]
pub struct WorldFiles {
    /// Configuration by the name that `world` is given.
    pub worlds: BTreeMap<String, String>,
    /// Runbook files.
    pub runbooks: Runbooks,
}

/// What runbooks there are, by their purpose.
type Books = Shared<BTreeMap<Purpose, LoadedRunbook>>;

/// Runbook files, by name. They are read once, however many worlds begin with them.
#[derive(Debug, Clone, Default)]
pub struct Runbooks(Arc<RunbookTexts>);

#[derive(Debug, Default)]
struct RunbookTexts {
    texts: BTreeMap<String, String>,
    /// What they say, or why they say nothing.
    read: OnceLock<Result<Books, String>>,
}

impl FromIterator<(String, String)> for Runbooks {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(texts: I) -> Self {
        Self(Arc::new(RunbookTexts { texts: texts.into_iter().collect(), read: OnceLock::new() }))
    }
}

impl Runbooks {
    fn read(&self) -> Result<Books, WorldError> {
        let read = self.0.read.get_or_init(|| {
            let files: Vec<SourceFile> = self.0.texts.iter().map(|(n, t)| SourceFile::new(n, t)).collect();
            let books = decode::load_runbooks(&files).map_err(|all| messages(&all))?;
            Ok(books.into_iter().map(|book| (book.runbook.purpose, book)).collect())
        });
        read.clone().map_err(WorldError::Refused)
    }
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

/// A world's text, and what the decoder made of it.
#[derive(Debug, Clone)]
pub(crate) struct Loaded {
    text: String,
    pub(crate) config: Arc<Config>,
    /// Every configured endpoint.
    pub(crate) endpoints: Arc<[EndpointKey]>,
    /// Every configured vantage.
    pub(crate) agents: Arc<[AgentId]>,
    /// The digests of its services.
    pub(crate) service_versions: Arc<BTreeMap<ServiceId, String>>,
    pub(crate) runbooks: Books,
}

impl Loaded {
    pub(crate) fn read(files: &WorldFiles, name: &str) -> Result<Self, WorldError> {
        let known = || files.worlds.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        let text = files
            .worlds
            .get(name)
            .ok_or_else(|| WorldError::Unknown { name: name.to_owned(), known: known() })?;
        let config = decoded(text)?;
        Ok(Self {
            text: text.clone(),
            endpoints: endpoints_of(&config),
            agents: config.agents().into_keys().collect(),
            service_versions: Arc::new(config.service_versions()),
            config,
            runbooks: files.runbooks.read()?,
        })
    }

    /// Sets one value: `NAME.path.to.key=value` for one region or service, `settings.path=value`, or
    /// `path.to.key=value` for every service. An empty value takes the key away.
    pub(crate) fn set(&mut self, path: &str, value: &str) -> Result<(), WorldError> {
        let unreadable = |what: &str, e: serde_saphyr::Error| WorldError::Unreadable {
            what: what.to_owned(),
            why: e.to_string(),
        };
        let parsed = if value.is_empty() {
            None
        } else {
            Some(serde_saphyr::from_str::<Value>(value).map_err(|e| unreadable(value, e))?)
        };
        let mut documents: Vec<Value> =
            serde_saphyr::from_multiple(&self.text).map_err(|e| unreadable("the world", e))?;
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
        // JSON is YAML, so that the decoder under test reads it.
        let texts: Vec<String> = documents.iter().map(ToString::to_string).collect();
        let text = texts.join("\n---\n");
        self.config = decoded(&text)?;
        self.endpoints = endpoints_of(&self.config);
        self.agents = self.config.agents().into_keys().collect();
        self.service_versions = Arc::new(self.config.service_versions());
        self.text = text;
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

fn decoded(text: &str) -> Result<Arc<Config>, WorldError> {
    let loaded = decode::load(&[SourceFile::new("world", text)]);
    loaded.map(|loaded| Arc::new(loaded.config)).map_err(|all| WorldError::Refused(messages(&all)))
}

fn messages(all: &[Diagnostic]) -> String {
    all.iter().map(|d| d.message.clone()).collect::<Vec<_>>().join("; ")
}
