//! Versions side by side and one after the other: what an earlier drover wrote is led by this one, and what a later one wrote is
//! read, left alone or refused, by the rule of decision 0039.

use crate::cluster::Cluster;
use crate::world::{GUARD, Said, binary, surroundings};
use drover_model::api::StatusView;
use drover_model::journal::RunState;
use drover_store::{ExportHeader, Exporter, Importer};
use serde_json::{Value, json};
use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// As `drover store export` of the version before stores had levels wrote it, after a drain and under a freeze.
const EARLIER: &[u8] = include_bytes!("../fixtures/store-before-levels.jsonl");
/// The configuration that it was led by.
const EARLIER_CONFIG: &str = include_str!("../fixtures/store-before-levels.world.yaml");

/// A coordinator on its own. It ends with this value.
struct Alone<'d> {
    directory: &'d Path,
    child: Child,
}

impl<'d> Alone<'d> {
    fn start(directory: &'d Path) -> Self {
        let _ = std::fs::remove_file(directory.join("ready"));
        let mut command = coordinator(directory);
        Self { directory, child: command.spawn().unwrap() }
    }

    /// At its socket, where no token is asked for.
    fn drover(&self, words: &[&str]) -> Said {
        let socket = format!("unix:{}", self.directory.join("drover.sock").display());
        drover(self.directory, &[&["--coordinator", &socket][..], words].concat())
    }

