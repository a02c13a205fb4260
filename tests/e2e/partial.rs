//! A DNS server that is gone while traffic moves: everybody is told which one, and when it has caught up.

use crate::world::{World, binary, is_well, surroundings};
use drover_model::api::{RunView, StatusView};
use drover_model::journal::RunState;
use nix::sys::signal::Signal;
use serde_json::Value;
use std::process::{Child, Command, Stdio};

/// A server that the test started again, and ends.
struct Again(Child);

impl Drop for Again {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start_again(w: &World) -> Again {
    let files = w.files();
    let mut command = Command::new(binary());
    surroundings(&mut command, &files);
    command.arg("dns").arg("--config").arg(files.join("dns-2.yaml")).arg("--state").arg(files.join("dns-2"));
    // It dies with this process, whatever becomes of the test.
    command.arg("--die-with-parent").stdout(Stdio::null()).stderr(Stdio::null());
    Again(command.spawn().unwrap())
}

fn missed(status: &StatusView) -> Vec<(&str, u64)> {
    status.dns.iter().map(|d| (d.instance.as_str(), d.published_partial)).collect()
}

fn records(w: &World) -> Vec<Vec<String>> {
    let zone: Value = w.drover(&["dns", "show", "-o", "json"]).json();
    let records = zone["records"].as_array().unwrap().iter();
    records.map(|r| serde_json::from_value(r["published_partial"].clone()).unwrap()).collect()
}

fn history(w: &World) -> Vec<(Value, Value)> {
    let history: Value = w.drover(&["dns", "history", "-o", "json"]).json();
    let items = history["items"].as_array().unwrap().iter();
    items.map(|i| (i["published_partial"].clone(), i["caught_up"].clone())).collect()
}

#[test]
fn a_move_that_a_server_missed_is_partial_until_that_server_has_caught_up() {
    let w = World::up();
    assert_eq!(missed(&w.until("all is well", is_well)), [("dns-1", 0), ("dns-2", 0)]);
    w.dns("dns-2").signal(Signal::SIGKILL);
    let plan = w.plan(&["drain", "us-east", "--for", "1h", "--reason", "kernel update"]);
    let said = w.drover(&["apply", &plan, "--reason", "as agreed", "--yes", "-o", "json"]).expect_code(0);
    let run: RunView = said.json();
    assert_eq!(run.summary.state, RunState::Succeeded, "one server is enough to move");
    let partial: Vec<_> = run.steps.iter().filter(|s| !s.published_partial.is_empty()).collect();
    assert!(partial.len() >= 2, "what publishes and what verifies: {:?}", run.steps);
    assert!(partial.iter().all(|s| s.published_partial == ["dns-2"]), "{partial:?}");
    let shown = w.drover(&["run", "show", run.summary.id.as_str()]).expect_code(0).stdout;
    assert!(shown.contains("published_partial") && shown.contains("dns-2 not reached"), "{shown}");

    let status = w.until("what it missed is shown", |s| s.dns.iter().any(|d| d.published_partial == 2));
    assert_eq!(missed(&status), [("dns-1", 0), ("dns-2", 2)]);
    let shown = w.drover(&["status", "--all"]).stdout;
    assert!(shown.contains("published_partial: missed 2"), "{shown}");
    assert_eq!(records(&w), [["dns-2"], ["dns-2"]]);
    assert!(w.drover(&["dns", "show"]).stdout.contains("published_partial"));
    let told = history(&w);
    assert_eq!(
        told[..2],
        [(["dns-2"].into(), Value::Array(vec![])), (["dns-2"].into(), Value::Array(vec![]))]
    );

    let _again = start_again(&w);
    let status = w.until("it caught up", |s| {
        missed(s).iter().all(|(_, missed)| *missed == 0) && s.dns.iter().all(|d| d.reachable)
    });
    assert!(status.dns.iter().all(|d| d.behind.is_empty()), "{:?}", status.dns);
    assert_eq!(records(&w), [[""; 0], [""; 0]]);
    let told = w.wait_for("the history says so", |w| {
        Some(history(w)).filter(|h| h[0].1 == Value::from(vec!["dns-2"]))
    });
    assert_eq!(told[0].0, Value::Array(vec![]));
    assert!(w.drover(&["dns", "history"]).stdout.contains("caught up"));
    w.drover(&["dns", "verify", "--draws", "50"]).expect_code(0);
}
