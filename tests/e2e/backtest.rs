//! `drover policy`: policies on a generated year of trouble, whose labels say what was true. No world runs here.

use crate::world::{Said, binary};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Four outages, one of each kind, and one at least of each disturbance.
const HISTORY: [&str; 4] = ["--seed", "3", "--days", "6"];
const PAGE: &str = include_str!("../../docs/backtest.md");

/// A directory with the shipped configuration of one service.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::Builder::new().prefix("backtest-").tempdir().unwrap());
        copy_regions(&place.path("regions"));
        let services = place.path("regions/services.yaml");
        let all = std::fs::read_to_string(&services).unwrap();
        let (first, _) = all.split_once("\n---\n").expect("one service and then another");
        std::fs::write(&services, first).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn drover(&self, words: &[&str]) -> Said {
        let output = command(self.0.path(), &binary()).args(words).stdin(Stdio::null()).output().unwrap();
        Said::of(output)
    }

    /// Writes the history of these words.
    fn history(&self, words: &[&str]) -> String {
        let said = self.drover(&[&["policy", "history"], words].concat());
        assert_eq!(said.code, 0, "{}", said.stderr);
        std::fs::write(self.path("history.csv"), &said.stdout).unwrap();
        said.stdout
    }

    /// Replays it under the policy of the directory, and what is set beside it.
    fn backtest(&self, words: &[&str]) -> Vec<Value> {
        let said = self.drover(&[&["policy", "backtest", "history.csv", "-o", "json"], words].concat());
        assert_eq!(said.code, 0, "{}", said.stderr);
        let report: Value = serde_json::from_str(&said.stdout).unwrap();
        report["policies"].as_array().unwrap().clone()
    }
}

fn copy_regions(to: &Path) {
    std::fs::create_dir(to).unwrap();
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../regions");
    for entry in std::fs::read_dir(shipped).unwrap() {
        let from = entry.unwrap().path();
        std::fs::copy(&from, to.join(from.file_name().unwrap())).unwrap();
    }
}

fn command(directory: &Path, program: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(directory).env("TZ", "UTC").env("COLUMNS", "100").env("NO_COLOR", "1");
    command.env_remove("DROVER_CONFIG").env_remove("DROVER_CONTEXT").env_remove("DROVER_COORDINATOR");
    command
}

fn total(policy: &Value, key: &str) -> u64 {
    policy["totals"][key].as_u64().unwrap_or_else(|| panic!("{key} in {}", policy["totals"]))
}

fn span(text: &Value) -> drover_model::Span {
    text.as_str().unwrap().parse().unwrap()
}

/// Those whose probes of `region` timed out in the ten minutes of the hour that `at` lies in.
fn vantages_that_lost<'h>(history: &'h str, at: &str, region: &str) -> BTreeSet<&'h str> {
    let near = history.lines().filter(|row| row[..15] == at[..15] && row.ends_with(",fine"));
    let fields = near.map(|row| row.split(',').collect::<Vec<&str>>());
    fields.filter(|f| f[3] == region && f[4] == "timed_out").map(|f| f[1]).collect()
}

#[test]
fn the_default_policy_moves_each_outage_and_is_wrong_where_a_quorum_is() {
    let place = Place::new();
    let history = place.history(&HISTORY);
    assert_eq!(
        place.drover(&[&["policy", "history"], &HISTORY[..]].concat()).stdout,
        history,
        "one seed, one file"
    );
    let [policy] = &place.backtest(&[])[..] else { panic!("one policy") };
    let totals = &policy["totals"];
    assert_eq!((total(policy, "outages"), total(policy, "outages_moved")), (4, 4), "{totals}");
    let failovers =
        ["failovers", "failovers_right", "failovers_wrong", "failovers_late"].map(|k| total(policy, k));
    // The false one is what two vantages are made to see that lose packets towards one region: a quorum of three.
    assert_eq!(failovers, [5, 4, 1, 0], "{totals}");
    assert_eq!(policy["rows"].as_u64().unwrap() as usize, history.lines().count() - 1);
    // Each true failover is of the endpoint that the labels call out, at a time when they do.
    let out: Vec<(&str, &str)> = history
        .lines()
        .filter(|row| row.ends_with(",outage"))
        .map(|row| {
            let fields: Vec<&str> = row.split(',').collect();
            (fields[0], fields[3])
        })
        .collect();
    for event in policy["events"].as_array().unwrap() {
        let (at, region) = (event["at"].as_str().unwrap(), event["region"].as_str().unwrap());
        assert!(event["back_at"].as_str().is_some_and(|back| back > at), "{event}");
        if event["rightness"] == "wrong" {
            assert!(vantages_that_lost(&history, at, region).len() >= 2, "{event}");
            continue;
        }
        let near = |(time, place): &&(&str, &str)| *place == region && time[..16] == at[..16];
        assert!(out.iter().any(|o| near(&o)), "{event}");
    }
    let longest = span(&policy["delays"]["longest"]);
    assert!(
        longest < drover_model::Span::from_mins(5),
        "three probes, or half of those in the window: {longest}"
    );
}