    fn status(&mut self) -> StatusView {
        let began = Instant::now();
        loop {
            let said = self.drover(&["status", "-o", "json"]);
            if said.code == 0 {
                return said.json();
            }
            let ended = self.child.try_wait().unwrap();
            let log = || std::fs::read_to_string(self.directory.join("log")).unwrap();
            assert!(ended.is_none() && began.elapsed() < GUARD, "{ended:?}: {}\n{}", said.stderr, log());
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn coordinator(directory: &Path) -> Command {
    let at = |name: &str| directory.join(name);
    let log = File::create(at("log")).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(binary()).args([
        "coordinator",
        "--listen",
        "127.0.0.1:0",
    ]);
    command
        .arg("--config")
        .arg(at("config"))
        .arg("--state")
        .arg(at("state"))
        .arg("--socket")
        .arg(at("drover.sock"));
    surroundings(&mut command, directory);
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    command
}

fn drover(directory: &Path, words: &[&str]) -> Said {
    let mut command = Command::new(binary());
    surroundings(&mut command, directory);
    Said::of(command.args(words).stdin(Stdio::null()).output().unwrap())
}

/// A directory with the earlier configuration.
fn prepared() -> tempfile::TempDir {
    let directory = tempfile::Builder::new().prefix("e2e-").tempdir().unwrap();
    std::fs::create_dir(directory.path().join("config")).unwrap();
    std::fs::write(directory.path().join("config/world.yaml"), EARLIER_CONFIG).unwrap();
    directory
}

fn imported(directory: &Path, export: &[u8]) -> Said {
    let file = directory.join("export.jsonl");
    std::fs::write(&file, export).unwrap();
    drover(directory, &["store", "import", "--state", "state", &file.display().to_string()])
}

/// The same records, changed one by one.
fn rewritten(change: impl Fn(&str, Value) -> Value, further: &[(&str, Value)]) -> Vec<u8> {
    let mut importer = Importer::begin(EARLIER).unwrap();
    let mut records: Vec<(String, Vec<u8>)> =
        further.iter().map(|(k, v)| ((*k).to_owned(), v.to_string().into_bytes())).collect();
    while let Some((key, value)) = importer.next_record().unwrap() {
        let value = match serde_json::from_slice(&value) {
            Ok(read) => change(&key, read).to_string().into_bytes(),
            Err(_) => value,
        };
        records.push((key, value));
    }
    records.sort();
    let header = ExportHeader { source: "of the next minor version".into(), ..importer.header().clone() };
    let mut exporter = Exporter::begin(Vec::new(), &header).unwrap();
    records.iter().for_each(|(key, value)| exporter.record(key, value).unwrap());
    exporter.end().unwrap().0
}

/// Whether all is known that the earlier version knew.
fn knows_all(view: &StatusView) {
    assert!(
        view.freeze.as_ref().is_some_and(|f| f.reason == "kept for later versions") || view.freeze.is_none(),
        "{:?}",
        view.freeze
    );
    assert_eq!(view.holds.len(), 1, "{:?}", view.holds);
    assert_eq!((view.holds[0].region.as_str(), view.holds[0].reason.as_str()), ("us-east", "kernel update"));
    assert!(
        view.runs.iter().any(|run| run.state == RunState::Succeeded && run.id.as_str() == "run-1"),
        "{:?}",
        view.runs
    );
    for service in &view.services {
        let left = service.endpoints.iter().find(|e| e.region.as_str() == "us-east").unwrap();
        assert_eq!(left.weight.0, 0, "what was drained stays drained");
    }
    assert_eq!(view.coordinator.unreadable_records, []);
}

#[test]
fn what_an_earlier_version_wrote_is_led_by_this_one() {
    let directory = prepared();
    let directory = directory.path();
    imported(directory, EARLIER).expect_code(0);
    let mut c = Alone::start(directory);
    knows_all(&c.status());
    c.drover(&["audit", "verify"]).expect_code(0);
    c.drover(&["explain", "decision-1"]).expect_code(0);
    let run: Value = c.drover(&["run", "show", "run-1", "-o", "json"]).expect_code(0).json();
    assert_eq!(run["steps"].as_array().unwrap().len(), 7, "{run}");
    let tokens = c.drover(&["token", "list"]).expect_code(0).stdout;
    assert!(tokens.contains("ann"), "{tokens}");
    c.drover(&["freeze", "--for", "2h", "--reason", "it commands"]).expect_code(0);
    drop(c);
    // And is still a store that can be carried on, by the earlier version too: nothing above its level was written.
    let export =
        drover(directory, &["store", "export", "--state", "state", "--to", "again.jsonl"]).expect_code(0);
    let again = std::fs::read(directory.join("again.jsonl")).unwrap();
    let mut importer = Importer::begin(&again[..]).unwrap_or_else(|e| panic!("{e}: {export:?}"));
    while let Some((key, _)) = importer.next_record().unwrap() {
        assert_ne!(key, "level", "no version writes at a level above 1 yet");
    }
}

#[test]
fn what_a_later_version_adds_within_a_level_is_passed_over() {
    let directory = prepared();
    let directory = directory.path();
    // Worlds are compared by their own form, and the audit's records by their hash.
    let exact = |key: &str| key.starts_with("worlds/") || key.starts_with("audit");
    let hinted = |key: &str, mut value: Value| {
        if let (Some(fields), false) = (value.as_object_mut(), exact(key)) {
            fields.insert(
                "of_the_next_minor".into(),
                json!({"hint": [1, {"deep": null}], "kind": "unheard_of"}),
            );
        }
        value
    };
    let further = [("rotas/ops", json!({"kind": "rota"})), ("zz", json!([1]))];
    imported(directory, &rewritten(hinted, &further)).expect_code(0);
    let check = drover(directory, &["store", "check", "--state", "state", "-o", "json"]).expect_code(0);
    assert_eq!(
        (check.json::<Value>()["unknown"].clone(), check.json::<Value>()["sound"].clone()),
        (json!(2), json!(true))
    );
    let mut c = Alone::start(directory);
    knows_all(&c.status());
    c.drover(&["audit", "verify"]).expect_code(0);
    c.drover(&["rearm", "--reason", "it commands"]).expect_code(0);
    drop(c);
    drover(directory, &["store", "export", "--state", "state", "--to", "again.jsonl"]).expect_code(0);
    let again = std::fs::read_to_string(directory.join("again.jsonl")).unwrap();
    assert!(
        again.contains("{\"key\":\"rotas/ops\",\"json\":{\"kind\":\"rota\"}}"),
        "what it does not keep it does not touch"
    );
}

#[test]
fn a_store_of_a_higher_level_or_another_format_is_refused_by_name_before_anything_is_written() {
    let directory = prepared();
    let directory = directory.path();
    let level = [("level", json!({"level": 2, "needs": "0.3.0", "since": "whenever"}))];
    let refused = imported(directory, &rewritten(|_, value| value, &level)).expect_code(3);
    for part in ["level 2", "drover 0.3.0", "level 1"] {
        assert!(refused.stderr.contains(part), "{}", refused.stderr);
    }
    let other = String::from_utf8(EARLIER.to_vec()).unwrap().replacen(
        "\"drover_store_export\":1",
        "\"drover_store_export\":2",
        1,
    );
    let refused = imported(directory, other.as_bytes()).expect_code(4);
    assert!(refused.stderr.contains("format 1"), "{}", refused.stderr);

    // In etcd, where a later version has raised it while this one was away.
    let cluster = Cluster::start(1, &[]);
    let endpoints = cluster.endpoints().join(",");
    let file = directory.join("earlier.jsonl");
    std::fs::write(&file, EARLIER).unwrap();
    drover(directory, &["store", "import", "--etcd", &endpoints, &file.display().to_string()]).expect_code(0);
    let put = |key: &str, value: &str| assert!(cluster.ctl(0, &["put", "--", key, value]).status.success());
    let settings = format!("store: {{etcd: {{endpoints: [\"{endpoints}\"]}}}}\n");
    let config = EARLIER_CONFIG.replacen("kind: Settings\n", &format!("kind: Settings\n{settings}"), 1);
    assert_ne!(config, EARLIER_CONFIG);
    std::fs::write(directory.join("config/world.yaml"), config).unwrap();
    let says = |part: &str| {
        let ended = coordinator(directory).status().unwrap();
        let log = std::fs::read_to_string(directory.join("log")).unwrap();
        assert!(!ended.success() && log.contains(part), "{part} is not in {log}");
    };
    put("/drover/records/level", "{\"level\":2,\"needs\":\"0.3.0\"}");
    says("level 2");
    put("/drover/records/level", "{\"level\":");
    says("record level");
    assert!(cluster.ctl(0, &["del", "/drover/records/level"]).status.success());
    let own = cluster.ctl(0, &["get", "--print-value-only", "/drover/store"]).stdout;
    let own = String::from_utf8(own).unwrap();
    put("/drover/store", own.trim().replacen("\"format\":1", "\"format\":2", 1).as_str());
    says("\"format\":2");
    put("/drover/store", own.trim());
}
