//! Every seed is tried without a fuzzer too. A seed is a typical input, or one that once broke a property.

#![allow(clippy::expect_used, clippy::print_stdout, reason = "test code, also the helpers")]

use drover_model::api::{CommandRequest, FreezeRequest, PlanRequest, RearmRequest};
use drover_model::config::decode::{SourceFile, load, load_runbooks};
use drover_model::probe::Report;
use serde::de::DeserializeOwned;
use std::fs;
use std::path::{Path, PathBuf};

fn directory(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target)
}

fn seed(target: &str, name: &str) -> Vec<u8> {
    fs::read(directory(target).join(name)).expect("read a seed")
}

fn try_all(target: &str, check: fn(&[u8])) {
    let mut tried = 0;
    for entry in fs::read_dir(directory(target)).expect("list the seeds") {
        let path = entry.expect("a seed").path();
        // Shown when the test fails: the last one is the culprit.
        println!("{}", path.display());
        check(&fs::read(&path).expect("read a seed"));
        tried += 1;
    }
    assert!(tried > 0, "no seeds for {target}");
}

#[test]
fn configurations() {
    try_all("config", drover_fuzz::config::check);
}

#[test]
fn api_bodies() {
    try_all("api", drover_fuzz::api::check);
}

#[test]
fn dns_messages() {
    try_all("dns", drover_fuzz::dns::check);
}

/// From a seed that is refused at its first word a fuzzer gets nowhere: the typical ones follow the formats.
#[test]
fn typical_seeds_are_understood() {
    let file = |name: &str| {
        let text = String::from_utf8(seed("config", name)).expect("a text");
        [SourceFile::new(name, text)]
    };
    for name in ["sample.yaml", "small.yaml"] {
        assert_eq!(load(&file(name)).err(), None, "{name}");
    }
    for name in ["drain.yaml", "failback.yaml", "failover.yaml"] {
        assert_eq!(load_runbooks(&file(name)).err(), None, "{name}");
    }
    body::<CommandRequest>("command");
    body::<FreezeRequest>("freeze");
    body::<RearmRequest>("rearm");
    for name in ["plan-drain", "plan-failback", "plan-failover", "plan-undrain"] {
        body::<PlanRequest>(name);
    }
    assert!(!body::<Report>("report").observations.is_empty());
}

fn body<T: DeserializeOwned>(name: &str) -> T {
    serde_json::from_slice(&seed("api", name)[1..]).unwrap_or_else(|e| panic!("{name}: {e}"))
}
