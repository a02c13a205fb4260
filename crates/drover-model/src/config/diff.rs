//! What changed between two configurations, in the words of the files.

use super::Config;
use super::encode::{self, Written};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// One change. A whole object that came or went is one change, not one for each of its fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Change {
    /// Where: `service/checkout/failover/failure_threshold`.
    pub path: String,
    /// The old value as written; absent when it is new.
    pub old: Option<String>,
    /// The new value as written; absent when it is gone.
    pub new: Option<String>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.old, &self.new) {
            (Some(old), Some(new)) => write!(f, "~ {}: {old} -> {new}", self.path),
            (None, Some(new)) => write!(f, "+ {}: {new}", self.path),
            (Some(old), None) => write!(f, "- {}: {old}", self.path),
            (None, None) => write!(f, "  {}", self.path),
        }
    }
}

/// Every change from `old` to `new`, by path: regions, services, datasets, then settings.
#[must_use]
pub fn diff(old: &Config, new: &Config) -> Vec<Change> {
    let mut changes = Vec::new();
    let (old, new) = (documents(old), documents(new));
    compare_all("", &refs(&old), &refs(&new), &mut changes);
    changes
}

fn documents(config: &Config) -> Vec<(String, Written)> {
    let regions = config.regions.values().map(|r| (format!("region/{}", r.name), encode::region(r)));
    let services = config.services.values().map(|s| (format!("service/{}", s.name), encode::service(s)));
    let datasets = config.datasets.values().map(|d| (format!("dataset/{}", d.name), encode::dataset(d)));
    let settings = [("settings".to_owned(), encode::settings(&config.settings))];
    regions.chain(services).chain(datasets).chain(settings).collect()
}

fn refs(entries: &[(String, Written)]) -> Vec<(&str, &Written)> {
    entries.iter().map(|(k, w)| (k.as_str(), w)).collect()
}

fn compare(path: &str, old: &Written, new: &Written, changes: &mut Vec<Change>) {
    if old == new {
        return;
    }
    match (old, new) {
        (Written::Map(a), Written::Map(b)) => {
            let a: Vec<_> = a.iter().map(|(k, w)| (*k, w)).collect();
            let b: Vec<_> = b.iter().map(|(k, w)| (*k, w)).collect();
            compare_all(path, &a, &b, changes);
        }
        (Written::Items(a), Written::Items(b)) => {
            let before = changes.len();
            compare_all(path, &refs(a), &refs(b), changes);
            if changes.len() == before {
                // The same items in another order.
                let names = |items: &[(String, Written)]| {
                    items.iter().map(|(k, _)| k.as_str()).collect::<Vec<_>>().join(", ")
                };
                push(path, Some(format!("[{}]", names(a))), Some(format!("[{}]", names(b))), changes);
            }
        }
        _ => push(path, Some(flow(old)), Some(flow(new)), changes),
    }
}

fn compare_all(path: &str, old: &[(&str, &Written)], new: &[(&str, &Written)], changes: &mut Vec<Change>) {
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}/{key}") };
    let known: BTreeMap<&str, &Written> = new.iter().copied().collect();
    let former: BTreeMap<&str, &Written> = old.iter().copied().collect();
    for (key, was) in old {
        match known.get(key) {
            Some(is) => compare(&below(key), was, is, changes),
            None => push(&below(key), Some(flow(was)), None, changes),
        }
    }
    for (key, is) in new.iter().filter(|(k, _)| !former.contains_key(k)) {
        push(&below(key), None, Some(flow(is)), changes);
    }
}

fn push(path: &str, old: Option<String>, new: Option<String>, changes: &mut Vec<Change>) {
    changes.push(Change { path: path.to_owned(), old, new });
}

/// A value on one line.
fn flow(written: &Written) -> String {
    let join = |items: Vec<String>| items.join(", ");
    match written {
        Written::Text(text) => text.clone(),
        Written::Integer(n) => n.to_string(),
        Written::Number(n) => n.to_string(),
        Written::Boolean(b) => b.to_string(),
        Written::List(items) => format!("[{}]", join(items.iter().map(flow).collect())),
        Written::Items(items) => format!("[{}]", join(items.iter().map(|(_, w)| flow(w)).collect())),
        Written::Map(entries) => {
            let shown =
                entries.iter().filter(|(k, _)| *k != "kind").map(|(k, w)| format!("{k}: {}", flow(w)));
            format!("{{{}}}", join(shown.collect()))
        }
    }
}
