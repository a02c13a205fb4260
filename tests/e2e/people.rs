//! The audit that tells who did what.

use crate::world::{Said, World};
use nix::sys::signal::{Signal, kill};
use serde_json::Value;

fn broken(said: &Said) -> Value {
    let found: Value = said.json();
    assert_eq!(found["holds"], false, "{found}");
    found["broken"].clone()
}

#[test]
fn the_audit_is_whole_and_one_record_changed_or_cut_off_in_an_export_is_found() {
    let w = World::up();
    for reason in ["first", "second", "third"] {
        w.drover(&["freeze", "--for", "1h", "--reason", reason]).expect_code(0);
    }
    let head = w.drover(&["audit", "head"]).expect_code(0).stdout.trim().to_owned();
    let found: Value = w.drover(&["audit", "verify", "--head", &head, "-o", "json"]).expect_code(0).json();
    assert_eq!(
        (&found["holds"], &found["begins"], &found["unchained"]),
        (&true.into(), &1.into(), &0.into())
    );
    let other = format!("{}@1", head.split('@').next().unwrap());
    let wrong = w.drover(&["audit", "verify", "--head", &other, "-o", "json"]).expect_code(9);
    assert_eq!(broken(&wrong)["code"], "other_head");

    let state = w.coordinator().option("--state").unwrap().to_owned();
    kill(w.keeper(), Signal::SIGSTOP).unwrap();
    w.coordinator().signal(Signal::SIGKILL);
    w.wait_for("nobody has the store any more", |w| {
        (w.drover(&["store", "export", "--state", &state, "--to", "all.jsonl"]).code == 0).then_some(())
    });
    kill(w.keeper(), Signal::SIGCONT).unwrap();

    let verify = |file: &str| w.drover(&["audit", "verify", "--head", &head, "--export", file, "-o", "json"]);
    verify("all.jsonl").expect_code(0);
    let text = std::fs::read_to_string(w.path("all.jsonl")).unwrap();
    let is_second = |line: &str| line.starts_with("{\"key\":\"audit/") && line.contains("\"second\"");
    let line = text.lines().find(|line| is_second(line)).unwrap();
    let number: u64 = line["{\"key\":\"audit/".len()..].split('"').next().unwrap().parse().unwrap();
    std::fs::write(w.path("changed.jsonl"), text.replace(line, &line.replace("second", "secret"))).unwrap();
    let found = broken(&verify("changed.jsonl").expect_code(9));
    assert_eq!((&found["number"], &found["code"]), (&number.into(), &"altered".into()), "{found}");

    let mut records = text.lines().filter(|line| line.starts_with("{\"key\":\"audit/"));
    let last = format!("{}\n", records.next_back().unwrap());
    std::fs::write(w.path("cut.jsonl"), text.replace(&last, "")).unwrap();
    // The file's own end tells of that, as long as whoever cut it leaves the end alone.
    let cut = verify("cut.jsonl").expect_code(4);
    assert!(cut.stderr.contains("damaged or changed"), "{}", cut.stderr);
}