#[test]
fn a_hair_trigger_is_wrong_and_a_lax_policy_misses_or_is_late() {
    let place = Place::new();
    place.history(&HISTORY);
    let policies = place.backtest(&["--set", "failure_threshold=1", "--picture", "both.svg"]);
    let [first, hair_trigger] = &policies[..] else { panic!("two policies") };
    assert_eq!(hair_trigger["policy"], "regions with failure_threshold=1");
    assert_eq!(total(first, "failovers_wrong"), 1);
    assert!(total(hair_trigger, "failovers_wrong") > 4, "{}", hair_trigger["totals"]);
    let picture = std::fs::read_to_string(place.path("both.svg")).unwrap();
    for drawn in ["<svg", "FALSE failover", "checkout@eu-west", "regions with failure_threshold=1", "</svg>"]
    {
        assert!(picture.contains(drawn), "{drawn} in the picture");
    }

    // Neither a share of failures nor a short streak is enough for these.
    let beside_default = |threshold: &str| {
        let threshold = format!("failure_threshold={threshold}");
        let lax = [&threshold, "failure_window=4h", "gray_min_samples=400", "gray_failure_share=100%"];
        let words: Vec<&str> = lax.into_iter().flat_map(|value| ["--set", value]).collect();
        let mut policies = place.backtest(&words);
        (policies.remove(0), policies.remove(0))
    };
    let (first, late) = beside_default("20");
    assert_eq!(total(&late, "failovers_wrong"), 0, "{}", late["totals"]);
    assert!(span(&late["delays"]["median"]) > span(&first["delays"]["longest"]), "{}", late["delays"]);
    assert!(span(&late["totals"]["exposed_time"]) > span(&first["totals"]["exposed_time"]));
    let (_, lax) = beside_default("100");
    assert!(total(&lax, "outages_missed") > 0, "{}", lax["totals"]);
}

#[test]
fn what_is_wrong_with_a_history_is_told_with_its_place() {
    let place = Place::new();
    let history = place.history(&["--days", "1"]);
    let lines: Vec<&str> = history.lines().take(4).collect();
    let refused = |text: String, expected: &str| {
        std::fs::write(place.path("bad.csv"), text).unwrap();
        let said = place.drover(&["policy", "backtest", "bad.csv"]);
        assert_eq!(said.code, 2, "{}", said.stderr);
        assert!(said.stderr.contains(expected), "{expected} in\n{}", said.stderr);
        let goes_on = ["drover policy history", "drover log --observations", "--config DIR"];
        assert!(goes_on.iter().any(|next| said.stderr.contains(next)), "{}", said.stderr);
    };
    refused(lines.join("\n").replace(",good,", ",god,"), "bad.csv:2:");
    refused([lines[0], lines[3], lines[1]].join("\n"), "bad.csv:3:1");
    refused(format!("{}\n{},x\n", lines[0], lines[1]), "bad.csv:2");
    refused(lines.join("\n").replace("label", "lable"), "did you mean `label`?");
    refused(lines[0].to_owned(), "there is no probe in the history");
    refused(lines.join("\n").replace("checkout", "paint"), "none of the 3 rows");
    refused("{\"items\": 7}".to_owned(), "bad.csv:1:");
    let absent = place.drover(&["policy", "backtest", "absent.csv"]);
    assert_eq!(absent.code, 2);
    assert!(absent.stderr.contains("can't read absent.csv"), "{}", absent.stderr);
    let nonsense = place.drover(&["policy", "backtest", "history.csv", "--set", "failure_threshold=30"]);
    assert_eq!(nonsense.code, 2, "ten probes fit into the window");
    assert!(nonsense.stderr.contains("failure_window"), "{}", nonsense.stderr);
    let unwritable = place.drover(&["policy", "backtest", "history.csv", "--picture", "absent/p.svg"]);
    assert_eq!(unwritable.code, 4);
    assert!(unwritable.stderr.contains("--picture FILE.svg"), "{}", unwritable.stderr);
}

#[test]
fn a_pipe_will_do_and_a_second_directory_may_stand_beside_the_first() {
    let place = Place::new();
    copy_regions(&place.path("regions.new"));
    let drover = binary().display().to_string();
    let line = format!(
        "{drover} policy history --days 1 | {drover} policy backtest - --against regions.new -o yaml > out.yaml"
    );
    let piped = command(place.0.path(), Path::new("sh")).args(["-c", &line]).output().unwrap();
    assert!(piped.status.success(), "{}", String::from_utf8_lossy(&piped.stderr));
    let told = std::fs::read_to_string(place.path("out.yaml")).unwrap();
    assert!(told.starts_with("schema: 1\n"), "{told}");
    assert!(told.contains("policy: regions\n") && told.contains("policy: regions.new\n"), "{told}");
    let history = place.drover(&["policy", "history", "--days", "1", "-o", "json"]);
    assert_eq!((history.code, history.stdout.as_str()), (2, ""), "a history is CSV: {}", history.stderr);
}

/// Runs the commands of the page's first example, and compares what they say with what it says.
#[test]
fn the_example_of_the_page_is_true() {
    let block =
        PAGE.split("```console\n").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
    let place = tempfile::Builder::new().prefix("backtest-page-").tempdir().unwrap();
    copy_regions(&place.path().join("regions"));
    let (mut said, mut told) = (String::new(), String::new());
    for line in block.lines() {
        let Some(shell) = line.strip_prefix("$ ") else {
            told.push_str(&format!("{line}\n"));
            continue;
        };
        let words = shell.replace("drover", &binary().display().to_string());
        let output = command(place.path(), Path::new("sh")).args(["-c", &words]).output().unwrap();
        assert!(output.status.success(), "{shell}: {}", String::from_utf8_lossy(&output.stderr));
        said.push_str(&String::from_utf8(output.stdout).unwrap());
    }
    assert!(place.path().join("week.svg").is_file(), "the example draws");
    let shown: String = said.lines().take(told.lines().count()).map(|l| format!("{l}\n")).collect();
    assert_eq!(shown, told, "docs/backtest.md says otherwise");
}
